#!/usr/bin/env python3
"""Measures sentences per second of sentence-transformers on the answers of HH-RLHF, like `pcrm bench encode`.

    python scripts/bench-sentence-transformers.py ENCODER_DIR DATA.jsonl.gz --threads 2 --batch 32

Needs sentence-transformers and torch. Every distinct answer is encoded once; sentence-transformers sorts by
length itself. Tokenising is timed, loading is not.
"""

import argparse
import gzip
import json
import resource
import time

import torch
from sentence_transformers import SentenceTransformer

TURN = "\n\nAssistant:"


def answers(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            for key in ("chosen", "rejected"):
                yield row[key][row[key].rfind(TURN) + len(TURN):].strip()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("encoder")
    parser.add_argument("data")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--sentences", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    texts = sorted(set(list(answers(args.data))[: args.sentences]))
    model = SentenceTransformer(args.encoder, device="cpu").to(getattr(torch, args.dtype))
    model.encode(texts[:64], batch_size=args.batch)  # warm-up
    seconds = float("inf")
    for _ in range(args.rounds):
        started = time.perf_counter()
        model.encode(texts, batch_size=args.batch)
        seconds = min(seconds, time.perf_counter() - started)
    tokens = sum(min(len(model.tokenizer(text)["input_ids"]), model.max_seq_length) for text in texts)
    print(json.dumps({
        "system": f"sentence-transformers, torch {torch.__version__}",
        "batch": args.batch,
        "dtype": args.dtype,
        "sentences": len(texts),
        "sentences_per_s": round(len(texts) / seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1),
        "mean_tokens": round(tokens / len(texts), 1),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }))


if __name__ == "__main__":
    main()
