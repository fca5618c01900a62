#!/usr/bin/env python3
"""Times TRL's trainers, as the peers of `pcrm bench reward` and `dpo`: the same pairs in the same order.

    python scripts/bench-trl.py MODEL_DIR PAIRS.jsonl[.gz] [--job reward|dpo] [--steps 12] [--warmup 2]
           [--batch 8] [--max-length 512] [--threads 2] [--dtype float32] [--device cpu] [--random-init]
           [--lora-r R] [--gradient-checkpointing]

needs torch, transformers, trl and datasets (and peft for --lora-r). Prints a line of JSON with the fields of
`pcrm bench JOB --json`. --batch, --steps and --warmup take several numbers: one model is timed at each batch,
with a line each. TRL runs in its fastest setting without truncation: SDPA attention, fused AdamW, no gradient
checkpointing unless asked for, no evaluation, no logging. Weights are f32, with LoRA of --dtype.
"""

import argparse
import copy
import gc
import gzip
import json
import resource
import tempfile
import time

cli = argparse.ArgumentParser()
cli.add_argument("model")
cli.add_argument("pairs")
cli.add_argument("--job", default="reward", choices=["reward", "dpo"])
cli.add_argument("--steps", type=int, nargs="+", default=[12])
cli.add_argument("--warmup", type=int, nargs="+", default=[2])
cli.add_argument("--batch", type=int, nargs="+", default=[8])
cli.add_argument("--max-length", type=int, default=512)
cli.add_argument("--threads", type=int, default=2)
cli.add_argument("--dtype", default="float32")
cli.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
cli.add_argument(
    "--random-init", action="store_true", help="the folder needs only config.json and a tokenizer"
)
cli.add_argument("--lora-r", type=int)
cli.add_argument("--gradient-checkpointing", action="store_true")
args = cli.parse_args()
if not len(args.steps) == len(args.warmup) == len(args.batch):
    cli.error("--batch, --steps and --warmup take equally many numbers")

import torch
import transformers
import trl
from datasets import Dataset

torch.set_num_threads(args.threads)
transformers.logging.set_verbosity_error()


def rows():
    """Pairs with an explicit prompt; an HH dialogue is cut after the last assistant turn of both sides."""
    with (gzip.open if args.pairs.endswith(".gz") else open)(args.pairs, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if "prompt" in row:
                yield {key: row[key] for key in ("prompt", "chosen", "rejected")}
                continue
            cut = row["chosen"].rfind("\n\nAssistant:") + len("\n\nAssistant:")
            if row["rejected"][:cut] == row["chosen"][:cut]:
                yield {
                    "prompt": row["chosen"][:cut],
                    "chosen": row["chosen"][cut:],
                    "rejected": row["rejected"][cut:],
                }


tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token


def length(row, side):
    return len(tokenizer(row["prompt"] + row[side])["input_ids"])


def fitting(need):
    kept = []
    for row in rows():
        if (
            row["chosen"] != row["rejected"]
            and max(length(row, "chosen"), length(row, "rejected")) < args.max_length
        ):
            kept.append(row)
        if len(kept) == need:
            return kept
    raise SystemExit(f"only {len(kept)} pairs fit; {need} needed")


class Clock(transformers.TrainerCallback):
    """Times the steps after the warm-up."""

    def __init__(self, steps, warmup):
        self.steps, self.warmup = steps, warmup

    def on_step_end(self, _args, state, control, **_):
        if args.device == "cuda":
            torch.cuda.synchronize()
        if state.global_step == self.warmup:
            self.start = time.perf_counter()
        elif state.global_step == self.steps + self.warmup:
            self.seconds = time.perf_counter() - self.start


def in_order(trainer):
    class InOrder(trainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    return InOrder


def opened():
    """Returns the model on the device."""
    auto = {
        "reward": transformers.AutoModelForSequenceClassification,
        "dpo": transformers.AutoModelForCausalLM,
    }[args.job]
    wanted = {"num_labels": 1} if args.job == "reward" else {}
    frozen_in_bf16 = args.lora_r and args.dtype == "bfloat16"
    how = {"attn_implementation": "sdpa", "dtype": torch.bfloat16 if frozen_in_bf16 else torch.float32}
    if not args.random_init:
        model = auto.from_pretrained(args.model, **how, **wanted)
    else:
        torch.manual_seed(0)
        config = transformers.AutoConfig.from_pretrained(args.model, **wanted)
        with torch.device(args.device):
            model = auto.from_config(config, **how)
    model.config.pad_token_id = tokenizer.pad_token_id
    return model


model = opened()
peft = None
if args.lora_r:
    from peft import LoraConfig

    task = "SEQ_CLS" if args.job == "reward" else "CAUSAL_LM"
    peft = LoraConfig(r=args.lora_r, lora_alpha=2 * args.lora_r, target_modules="all-linear", task_type=task)
for batch, steps, warmup in zip(args.batch, args.steps, args.warmup):
    kept = fitting((steps + warmup) * batch)
    tokens = sum(length(row, side) + 1 for row in kept[warmup * batch :] for side in ("chosen", "rejected"))
    clock = Clock(steps, warmup)
    common = dict(
        output_dir=tempfile.mkdtemp(),
        max_steps=steps + warmup,
        per_device_train_batch_size=batch,
        gradient_checkpointing=args.gradient_checkpointing,
        bf16=args.dtype == "bfloat16",
        use_cpu=args.device == "cpu",
        save_strategy="no",
        report_to="none",
        logging_steps=10**6,
        max_length=args.max_length,
        disable_tqdm=True,
        learning_rate=1e-5,
        optim="adamw_torch_fused",
        dataloader_pin_memory=False,
        seed=0,
    )
    given = dict(
        model=model,
        train_dataset=Dataset.from_list(kept),
        processing_class=tokenizer,
        callbacks=[clock],
        peft_config=peft,
    )
    if args.job == "reward":
        trainer = in_order(trl.RewardTrainer)(args=trl.RewardConfig(**common), **given)
    else:
        reference = None if peft else copy.deepcopy(model)
        trainer = in_order(trl.DPOTrainer)(args=trl.DPOConfig(**common), ref_model=reference, **given)
    trainer.train()
    # Leave the model as it was, and no memory to the next batch.
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    if peft:
        model = model.unload()
    model.zero_grad(set_to_none=True)
    trainer = given = reference = None
    gc.collect()
    if args.device == "cuda":
        torch.cuda.empty_cache()
    pairs = steps * batch
    print(
        json.dumps(
            {
                "system": f"trl {trl.__version__}",
                "job": args.job,
                "device": args.device,
                "dtype": args.dtype,
                "pairs_per_s": round(pairs / clock.seconds, 3),
                "tokens_per_s": round(tokens / clock.seconds, 1),
                "s_per_step": round(clock.seconds / steps, 4),
                "batch": batch,
                "mean_tokens_per_pair": round(tokens / pairs, 1),
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        ),
        flush=True,
    )
