"""Reference numbers for the preference losses, in float64, with gradients by autograd.

    python make.py > loss.json

needs torch. Deterministic; the committed file came from torch 2.11.

loss.json: `cases`, each with a `name`, the `kind` of loss and its parameters, the scores of
the pairs (`chosen`, `rejected`), and the results: `losses` (one per pair), `loss` (their mean),
`grad_chosen` and `grad_rejected` (of the MEAN, in each score). With d = chosen - rejected and
ls = log sigmoid, the loss of a pair is

  bt    -(1-eps) ls(d - margin) - eps ls(margin - d) + center (chosen + rejected)^2
  pcrm  -ls(d) - ls(bound - d)

with `margin` one per pair, eps = `label_smoothing`, center = `center`. bt with eps = 0 is what
trl's RewardTrainer.compute_loss (trl 1.16) computes: margin inside the sigmoid, and the centring
term is the mean of the squared SUM of both scores. The smoothed form is that of conservative DPO.
`bound` is a number per pair, or the string "inf" for none: then pcrm equals bt.
"""

import json
import math

import torch
from torch.nn.functional import logsigmoid

CHOSEN = [0.3, -1.25, 4.0, 0.0]
REJECTED = [-0.5, 0.75, -3.5, 0.0]
FAR = [60.0, -60.0, 800.0, -800.0]  # d this large overflows exp
ZERO = [0.0] * 4
INF = [math.inf] * 4
MARGIN = [0.0, 0.5, 1.0, 2.5]


def bt(name, chosen=CHOSEN, rejected=REJECTED, margin=ZERO, label_smoothing=0.0, center=0.0):
    return dict(locals(), kind="bt")


def pcrm(name, bound, chosen=CHOSEN, rejected=REJECTED):
    return dict(locals(), kind="pcrm")


CASES = [
    bt("bt"),
    bt("bt, margin", margin=MARGIN),
    bt("bt, smoothed", label_smoothing=0.1),
    bt("bt, centred", center=0.01),
    bt("bt, margin, smoothed and centred", margin=MARGIN, label_smoothing=0.2, center=0.05),
    bt("bt, extreme", chosen=FAR, rejected=ZERO),
    bt("bt, extreme and smoothed", chosen=FAR, rejected=ZERO, label_smoothing=0.1),
    pcrm("pcrm, bound 0.7", bound=[0.7] * 4),
    pcrm("pcrm, a bound per pair", bound=[0.1, 1.0, 3.0, 10.0]),
    pcrm("pcrm, bound 0", bound=ZERO),
    pcrm("pcrm, no bound", bound=INF),
    pcrm("pcrm, some without bound", bound=[0.7, math.inf, 2.0, math.inf]),
    pcrm("pcrm, extreme", bound=[0.7] * 4, chosen=FAR, rejected=ZERO),
    pcrm("pcrm, extreme without bound", bound=INF, chosen=FAR, rejected=ZERO),
    # d at the bound, and at half of it, where the loss is least
    pcrm(
        "pcrm, at the bound",
        bound=[2.0] * 4,
        chosen=[2.0, 1.0, 5.0, 3.5],
        rejected=[0.0, 0.0, 3.0, 2.5],
    ),
]


def evaluate(case):
    chosen, rejected = (
        torch.tensor(case[k], dtype=torch.float64, requires_grad=True)
        for k in ("chosen", "rejected")
    )
    d = chosen - rejected
    if case["kind"] == "bt":
        x = d - torch.tensor(case["margin"], dtype=torch.float64)
        eps = case["label_smoothing"]
        losses = -(1 - eps) * logsigmoid(x) - eps * logsigmoid(-x)
        losses = losses + case["center"] * (chosen + rejected) ** 2
    else:
        bound = torch.tensor(case["bound"], dtype=torch.float64)
        losses = -logsigmoid(d) - logsigmoid(bound - d)
    loss = losses.mean()
    loss.backward()
    result = {
        **case,
        "losses": losses.tolist(),
        "loss": loss.item(),
        "grad_chosen": chosen.grad.tolist(),
        "grad_rejected": rejected.grad.tolist(),
    }
    if "bound" in case:
        result["bound"] = ["inf" if b == math.inf else b for b in case["bound"]]
    return result


def main():
    # allow_nan=False: a NaN or an infinity in any result is an error
    print(json.dumps({"cases": [evaluate(c) for c in CASES]}, indent=1, allow_nan=False))


if __name__ == "__main__":
    main()
