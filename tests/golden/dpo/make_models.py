"""The loss of DPO under a bound and its gradients, in float64, on the tiny checkpoints of ../models.

    python make_models.py      (torch 2.11, transformers 5.24, safetensors)

For each family, FAMILY.safetensors gets the mean over two pairs of -ln s(D) - ln s(D* - D), D = beta*(lr_w -
lr_l), with given log-probabilities of the reference (`loss`), the gradient of every parameter (`grad.NAME`; a
tied lm_head is not a separate parameter), the log-probabilities of all answer tokens (`log_probs`: by pair,
chosen first) and the mean entropy of the predicting distributions (`entropy`). pairs.json has the pairs.
../models/make.py has the patches that keep transformers in float64.
"""

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

here = Path(__file__).parent
sys.path.insert(0, str(here.parent / "models"))
import make as models  # noqa: E402

FAMILIES = ["gpt2", "qwen2"]
BETA = 0.5
# The second pair's answers share their first token.
PAIRS = [
    {"prompt": [13, 17, 9], "chosen": [22, 15, 11, 8], "rejected": [16, 12], "bound": 0.7,
     "ref_chosen": [-3.1, -2.7, -3.9, -3.0], "ref_rejected": [-3.4, -2.9]},
    {"prompt": [16, 12], "chosen": [19, 14, 7], "rejected": [19, 5, 21], "bound": 1.9,
     "ref_chosen": [-3.0, -3.3, -2.6], "ref_rejected": [-3.0, -3.6, -3.2]},
]


def main():
    for family in FAMILIES:
        folder = here.parent / "models" / family
        model = models.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).double().eval()
        losses, entropies, all_log_probs = [], [], []
        for pair in PAIRS:
            ratios = []
            for side in ["chosen", "rejected"]:
                start = len(pair["prompt"])
                ids = pair["prompt"] + pair[side]
                log_p = models.run(model, ids).log_softmax(-1)
                assert log_p.dtype == torch.float64
                tokens = [log_p[at - 1][ids[at]] for at in range(start, len(ids))]
                entropies += [-(log_p[at - 1].exp() * log_p[at - 1]).sum() for at in range(start, len(ids))]
                all_log_probs += tokens
                ratios.append(torch.stack(tokens).sum() - sum(pair["ref_" + side]))
            margin = BETA * (ratios[0] - ratios[1])
            losses.append(-F.logsigmoid(margin) - F.logsigmoid(pair["bound"] - margin))
        loss = torch.stack(losses).mean()
        loss.backward()
        out = {
            "loss": loss.detach().reshape(1),
            "entropy": torch.stack(entropies).mean().detach().reshape(1),
            "log_probs": torch.stack(all_log_probs).detach(),
        }
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                out[f"grad.{name}"] = parameter.grad
        save_file({name: x.float().contiguous() for name, x in out.items()}, here / f"{family}.safetensors")
    (here / "pairs.json").write_text(json.dumps({"beta": BETA, "pairs": PAIRS}) + "\n")


main()
