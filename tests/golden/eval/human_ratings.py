"""Correlations of an output's words with its human score, by scipy.

    python human_ratings.py FOLDER > human_ratings.json

FOLDER holds the files of UniEval's human ratings; `source` identifies the prompt.
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats

MEASURES = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}
FILES = {"topical_chat": "overall", "qags_cnndm": "consistency", "sfres": "overall", "sfhot": "naturalness"}
golden = {}
for name, score in FILES.items():
    groups = {}
    for row in json.loads(Path(sys.argv[1], f"{name}.json").read_text()):
        x, y = groups.setdefault(row["source"], ([], []))
        x.append(float(len(row["system_output"].split())))
        y.append(row["scores"][score])
    pooled = [sum((g[side] for g in groups.values()), []) for side in (0, 1)]
    used = [g for g in groups.values() if len(set(g[0])) > 1 and len(set(g[1])) > 1]
    golden[name] = {
        "score": score,
        "prompts": len(groups),
        "prompts_used": len(used),
        "pooled": {m: f(*pooled).statistic for m, f in MEASURES.items()},
        "per_prompt": {m: np.mean([f(*g).statistic for g in used]) if used else None for m, f in MEASURES.items()},
    }
print(json.dumps(golden, indent=1))
