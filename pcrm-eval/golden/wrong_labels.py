"""Writes wrong_labels.json: the share of wrong labels and the temperature that scipy finds in margins.

  python pcrm-eval/golden/wrong_labels.py      (numpy, scipy)
"""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit


def loss(margins, share, log_temperature):
    return -np.mean(np.log(share + (1 - 2 * share) * expit(margins / np.exp(log_temperature))))


def fit(margins, shares, bounds):
    starts = [(share, around) for share in shares for around in np.log(np.abs(margins).mean()) + np.arange(-4, 5)]
    found = [
        minimize(lambda at: loss(margins, *at), start, bounds=[bounds, (-20, 20)], method="L-BFGS-B",
                 options=dict(ftol=1e-15, gtol=1e-12, maxiter=10000))
        for start in starts
    ]
    best = min(found, key=lambda result: result.fun)
    polished = minimize(lambda at: loss(margins, *at), best.x, bounds=[bounds, (-20, 20)], method="Nelder-Mead",
                        options=dict(xatol=1e-10, fatol=1e-16, maxiter=10000))
    return min(best, polished, key=lambda result: result.fun)


draw = np.random.default_rng(0)
cases = []
for name, count, share, temperature in [
    ("flipped 0.2", 400, 0.2, 1.0),
    ("flipped 0.1, too sure", 400, 0.1, 3.0),
    ("not flipped, too sure", 300, 0.0, 4.0),
    ("not flipped, too modest", 200, 0.0, 0.25),
]:
    true = draw.normal(0, 3, count)
    better = draw.random(count) < expit(true)
    better ^= draw.random(count) < share
    margins = np.round(np.where(better, true, -true) * temperature, 4)
    best, without = fit(margins, [0.0, 0.1, 0.3], (0.0, 0.49)), fit(margins, [0.0], (0.0, 0.0))
    ratio = max(0.0, 2 * count * (without.fun - best.fun))
    cases.append(dict(name=name, margins=margins.tolist(), share=best.x[0], temperature=float(np.exp(best.x[1])),
                      log_loss=best.fun, likelihood_ratio=ratio))
    print(name, best.x[0], np.exp(best.x[1]), best.fun, ratio)
Path(__file__).with_suffix(".json").write_text(json.dumps(cases) + "\n")
