"""Reference numbers for the losses of ranked sets and of ties, in float64, with gradients by autograd.

    python make_sets.py > sets.json

needs torch. Deterministic; the committed file came from torch 2.11. Nothing is rearranged for stability:
every probability follows the definition of its source.

sets.json: `pairs`, cases of one comparison each (`model`, `strength`, `chosen`, `rejected`, `tied`, `loss`,
`grad_chosen`, `grad_rejected`), and `rankings`, cases of one ranked set each (`scores`, `losses`: how many answers are
better than this one, `nu` or null, `loss`, `grad`). The loss is -ln P, for rankings the mean over their choices.

  davidson     P(win) = a / (a + b + nu sqrt(ab)), P(tie) = nu sqrt(ab) / (a + b + nu sqrt(ab)), a = exp(chosen), ..
  rao-kupper   P(win) = a / (a + theta b), P(tie) = (theta^2 - 1) a b / ((a + theta b)(theta a + b))
  rankings     repeatedly choose the best remaining answer. Without nu: P(i) = a_i / sum of a (Plackett-Luce);
               each of several tied answers is chosen against the worse ones. With nu: a set T of tied answers
               has P(T) = w(T) / sum over all sets S of w(S), w(T) = nu^(|T|-1) (product of a)^(1/|T|)
               (Davidson-Luce, arXiv 1909.07123).
"""

import itertools
import json

import torch

torch.set_default_dtype(torch.float64)


def pair(model, strength, chosen, rejected, tied):
    r = torch.tensor([chosen, rejected], requires_grad=True)
    a, b = r.exp()
    if model == "davidson":
        tie = strength * (a * b).sqrt()
        p = (tie if tied else a) / (a + b + tie)
    else:
        win = a / (a + strength * b)
        p = (strength**2 - 1) * a * b / ((a + strength * b) * (strength * a + b)) if tied else win
    loss = -p.log()
    (grad,) = torch.autograd.grad(loss, r)
    return {"model": model, "strength": strength, "chosen": chosen, "rejected": rejected, "tied": tied,
            "loss": loss.item(), "grad_chosen": grad[0].item(), "grad_rejected": grad[1].item()}


def ranking(scores, losses, nu):
    r = torch.tensor(scores, requires_grad=True)
    a = r.exp()
    terms = []
    for level in sorted(set(losses)):
        first = [i for i, x in enumerate(losses) if x == level]
        rest = [i for i, x in enumerate(losses) if x > level]
        if nu is None:
            terms += [-(a[i] / (a[i] + a[rest].sum())).log() for i in first if rest]
        elif len(first) + len(rest) > 1:
            weight = lambda t: nu ** (len(t) - 1) * a[list(t)].prod() ** (1 / len(t))
            left = first + rest
            sets = itertools.chain.from_iterable(itertools.combinations(left, n) for n in range(1, len(left) + 1))
            terms.append(-(weight(first) / sum(map(weight, sets))).log())
    loss = sum(terms) / len(terms)
    (grad,) = torch.autograd.grad(loss, r)
    return {"scores": scores, "losses": losses, "nu": nu, "loss": loss.item(), "grad": grad.tolist()}


cases = {
    "pairs": [
        pair(model, strength, chosen, rejected, tied)
        for model, strengths in [("davidson", [1.0, 0.3]), ("rao-kupper", [2.0, 1.1])]
        for strength in strengths
        for chosen, rejected in [(0.3, -0.5), (-1.25, 0.75), (4.0, -3.5), (0.0, 0.0), (30.0, -10.0)]
        for tied in [False, True]
    ],
    "rankings": [
        ranking(scores, losses, nu)
        for nu in [None, 1.0, 0.4]
        for scores, losses in [
            ([0.3, -0.5], [0, 1]),
            ([0.3, -0.5, 2.0, -1.0], [0, 1, 2, 3]),
            ([0.3, -0.5, 2.0, -1.0], [2, 0, 3, 1]),
            ([0.3, -0.5, 2.0, -1.0], [0, 0, 2, 2]),
            ([0.3, -0.5, 2.0, -1.0, 0.9], [1, 0, 1, 1, 4]),
            ([20.0, -20.0, 0.0], [1, 0, 2]),
        ]
    ],
}
print(json.dumps(cases, indent=0))
