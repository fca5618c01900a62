"""Checks that transformers loads an exported folder and computes the same scores as pcrm.

    same_scores.py FOLDER PAIRS.jsonl SCORES.jsonl

PAIRS contains plain texts; SCORES is the output of `pcrm score` for them.
"""

import json
import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder, pairs, scores = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
with open(pairs) as file:
    rows = [json.loads(line) for line in file][:20]
with open(scores) as file:
    wanted = [json.loads(line) for line in file][:20]
worst = 0.0
for row, want in zip(rows, wanted, strict=True):
    for name in ["chosen", "rejected"]:
        ids = tokenizer(row["prompt"] + row[name] + tokenizer.eos_token, return_tensors="pt").input_ids
        with torch.no_grad():
            score = model(input_ids=ids).logits[0, 0].item()
        worst = max(worst, abs(score - want[f"{name}_score"]))
assert worst < 1e-5, worst
print(f"transformers gives the scores of {len(rows)} exported pairs within {worst:.1e}")
