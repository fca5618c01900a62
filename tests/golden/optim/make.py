"""Reference numbers for AdamW, gradient clipping and learning-rate schedules.

    python make.py > optim.json

needs torch and transformers. Deterministic; the committed file came from torch 2.11 and
transformers 5.23.

optim.json
  max_norm            the global norm that the gradients are clipped to
  groups              the parameter groups: lr, betas, eps, weight_decay and `params`, each with
                      name, shape and initial value (flat, row-major)
  grads               per step, {name: flat gradient}, before clipping
  trajectories        one per dtype (float32, float64) and schedule:
    dtype, schedule   schedule "constant": the factor is always 1; "cosine_with_warmup": as
                      in `schedules` below, with `scheduler.step()` after each update
    steps             per step: `lr` (of each group, as used in this update), `norm_before` (the
                      global norm that clip_grad_norm_ returns), `norm_after`, `clipped` (the
                      gradients that AdamW sees) and `params` after the update
    exp_avg, exp_avg_sq   the moments after the last step
  schedules           factors of the learning rate. factors[k] is the factor of update k, counted
                      from 0; the last one, factors[total_steps], is that after the last update

Note how clip_grad_norm_ scales: by min(1, max_norm / (norm + 1e-6)).
Numbers of float32 are written as the exact value in decimal.
"""

import json
import math

import torch
from torch.nn.utils import clip_grad_norm_, get_total_norm
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

STEPS, TOTAL, WARMUP, MAX_NORM = 10, 20, 3, 1.0

GROUPS = [
    dict(lr=0.05, betas=[0.9, 0.95], eps=1e-6, weight_decay=0.1, params=[("weight", [3, 2])]),
    dict(
        lr=0.02,
        betas=[0.8, 0.999],
        eps=1e-8,
        weight_decay=0.0,
        params=[("bias", [2]), ("scale", [1])],
    ),
]
SHAPES = {name: shape for g in GROUPS for name, shape in g["params"]}


def constant(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)


def cosine(optimizer):
    return get_cosine_schedule_with_warmup(optimizer, WARMUP, TOTAL)


SCHEDULES = {
    "constant_with_warmup": lambda o: get_constant_schedule_with_warmup(o, WARMUP),
    "linear_with_warmup": lambda o: get_linear_schedule_with_warmup(o, WARMUP, TOTAL),
    "cosine_with_warmup": cosine,
    "cosine_without_warmup": lambda o: get_cosine_schedule_with_warmup(o, 0, TOTAL),
}


def draw(rng, shape, scale):
    """Values with three decimals, short to read and write."""
    values = scale * torch.randn(math.prod(shape), generator=rng, dtype=torch.float64)
    return [round(v, 3) for v in values.tolist()]


def flat(tensors):
    return {name: t.detach().flatten().tolist() for name, t in tensors.items()}


def trajectory(dtype, schedule, initial, grads):
    params = {
        name: torch.tensor(initial[name], dtype=dtype).reshape(shape).requires_grad_()
        for name, shape in SHAPES.items()
    }
    groups = [{**g, "params": [params[name] for name, _ in g["params"]]} for g in GROUPS]
    optimizer = torch.optim.AdamW(groups, foreach=False)
    scheduler = {"constant": constant, "cosine_with_warmup": cosine}[schedule](optimizer)
    steps = []
    for step in range(STEPS):
        for name, p in params.items():
            p.grad = torch.tensor(grads[step][name], dtype=dtype).reshape(p.shape)
        before = clip_grad_norm_(params.values(), MAX_NORM)
        clipped = {name: p.grad for name, p in params.items()}
        row = {
            "lr": [g["lr"] for g in optimizer.param_groups],
            "norm_before": before.item(),
            "norm_after": get_total_norm(clipped.values()).item(),
            "clipped": flat(clipped),
        }
        optimizer.step()
        scheduler.step()
        steps.append({**row, "params": flat(params)})
    state = {name: optimizer.state[p] for name, p in params.items()}
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "schedule": schedule,
        "steps": steps,
        "exp_avg": flat({name: s["exp_avg"] for name, s in state.items()}),
        "exp_avg_sq": flat({name: s["exp_avg_sq"] for name, s in state.items()}),
    }


def factors(make):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    out = []
    for _ in range(TOTAL + 1):
        out.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return out


def main():
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(7)
    initial = {name: draw(rng, shape, 1.0) for name, shape in SHAPES.items()}
    # Every third step is small, hence not clipped.
    grads = [
        {name: draw(rng, shape, 0.1 if step % 3 == 1 else 1.0) for name, shape in SHAPES.items()}
        for step in range(STEPS)
    ]
    groups = [
        {**g, "params": [{"name": n, "shape": s, "value": initial[n]} for n, s in g["params"]]}
        for g in GROUPS
    ]
    result = {
        "max_norm": MAX_NORM,
        "groups": groups,
        "grads": grads,
        "trajectories": [
            trajectory(dtype, schedule, initial, grads)
            for schedule in ("constant", "cosine_with_warmup")
            for dtype in (torch.float32, torch.float64)
        ],
        "schedules": {
            name: {
                "total_steps": TOTAL,
                "warmup_steps": 0 if name == "cosine_without_warmup" else WARMUP,
                "factors": factors(make),
            }
            for name, make in SCHEDULES.items()
        },
    }
    print(json.dumps(result, allow_nan=False))


if __name__ == "__main__":
    main()
