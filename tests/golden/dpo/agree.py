"""Compares log-probabilities of answer tokens with transformers: python agree.py MODEL_FOLDER NUMBERS.json"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

folder = Path(sys.argv[1])
if (folder / "adapter_config.json").exists():
    from peft import AutoPeftModelForCausalLM as Loader
else:
    Loader = AutoModelForCausalLM
model = Loader.from_pretrained(folder, dtype=torch.float32).eval()
worst = 0.0
with torch.no_grad():
    for row in json.loads(Path(sys.argv[2]).read_text()):
        log_p = model(input_ids=torch.tensor([row["ids"]])).logits[0].log_softmax(-1)
        start = max(row["start"], 1)
        tokens = torch.tensor(row["ids"][start:])
        theirs = log_p[start - 1 : -1].gather(1, tokens[:, None])[:, 0]
        worst = max(worst, (theirs - torch.tensor(row["log_probs"])).abs().max().item())
assert worst < 1e-4, worst
print(f"{folder.name}: log-probabilities differ by at most {worst:.1e}")
