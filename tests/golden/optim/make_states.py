"""Generates reference numbers for AdamW with 8-bit moments and for Adafactor.

    python make_states.py > states.json

Requires torch, transformers and bitsandbytes. The output is deterministic; the committed file is from torch 2.11,
transformers 5.24 and bitsandbytes 0.50.2 on a CPU.

Parameters, gradients and weights follow from a formula, so the file does not include them: element i of a tensor is
sin(a·i + b)·c, see `wave`.

states.json
  maps               bitsandbytes' dynamic maps: `signed`, `unsigned`
  adamw_8bit         bitsandbytes' update with its default, exact quantisation: per step the first 8 elements of
                     the weights, their sum, and the sum of the codes of each moment, for a matrix of 64 x 70
  adafactor          transformers' Adafactor(scale_parameter=False, relative_step=False): per step the first 8
                     elements and the sum, for a matrix of 6 x 5 and for a vector of 7
"""

import json
import math

import bitsandbytes.functional as F
import torch
from bitsandbytes.backends.cpu import ops as cpu
from transformers.optimization import Adafactor

STEPS = 12
LR = 0.01
DECAY = 0.1


def wave(size, a, b, c):
    return torch.tensor([math.sin(a * i + b) * c for i in range(size)], dtype=torch.float64).float()


def gradient(size, step):
    # Magnitudes differ strongly within a block.
    spread = torch.tensor([10.0 ** -(i % 5) for i in range(size)], dtype=torch.float64).float()
    return wave(size, 0.37, step, 1.0 + step) * spread


def nearest(A, code, blocksize):
    # bitsandbytes' default kernel agrees with its CUDA kernels; its CPU library looks values up in a table.
    flat = A.reshape(-1).float()
    bounds = (code[:-1] + code[1:]) / 2
    codes, largest = [], []
    for start in range(0, flat.numel(), blocksize):
        block = flat[start : start + blocksize]
        most = block.abs().max()
        whole = block.numel() == blocksize
        scaled = block * (1.0 / most.clamp(min=1e-38)) if whole else block / most.clamp(min=1e-38)
        codes.append(torch.bucketize(scaled.clamp(-1, 1), bounds, out_int32=True).to(torch.uint8))
        largest.append(most)
    return torch.cat(codes).reshape(A.shape), torch.stack(largest)


def quantised(A, code, absmax_out, out, blocksize):
    codes, largest = nearest(A, code, blocksize)
    out.copy_(codes)
    absmax_out.copy_(largest)


def unpacked(A, absmax, code, blocksize):
    values = code[A.reshape(-1).long()] * absmax.repeat_interleave(blocksize)[: A.numel()]
    return values.reshape(A.shape)


def adamw_8bit():
    cpu._quant_blockwise_fp32_direct = quantised
    cpu._dequant_blockwise_fp32_direct = unpacked
    shape = (64, 70)
    size = shape[0] * shape[1]
    p = wave(size, 0.11, 0.5, 0.3).reshape(shape)
    maps = [F.create_dynamic_map(signed) for signed in (True, False)]
    states = [torch.zeros(shape, dtype=torch.uint8) for _ in maps]
    largest = [torch.zeros(-(size // -256)) for _ in maps]
    steps = []
    for step in range(1, STEPS + 1):
        g = gradient(size, step).reshape(shape)
        cpu._optimizer_update_8bit_blockwise_cpu(
            "adam", g, p, *states, 0.9, 0.999, 0.0, 0.0, 1e-8, step, LR, *maps, *largest, DECAY, 0.5
        )
        steps.append(shown(p, codes=[state.long().sum().item() for state in states]))
    return {"signed": maps[0].tolist(), "unsigned": maps[1].tolist()}, steps


def shown(p, **more):
    return {"first": p.reshape(-1)[:8].tolist(), "sum": p.double().sum().item(), **more}


def adafactor():
    all = {}
    for name, shape in [("matrix", (6, 5)), ("vector", (7,))]:
        size = math.prod(shape)
        p = torch.nn.Parameter(wave(size, 0.11, 0.5, 0.3).reshape(shape))
        decay = DECAY if len(shape) > 1 else 0.0
        optimiser = Adafactor([p], lr=LR, scale_parameter=False, relative_step=False, weight_decay=decay)
        all[name] = []
        for step in range(1, STEPS + 1):
            p.grad = 0.5 * gradient(size, step).reshape(shape)
            optimiser.step()
            all[name].append(shown(p.detach()))
    return all


if __name__ == "__main__":
    maps, steps = adamw_8bit()
    print(json.dumps({"maps": maps, "adamw_8bit": steps, "adafactor": adafactor()}))
