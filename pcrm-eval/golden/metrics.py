"""Expected numbers for pcrm-eval, from numpy and scipy. Run: python metrics.py > metrics.json"""

import json

import numpy as np
from scipy import stats

rng = np.random.default_rng(20240400978)


def wilson():
    cases = [(0, 10, 0.95), (10, 10, 0.95), (7, 10, 0.95), (724, 1000, 0.95), (724, 1000, 0.99), (1, 3, 0.5)]
    for k, n, level in cases:
        ci = stats.binomtest(k, n).proportion_ci(confidence_level=level, method="wilson")
        yield {"k": k, "n": n, "level": level, "low": ci.low, "high": ci.high}


def summary(x):
    out = {"count": len(x), "mean": np.mean(x), "std": np.std(x), "min": np.min(x), "max": np.max(x)}
    for q in (1, 5, 25, 50, 75, 95, 99):
        out[f"p{q}"] = np.quantile(x, q / 100)
    return out


def calibration(margins):
    """The measures on the symmetrised samples, spelled out: (p, 1) and (1 - p, 0) of every pair."""
    p = 1 / (1 + np.exp(-margins))
    p = np.concatenate([p, 1 - p])
    outcome = np.repeat([1.0, 0.0], len(margins))
    out = {
        "brier": np.mean((p - outcome) ** 2),
        "log_loss": -np.mean(outcome * np.log(p) + (1 - outcome) * np.log(1 - p)),
    }
    confidence = np.maximum(p, 1 - p)
    correct = np.where(p == 0.5, 0.5, (p > 0.5) == (outcome == 1))
    for bins in (10, 15):
        edges = np.linspace(0, 1, bins + 1)
        table, error = [], 0.0
        for low, high in zip(edges[:-1], edges[1:]):
            inside = (confidence > low) & (confidence <= high)
            if inside.any():
                row = {
                    "samples": int(inside.sum()),
                    "confidence": confidence[inside].mean(),
                    "accuracy": correct[inside].mean(),
                }
                error += inside.mean() * abs(row["accuracy"] - row["confidence"])
                table.append(row)
        out[f"reliability_{bins}"] = table
        out[f"ece_{bins}"] = error
    return out


def margins():
    with_ties = np.round(rng.normal(0.7, 1.5, 60), 2)
    with_ties[::20] = 0.0
    for x in (with_ties, np.round(rng.normal(0, 4, 101), 3), np.array([0.3]), np.array([-1.25, 2.5])):
        yield {"margins": x.tolist(), "summary": summary(x), **calibration(x)}


def correlations():
    def case(name, x, y):
        x, y = np.asarray(x, float), np.asarray(y, float)
        constant = len(set(x)) == 1 or len(set(y)) == 1
        r, rho, tau = (
            None if constant else f(x, y).statistic for f in (stats.pearsonr, stats.spearmanr, stats.kendalltau)
        )
        return {"name": name, "x": x.tolist(), "y": y.tolist(), "pearson": r, "spearman": rho, "kendall": tau}

    x = np.round(rng.normal(size=80), 3)
    noise = np.round(rng.normal(size=80), 3)
    yield case("independent", x, noise)
    yield case("related", x, np.round(x + noise, 3))
    yield case("opposed", x, -(x**3))
    yield case("equal", x, x)
    yield case("ties in both", rng.integers(0, 5, 120), rng.integers(0, 4, 120))
    yield case("ties in x", rng.integers(0, 3, 50), np.round(rng.normal(size=50), 3))
    yield case("two levels", rng.integers(0, 2, 64), rng.integers(0, 2, 64))
    yield case("offset", 1000 + np.round(rng.normal(size=33), 3), np.round(rng.normal(size=33), 3))
    yield case("tiny scale", x[:31] * 1e-180, noise[:31])
    yield case("huge scale", x[:31] * 1e180, noise[:31] * 1e170)
    yield case("two points", [1, 2], [5, 3])
    yield case("constant", [0.1, 0.1, 0.1], [1, 2, 3])


def report():
    n = 60
    quality = rng.normal(size=n)
    pairs = [
        {
            "chosen": round(float(quality[i] + rng.normal(0.9, 1.2)), 3),
            "rejected": round(float(quality[i] + rng.normal(0, 1.2)), 3),
            "chosen_tokens": int(rng.integers(5, 60)),
            "rejected_tokens": int(rng.integers(5, 50)),
            "bound": None if i % 6 == 0 else round(float(rng.uniform(0.5, 4)), 2),
            "true_chosen": None if i % 5 == 0 else round(float(quality[i] + rng.normal(0.5)), 1),
            "true_rejected": None if i % 10 == 0 else round(float(quality[i] + rng.normal(-0.5)), 1),
        }
        for i in range(n)
    ]
    # Equal lengths and an equal score, which have rules of their own.
    pairs[3]["rejected_tokens"] = pairs[3]["chosen_tokens"]
    pairs[7]["rejected"] = pairs[7]["chosen"]
    c, r, ct, rt = (np.array([p[k] for p in pairs]) for k in ("chosen", "rejected", "chosen_tokens", "rejected_tokens"))
    m = c - r
    wins = (m > 0).sum() + 0.5 * (m == 0).sum()
    scores, tokens = np.concatenate([c, r]), np.concatenate([ct, rt])
    bounded = [p for p in pairs if p["bound"] is not None]
    known = [p for p in pairs if p["true_chosen"] is not None and p["true_rejected"] is not None]
    ours = [p[k] for p in known for k in ("chosen", "rejected")]
    true = [p[k] for p in known for k in ("true_chosen", "true_rejected")]
    differ = ct != rt
    longer = np.where(ct > rt, m, -m)[differ]
    cal = calibration(m)
    expected = {
        "/pairs": n,
        "/accuracy/value": wins / n,
        "/brier": cal["brier"],
        "/log_loss": cal["log_loss"],
        "/ece": cal["ece_15"],
        "/length/pearson": stats.pearsonr(scores, tokens).statistic,
        "/length/spearman": stats.spearmanr(scores, tokens).statistic,
        "/longer_preferred/pairs": int(differ.sum()),
        "/longer_preferred/by_labels": (ct > rt)[differ].mean(),
        "/longer_preferred/by_model": np.where(longer == 0, 0.5, longer > 0).mean(),
        "/bounds/pairs": len(bounded),
        "/bounds/mean": np.mean([p["bound"] for p in bounded]),
        "/bounds/beyond": np.mean([p["chosen"] - p["rejected"] > p["bound"] for p in bounded]),
        "/true_reward/answers": len(true),
        "/true_reward/pearson": stats.pearsonr(ours, true).statistic,
        "/true_reward/spearman": stats.spearmanr(ours, true).statistic,
        "/true_reward/kendall": stats.kendalltau(ours, true).statistic,
    }
    expected |= {f"/margins/{name}": value for name, value in summary(m).items()}
    expected |= {f"/scores/{name}": value for name, value in summary(scores).items()}
    for at, row in enumerate(cal["reliability_15"]):
        expected |= {f"/reliability/{at}/{name}": row[name] for name in ("confidence", "accuracy")}
    return {"pairs": pairs, "expected": expected}


def mcnemar():
    for b, c in [(0, 0), (1, 0), (0, 5), (5, 12), (12, 5), (40, 41), (200, 260), (7, 7)]:
        p = stats.binomtest(b, b + c).pvalue if b + c else 1.0
        yield {"only_first": b, "only_second": c, "p": p}


def human():
    """Prompts with 2 to 6 answers, some with a constant side: means within prompts, and pooled."""
    sets = []
    for at in range(12):
        n = int(rng.integers(2, 7))
        human = rng.integers(1, 6, n).astype(float)
        scores = np.round(0.4 * human + rng.normal(size=n), 2)
        if at == 3:
            human[:] = 4
        if at == 7:
            scores[:] = 0.5
        sets.append({"scores": scores.tolist(), "human": human.tolist()})
    expected = {}
    pooled = [np.concatenate([s[k] for s in sets]) for k in ("scores", "human")]
    for name, f in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr), ("kendall", stats.kendalltau)):
        defined = [
            f(s["scores"], s["human"]).statistic for s in sets if len(set(s["scores"])) > 1 and len(set(s["human"])) > 1
        ]
        expected |= {f"/pooled/{name}/value": f(*pooled).statistic, f"/per_prompt/{name}/value": np.mean(defined)}
    return {"sets": sets, "expected": expected | {"/prompts": len(sets), "/prompts_used": len(defined)}}


golden = {
    "wilson": list(wilson()),
    "margins": list(margins()),
    "correlations": list(correlations()),
    "report": report(),
    "mcnemar": list(mcnemar()),
    "human": human(),
}
print(json.dumps(golden, default=lambda number: number.item()))
