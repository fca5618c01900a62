"""Expected numbers for the learned constraint, from scipy. Run: python -P learned.py > learned.json
(-P, because random.py in this folder would replace Python's module)

`losses` are -ln L of wins under P = sigmoid(softplus(f)). `fits` minimise the penalised loss of f, linear in
standardised features with weights of the required signs, from many starts by L-BFGS-B; the best is kept.
"""

import json

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

rng = np.random.default_rng(20240400978)


def softplus(f):
    return np.logaddexp(0, f)


def loss(f, win):
    half = softplus(f)
    return -(win * log_expit(half) + (1 - win) * log_expit(-half))


def fit(z, wins, penalty, signs):
    count = len(wins) + 1

    def objective(theta):
        f = theta[0] + z @ theta[1:]
        return (loss(f, wins).sum() + loss(theta[0], 0.5)) / count + penalty / 2 * (theta[1:] ** 2).sum()

    ends = {0: (None, None), 1: (0, None), -1: (None, 0)}
    bounds = [(-15, None)] + [ends[sign] for sign in signs]
    lower, upper = ([np.inf * sign if end is None else end for end in column] for sign, column in zip((-1, 1), zip(*bounds)))
    starts = [np.clip(np.r_[at, rng.normal(size=z.shape[1])], lower, upper) for at in np.linspace(-4, 4, 9)]
    options = {"ftol": 1e-16, "gtol": 1e-10, "maxiter": 5000}
    found = [minimize(objective, start, method="L-BFGS-B", bounds=bounds, options=options) for start in starts]
    best = min(found, key=lambda result: result.fun)
    return {"penalty": penalty, "signs": signs, "value": best.fun, "parameters": best.x.tolist()}


x = np.round(np.c_[rng.uniform(size=90), rng.normal(2, 3, 90), rng.exponential(0.4, 90)], 3)
truth = expit(softplus(-0.4 - 2.5 * (x[:, 0] - 0.5) + 0.3 * (x[:, 1] - 2)))
wins = rng.binomial(4, truth) / 4
z = (x - x.mean(0)) / x.std(0)

f = [-40.0, -3.0, -0.5, 0.0, 0.7, 4.0, 30.0]
print(json.dumps({
    "f": f,
    "p": expit(softplus(np.array(f))).tolist(),
    "losses": {str(win): loss(np.array(f), win).tolist() for win in (0.0, 0.3, 1.0)},
    "columns": x.T.tolist(),
    "wins": wins.tolist(),
    "fits": [
        fit(z, wins, penalty, signs)
        for penalty in (1e-4, 0.03, 1.0)
        for signs in ((0, 0, 0), (-1, 1, 0), (1, -1, -1), (-1, 1, -1))
    ],
}))
