"""Losses of supervised fine-tuning and their gradients, in float64, on the tiny checkpoints of ../models.

    python make.py      (torch 2.11, transformers 5.24, safetensors)

For each family, FAMILY.safetensors gets the mean of -log p over the target tokens of two sequences (`loss`),
the gradient of every parameter (`grad.NAME`; a tied lm_head is not a separate parameter), the mean entropy of
the predicting distributions (`entropy`) and the share of targets that are the most likely token (`accuracy`).
sft.json has the sequences and their targets as ranges. ../models/make.py has the patches that keep
transformers in float64.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

here = Path(__file__).parent
sys.path.insert(0, str(here.parent / "models"))
import make as models  # noqa: E402

FAMILIES = ["gemma3", "gpt2", "llama", "qwen2"]
SEQUENCES = [
    {"ids": [13, 17, 9, 22, 15, 11, 8], "trained": [[3, 5], [6, 7]]},
    {"ids": [16, 12, 19, 14], "trained": [[1, 4]]},
]


def main():
    for family in FAMILIES:
        folder = here.parent / "models" / family
        model = models.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).double().eval()
        losses, entropies, hits = [], [], []
        for sequence in SEQUENCES:
            log_p = models.run(model, sequence["ids"]).log_softmax(-1)
            assert log_p.dtype == torch.float64
            for start, end in sequence["trained"]:
                for at in range(start, end):
                    row, target = log_p[at - 1], sequence["ids"][at]
                    losses.append(-row[target])
                    entropies.append(-(row.exp() * row).sum())
                    hits.append(float(row.argmax() == target))
        loss = torch.stack(losses).mean()
        loss.backward()
        out = {
            "loss": loss.detach().reshape(1),
            "entropy": torch.stack(entropies).mean().detach().reshape(1),
            "accuracy": torch.tensor([sum(hits) / len(hits)]),
        }
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                out[f"grad.{name}"] = parameter.grad
        save_file({name: x.float().contiguous() for name, x in out.items()}, here / f"{family}.safetensors")
    (here / "sft.json").write_text(json.dumps({"sequences": SEQUENCES}) + "\n")


main()
