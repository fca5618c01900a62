"""Logistic fits of calibration, by scipy's general optimisers on an explicit likelihood.

L(b1, d) = sum k [w ln p + (1 - w) ln(1 - p)], p = 1/(1 + exp(-(b1 v + d)/2)), v = 1/(s + b2) - 1/(1 + b2):
fitted over all (b1, d), over b1 >= 0, d >= 0.01, and with b1 = 0.
Run: python -I calibration.py > calibration.json
"""

import json

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

LEAST = 0.01


def case(name, seed, count, beta2, beta1, end, shares=False, counts=False):
    rng = np.random.default_rng(seed)
    s = np.round(rng.uniform(0.02, 1.0, count), 3)
    v = 1 / (s + beta2) - 1 / (1 + beta2)
    p = expit((beta1 * v + end) / 2)
    w = np.round(np.clip(p + rng.normal(0, 0.1, count), 0, 1), 2) if shares else (rng.random(count) < p) * 1.0
    k = rng.integers(0, 4, count) * 1.0 if counts else np.ones(count)

    def loss(x, scale):
        z = (x[0] / scale * v + x[1]) / 2
        value = -np.sum(k * (w * log_expit(z) + (1 - w) * log_expit(-z)))
        off = k * (expit(z) - w) / 2
        return value, np.array([np.sum(off * v) / scale, np.sum(off)])

    scale = float(np.sqrt(np.mean(v**2)))
    options = dict(jac=True, args=(scale,), tol=1e-14)
    free = minimize(loss, [0.0, 1.0], method="BFGS", **options)
    bounded = min(
        (
            minimize(loss, start, method="L-BFGS-B", bounds=[(0, None), (LEAST, None)], options={"maxiter": 10000}, **options)
            for start in ([0.1, 1.0], [1.0, LEAST], [0.0, 2.0])
        ),
        key=lambda found: found.fun,
    )
    mean = float(np.sum(k * w) / np.sum(k))
    return {
        "name": name,
        "beta2": beta2,
        "s": s.tolist(),
        "wins": w.tolist(),
        "counts": k.tolist(),
        "free": [free.x[0] / scale, free.x[1]],
        "bounded": [bounded.x[0] / scale, bounded.x[1]],
        "likelihoods": [-free.fun, -bounded.fun],
        "constant": 2 * float(logit(mean)),
        "mean": mean,
    }


cases = [
    case("informative", 1, 120, 0.1, 0.8, 0.5),
    case("reversed", 2, 120, 0.1, -0.5, 4.0),
    case("end below the least", 3, 120, 0.1, 0.7, -1.5),
    case("both below", 5, 120, 0.5, -1.0, -0.2),
    case("the paper's beta2", 6, 120, 0.001, 0.3, 0.3),
    case("shares, counted", 4, 120, 0.2, 1.0, 1.0, shares=True, counts=True),
]
print(json.dumps(cases))
