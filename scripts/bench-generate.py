#!/usr/bin/env python3
"""Times transformers.generate as the peer of `pcrm bench generate`.

  python3 scripts/bench-generate.py MODEL PROMPTS.jsonl [--prompts 64] [--samples 4] [--new-tokens 64]
         [--batch 64] [--max-prompt 256] [--device cpu] [--dtype float32] [--threads 2]

Reads the column `prompt`, or the text of `chosen` up to its last "Assistant:". Every sample has exactly
--new-tokens tokens. --batch is rows per call, or several such numbers; the fastest counts. `--prompts 0`
takes as many as one call has. Draws random weights if MODEL has none. One whole call goes before the clock
starts, as in `pcrm bench generate`. Prints one line of JSON for each batch.
"""

import argparse
import gzip
import json
import resource
import time
from pathlib import Path

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
cli.add_argument("model")
cli.add_argument("data", type=Path)
cli.add_argument("--prompts", type=int, default=64)
cli.add_argument("--samples", type=int, default=4)
cli.add_argument("--new-tokens", type=int, default=64)
cli.add_argument("--batch", type=int, nargs="+", default=[64])
cli.add_argument("--max-prompt", type=int, default=256)
cli.add_argument("--device", default="cpu")
cli.add_argument("--dtype", default="float32")
cli.add_argument("--threads", type=int, default=2)
args = cli.parse_args()

import torch  # noqa: E402 (after the options, so that --help is quick)
import transformers  # noqa: E402

torch.set_num_threads(args.threads)
torch.manual_seed(0)
tokenizer = transformers.AutoTokenizer.from_pretrained(args.model, padding_side="left")
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
weights = list(Path(args.model).glob("*.safetensors"))
if weights:
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype))
else:
    with torch.device(args.device):
        model = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.from_pretrained(args.model)
        )
model = model.to(args.device, getattr(torch, args.dtype)).eval()

MARK = "\n\nAssistant:"
opener = gzip.open if args.data.suffix == ".gz" else open
most = args.prompts or max(args.batch) // args.samples
all_prompts = []
with opener(args.data, "rt", encoding="utf-8") as lines:
    for row in map(json.loads, lines):
        prompt = row.get("prompt") or row["chosen"][: row["chosen"].rfind(MARK) + len(MARK)]
        if len(tokenizer(prompt)["input_ids"]) <= args.max_prompt:
            all_prompts.append(prompt)
        if len(all_prompts) == most:
            break
if len(all_prompts) < most:
    raise SystemExit(
        f"{args.data}: {len(all_prompts)} prompts of at most {args.max_prompt} tokens; expected {most}"
    )


def run(chunk):
    inputs = tokenizer(chunk, return_tensors="pt", padding=True).to(args.device)
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        model.generate(
            **inputs,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            num_return_sequences=args.samples,
            max_new_tokens=args.new_tokens,
            min_new_tokens=args.new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
    if args.device != "cpu":
        torch.cuda.synchronize()


for batch in args.batch:
    per_call = max(1, batch // args.samples)
    prompts = all_prompts[: args.prompts or per_call]
    run(prompts[:per_call])
    start = time.perf_counter()
    for at in range(0, len(prompts), per_call):
        run(prompts[at : at + per_call])
    seconds = time.perf_counter() - start
    rows = len(prompts) * args.samples
    line = {
        "system": f"transformers {transformers.__version__}",
        "job": "generate",
        "device": args.device,
        "dtype": args.dtype,
        "batch": batch,
        "samples_per_s": round(rows / seconds, 3),
        "tokens_per_s": round(rows * args.new_tokens / seconds, 1),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(line), flush=True)
