#!/usr/bin/env python3
"""Times TRL's reward trainer, as the peer of `pcrm bench reward`: the same pairs in the same order.

    python scripts/bench-trl.py MODEL_DIR PAIRS.jsonl[.gz] [--steps 12] [--warmup 2] [--batch 8]
           [--max-length 512] [--threads 2] [--dtype float32] [--device cpu]

needs torch, transformers, trl and datasets. Prints one line of JSON with the fields of `pcrm bench reward --json`.
TRL runs in its fastest setting without truncation: SDPA attention, fused AdamW, no gradient checkpointing,
no evaluation, no logging.
"""

import argparse
import gzip
import json
import resource
import tempfile
import time

cli = argparse.ArgumentParser()
cli.add_argument("model")
cli.add_argument("pairs")
cli.add_argument("--steps", type=int, default=12)
cli.add_argument("--warmup", type=int, default=2)
cli.add_argument("--batch", type=int, default=8)
cli.add_argument("--max-length", type=int, default=512)
cli.add_argument("--threads", type=int, default=2)
cli.add_argument("--dtype", default="float32")
cli.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
args = cli.parse_args()

import torch
import transformers
import trl
from datasets import Dataset

torch.set_num_threads(args.threads)
transformers.logging.set_verbosity_error()


def rows():
    """Pairs with an explicit prompt; an HH dialogue is cut after the last assistant turn that both sides share."""
    with (gzip.open if args.pairs.endswith(".gz") else open)(args.pairs, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if "prompt" in row:
                yield {key: row[key] for key in ("prompt", "chosen", "rejected")}
                continue
            cut = row["chosen"].rfind("\n\nAssistant:") + len("\n\nAssistant:")
            if row["rejected"][:cut] == row["chosen"][:cut]:
                yield {"prompt": row["chosen"][:cut], "chosen": row["chosen"][cut:], "rejected": row["rejected"][cut:]}


tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
length = lambda row, side: len(tokenizer(row["prompt"] + row[side])["input_ids"])
need = (args.steps + args.warmup) * args.batch
kept = []
for row in rows():
    if row["chosen"] != row["rejected"] and max(length(row, "chosen"), length(row, "rejected")) < args.max_length:
        kept.append(row)
    if len(kept) == need:
        break
assert len(kept) == need, f"only {len(kept)} pairs fit; {need} needed"
tokens = sum(length(row, side) + 1 for row in kept[args.warmup * args.batch :] for side in ("chosen", "rejected"))


class Clock(transformers.TrainerCallback):
    def on_step_end(self, _args, state, control, **_):
        if args.device == "cuda":
            torch.cuda.synchronize()
        if state.global_step == args.warmup:
            self.start = time.perf_counter()
        elif state.global_step == args.steps + args.warmup:
            self.seconds = time.perf_counter() - self.start


class InOrder(trl.RewardTrainer):
    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


clock = Clock()
model = transformers.AutoModelForSequenceClassification.from_pretrained(
    args.model, num_labels=1, attn_implementation="sdpa", dtype=torch.float32
)
model.config.pad_token_id = tokenizer.pad_token_id
config = trl.RewardConfig(
    output_dir=tempfile.mkdtemp(), max_steps=args.steps + args.warmup, per_device_train_batch_size=args.batch,
    gradient_checkpointing=False, bf16=args.dtype == "bfloat16", use_cpu=args.device == "cpu", save_strategy="no", report_to="none",
    logging_steps=10**6, max_length=args.max_length, disable_tqdm=True, learning_rate=1e-5,
    optim="adamw_torch_fused", dataloader_pin_memory=False, seed=0,
)
InOrder(
    model=model, args=config, train_dataset=Dataset.from_list(kept), processing_class=tokenizer, callbacks=[clock]
).train()
pairs = args.steps * args.batch
print(json.dumps({
    "system": f"trl {trl.__version__}", "job": "reward", "device": args.device, "dtype": args.dtype,
    "pairs_per_s": round(pairs / clock.seconds, 3), "tokens_per_s": round(tokens / clock.seconds, 1),
    "s_per_step": round(clock.seconds / args.steps, 4), "batch": args.batch,
    "mean_tokens_per_pair": round(tokens / pairs, 1),
    "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}))
