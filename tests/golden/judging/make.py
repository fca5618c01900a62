"""Expected numbers of pairwise judging: win rates and length-controlled ones from alpaca_eval's own code,
logistic fits from scikit-learn, a Bradley-Terry league and kappa from statsmodels, temperatures from scipy.

    pip install alpaca_eval==0.6.6 --no-deps && pip install scikit-learn statsmodels patsy pandas scipy
    python make.py          # writes expected.json beside this file

alpaca_eval's package imports clients of paid services, so only its two modules of metrics are loaded
(ALPACA_EVAL names the folder of the unpacked wheel; the default is the installed package)."""

import importlib.util
import json
import os
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from sklearn.model_selection import GroupKFold
from statsmodels.stats.inter_rater import cohens_kappa

warnings.filterwarnings("ignore")


def alpaca_eval():
    """alpaca_eval's metrics/glm_winrate.py and metrics/helpers.py, without the rest of the package."""
    named = os.environ.get("ALPACA_EVAL")
    root = Path(named) if named else Path(importlib.util.find_spec("alpaca_eval").submodule_search_locations[0])
    package, utils = types.ModuleType("alpaca_eval"), types.ModuleType("alpaca_eval.utils")
    package.__path__ = [str(root)]
    utils.convert_to_dataframe = lambda data: pd.DataFrame(data)
    utils.validate_alpacaeval_preference = lambda x, is_allow_nan=True: 1 <= x <= 2
    package.utils, package.constants, package.types = utils, types.ModuleType("constants"), types.ModuleType("types")
    package.types.AnyLoadableDF = object
    hub = types.ModuleType("huggingface_hub")
    hub.hf_hub_download = None
    metrics = types.ModuleType("alpaca_eval.metrics")
    metrics.__path__ = [str(root / "metrics")]
    sys.modules.update({"alpaca_eval": package, "alpaca_eval.utils": utils, "alpaca_eval.metrics": metrics,
                        "alpaca_eval.constants": package.constants, "alpaca_eval.types": package.types,
                        "huggingface_hub": hub})
    load = importlib.import_module
    return load("alpaca_eval.metrics.glm_winrate"), load("alpaca_eval.metrics.winrate")


def length_case(glm, winrate, seed, count, theta, phi, soft):
    """Matches of a judge that prefers length; `a` is alpaca_eval's model (output_2)."""
    rng = np.random.default_rng(seed)
    length_b = rng.integers(50, 1500, count)
    length_a = np.maximum(1, (length_b * rng.lognormal(0.15, 0.6, count)).astype(int))
    delta = (length_b - length_a).astype(float)
    p = 1 / (1 + np.exp(-(theta - phi * np.tanh(delta / delta.std(ddof=1)))))
    if soft:
        forward, backward = np.round(np.clip(p + rng.normal(0, 0.2, (2, count)), 0, 1), 4)
    else:
        forward, backward = (rng.random((2, count)) < p).astype(float)
    value = (forward + backward) / 2
    frame = pd.DataFrame({"preference": value + 1, "index": np.arange(count),
                          "std_delta_len": delta / delta.std(ddof=1)})
    info = glm.GLM_INFO["length_controlled_minimal"]
    train = frame.copy()
    train["preference"] = train["preference"].astype(float).replace({0.0: 1.5}) - 1
    train["not_gamed_baseline"] = True
    test = train[["not_gamed_baseline"]].copy()
    test["std_delta_len"] = 0
    xy, x_test = glm.make_dmatrix_for_model(train, test, formula=info["formula"])
    model = glm.fit_LogisticRegressionCV(xy, "preference", is_ytrue_proba=True, **info["kwargs"])
    predicted = model.predict_proba(x_test)[:, 1]
    metrics = winrate.get_winrate(frame[["preference"]])
    # The folds of alpaca_eval's split: each row appears twice.
    groups = np.concatenate([np.arange(count), np.arange(count)])
    folds = np.zeros(count, int)
    for number, (_, held) in enumerate(GroupKFold(n_splits=5).split(groups, groups=groups)):
        folds[groups[held]] = number
    tanh = -np.tanh(delta / delta.std(ddof=1))
    x = np.column_stack([np.ones(count), tanh])
    fits = []
    for c in (0.02, 1.0, 166.81005372000593):
        exact = LogisticRegression(C=c, penalty="l1", solver="saga", tol=1e-10, max_iter=1_000_000, fit_intercept=False)
        exact.fit(np.concatenate([x, x]), np.repeat([1, 0], count), sample_weight=np.concatenate([value, 1 - value]))
        fits.append({"c": c, "weights": exact.coef_[0].tolist()})
    return {
        "matches": [[i, 0, 1, forward[i], backward[i], int(length_a[i]), int(length_b[i])] for i in range(count)],
        "win_rate": metrics["win_rate"] / 100,
        "wins_ties_losses": [int(metrics["n_wins"]), int(metrics["n_draws"]), int(metrics["n_wins_base"])],
        "length_controlled": float(predicted.mean()),
        "penalty": float(np.ravel(model.C_)[0]),
        "folds": folds.tolist(),
        "fits": fits,
    }


def league(seed):
    rng = np.random.default_rng(seed)
    ratings = np.array([0.6, 0.1, -0.2, -0.5])
    rows = []
    for prompt in range(60):
        for a in range(4):
            for b in range(a + 1, 4):
                p = 1 / (1 + np.exp(ratings[b] - ratings[a]))
                rows.append([prompt, a, b, float(rng.random() < p), float(rng.random() < p), 1, 1])
    y = np.array([(row[3] + row[4]) / 2 for row in rows])
    x = np.zeros((len(rows), 4))
    for at, row in enumerate(rows):
        x[at, row[1]], x[at, row[2]] = 1, -1
    # The last rating is minus the sum of the others: mean 0.
    design = x[:, :3] - x[:, 3:]
    fit = sm.GLM(y, design, family=sm.families.Binomial()).fit(tol=1e-14, maxiter=200)
    robust = sm.GLM(y, design, family=sm.families.Binomial()).fit(cov_type="HC0", tol=1e-14, maxiter=200)
    covariance = robust.cov_params()
    last = -np.ones(3)
    errors = [np.sqrt(covariance[i, i]) for i in range(3)] + [np.sqrt(last @ covariance @ last)]
    return {"matches": rows, "ratings": [*fit.params, -fit.params.sum()],
            "widths": [2 * 1.959964 * error for error in errors]}


def kappa_case(seed, count, same):
    rng = np.random.default_rng(seed)
    first = rng.choice(3, count, p=[0.5, 0.15, 0.35])
    second = np.where(rng.random(count) < same, first, rng.choice(3, count, p=[0.4, 0.2, 0.4]))
    table = np.array([[int(((first == i) & (second == j)).sum()) for j in range(3)] for i in range(3)])
    found = cohens_kappa(table)
    assert abs(found.kappa - cohen_kappa_score(first, second)) < 1e-12
    return {"first": first.tolist(), "second": second.tolist(), "kappa": found.kappa,
            "agreement": float((first == second).mean()), "low": found.kappa_low, "high": found.kappa_upp}


def temperature_case(seed, count, scale, folds):
    rng = np.random.default_rng(seed)
    truth = rng.normal(0.6, 1.2, count)
    margins = np.round(scale * np.where(rng.random(count) < 1 / (1 + np.exp(-truth)), truth, -truth), 6)
    loss = lambda beta, m: np.logaddexp(0, -beta * m).mean()
    best = lambda m: minimize_scalar(loss, bounds=(1e-6, 1e3), args=(m,), method="bounded",
                                     options={"xatol": 1e-13, "maxiter": 10000}).x
    fold = rng.integers(0, folds, count)
    scaled = np.zeros(count)
    temperatures = []
    for number in range(folds):
        beta = best(margins[fold != number])
        temperatures.append(1 / beta)
        scaled[fold == number] = margins[fold == number] * beta
    p = 1 / (1 + np.exp(-scaled))
    return {"margins": margins.tolist(), "folds": fold.tolist(), "temperature": 1 / best(margins),
            "temperatures": temperatures, "log_loss": np.logaddexp(0, -scaled).mean(), "brier": ((1 - p) ** 2).mean()}


if __name__ == "__main__":
    glm, winrate = alpaca_eval()
    out = {
        "length_controlled": [length_case(glm, winrate, 1, 120, 0.3, -1.0, False),
                              length_case(glm, winrate, 2, 200, -0.4, 0.8, False),
                              length_case(glm, winrate, 3, 80, 0.1, -0.5, True)],
        "league": league(4),
        "kappa": [kappa_case(5, 200, 0.6), kappa_case(6, 300, 0.2)],
        "temperature": [temperature_case(7, 150, 3.0, 5), temperature_case(8, 80, 0.3, 2)],
    }
    path = Path(__file__).with_name("expected.json")
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")
    print(path.stat().st_size, [(case["length_controlled"], case["win_rate"], case["penalty"]) for case in
                                out["length_controlled"]])
