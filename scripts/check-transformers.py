#!/usr/bin/env python3
"""Checks scores of a reward model against transformers.

    python scripts/check-transformers.py [--dtype float32] [--no-tokenizer] MODEL_DIR SCORES.jsonl

needs torch and transformers. Loads MODEL_DIR as any user of transformers would and recomputes each
score of SCORES.jsonl. A line of it is a JSON object with either
    chosen_ids, rejected_ids (lists of token ids) and chosen_score, rejected_score, or
    ids and score.
Other keys are ignored. Prints the largest absolute and relative difference.

Exit status 0: every difference is at most TOLERANCE * max(1, |score by transformers|).
1: a difference is larger or not a number; the file holds no score; MODEL_DIR has no usable tokenizer;
or the checkpoint lacks a weight of the model, or has an unknown one.
"""

import argparse
import json
import math
import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

TOLERANCE = 1e-4


def load_model(path, dtype):
    model, info = AutoModelForSequenceClassification.from_pretrained(
        path, dtype=getattr(torch, dtype), output_loading_info=True, local_files_only=True
    )
    bad = {kind: sorted(map(str, keys)) for kind, keys in info.items() if keys}
    if bad:
        sys.exit("\n".join(f"{path}: {kind}: {', '.join(keys)}" for kind, keys in bad.items()))
    if model.config.num_labels != 1:
        sys.exit(f"{path}: num_labels is {model.config.num_labels}, not 1")
    return model.eval()


def load_tokenizer(path, model):
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # the exception depends on the kind of tokenizer
        sys.exit(f"{path}: no tokenizer: {error}")
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != model.config.pad_token_id:
        sys.exit(
            f"{path}: pad_token_id is {tokenizer.pad_token_id} in the tokenizer "
            f"and {model.config.pad_token_id} in config.json"
        )
    return tokenizer


def read_scores(path):
    """Yields (line number and key, token ids, score)."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            found = False
            for prefix in ("", "chosen_", "rejected_"):
                ids, score = prefix + "ids", prefix + "score"
                if (ids in row) != (score in row):
                    sys.exit(f"{path}:{number}: only one of {ids} and {score}")
                if ids in row:
                    found = True
                    yield f"{path}:{number} {score}", row[ids], float(row[score])
            if not found:
                sys.exit(f"{path}:{number}: no score")


def main():
    parser = argparse.ArgumentParser(description="Checks scores against transformers.")
    parser.add_argument("model_dir", metavar="MODEL_DIR")
    parser.add_argument("scores", metavar="SCORES.jsonl")
    parser.add_argument("--dtype", default="float32", help="float32 (default), float64, bfloat16")
    parser.add_argument("--no-tokenizer", action="store_true", help="do without a tokenizer")
    args = parser.parse_args()

    model = load_model(args.model_dir, args.dtype)
    tokenizer = None if args.no_tokenizer else load_tokenizer(args.model_dir, model)

    count, failed = 0, 0
    largest_abs = largest_rel = 0.0
    worst = None
    for where, ids, score in read_scores(args.scores):
        # One at a time, so there is no padding.
        with torch.no_grad():
            reference = model(input_ids=torch.tensor([ids]), use_cache=False).logits.item()
        absolute = abs(score - reference)
        if math.isnan(absolute):
            absolute = math.inf
        if absolute == 0:
            relative = 0.0
        else:
            relative = absolute / abs(reference) if reference else math.inf
        count += 1
        largest_abs = max(largest_abs, absolute)
        largest_rel = max(largest_rel, relative)
        excess = absolute / max(1.0, abs(reference))
        if not excess <= TOLERANCE:
            failed += 1
            if worst is None or excess > worst[0]:
                worst = (excess, where, ids, score, reference)

    print(f"scores: {count}")
    print(f"largest absolute difference: {largest_abs:.3g}")
    print(f"largest relative difference: {largest_rel:.3g}")
    if worst is not None:
        _, where, ids, score, reference = worst
        print(f"{failed} of {count} differ; the worst is {where}: {score}, transformers {reference}")
        if tokenizer is not None:
            print(f"  text: {tokenizer.decode(ids)!r}")
    if count == 0:
        print("no score to check")
    sys.exit(1 if failed or count == 0 else 0)


if __name__ == "__main__":
    main()
