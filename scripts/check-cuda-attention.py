#!/usr/bin/env python3
"""Checks and times the CUDA attention kernels without building anything.

Compiles pcrm-core/src/cuda/attention.cu by NVRTC through CuPy, compares values and gradients with attention in
float64 on random ragged trees, and times the shape of a reward model's step. Prints relative errors, one line for
each case, and exits with 1 if any exceeds 1e-2. Needs an NVIDIA GPU of compute capability 8.0 or newer, CuPy and
PyTorch:

    python3 scripts/check-cuda-attention.py
"""

import math
import pathlib
import random
import sys

import cupy
import numpy
import torch

SOURCE = pathlib.Path(__file__).resolve().parent.parent / "pcrm-core/src/cuda/attention.cu"
TILE = 64
FAR = 1 << 29
TOLERANCE = 1e-2
# The steps of the longest item of the gradient of k and v.
STEPS_AT_ONCE = 64


class Kernels:
    """The kernels for one head dimension, with the shared memory that each needs."""

    def __init__(self, dim, source):
        step = 64 if dim == 64 else 32
        row = (dim + 8) * 2
        queries = (2 * TILE + 4 * step) * row
        shared = {
            "forward": 5 * TILE * row,
            "levels": 0,
            "backward_queries": queries,
            "backward_keys": queries + 6 * step * 4,
            "sum_keys": 0,
        }
        module = cupy.RawModule(code=source, options=(f"-DDIM={dim}", "--std=c++17"), backend="nvrtc")
        self.shared = shared
        self.functions = {}
        for name, size in shared.items():
            function = module.get_function(f"attention_{name}")
            if size > 48 * 1024:
                function.max_dynamic_shared_size_bytes = size
            self.functions[name] = function

    def launch(self, name, grid, *operands):
        values = []
        for operand in operands:
            if isinstance(operand, torch.Tensor):
                values.append(numpy.uint64(operand.data_ptr()))
            elif isinstance(operand, float):
                values.append(numpy.float32(operand))
            else:
                values.append(numpy.int32(operand))
        with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
            self.functions[name](grid, (128,), tuple(values), shared_mem=self.shared[name])


class Plan:
    """The blocks, items and indices of a tree of (length, parent) segments, as the Rust code makes them."""

    def __init__(self, segments, asked, back, ahead, group):
        starts, positions_from = [], []
        rows = 0
        for length, parent in segments:
            starts.append(rows)
            positions_from.append(0 if parent is None else positions_from[parent] + segments[parent][0])
            rows += length
        self.rows, self.back, self.ahead = rows, back, ahead
        blocks, chain, positions = [], [], []
        asked = list(range(rows)) if asked is None else asked
        self.queries = len(asked)
        key_blocks = [
            (at, first, min(TILE, segments[at][0] - first))
            for at in range(len(segments))
            for first in range(0, segments[at][0], TILE)
        ]
        self.asking = []
        first_query = 0
        for at, (length, _) in enumerate(segments):
            own = [row for row in asked if starts[at] <= row < starts[at] + length]
            if not own:
                continue
            line, up = [], at
            while up is not None:
                line.insert(0, up)
                up = segments[up][1]
            keys = [row for one in line for row in range(starts[one], starts[one] + segments[one][0])]
            depth = [positions_from[at] + row - starts[at] for row in own]
            self.asking.append((first_query, depth, keys))
            for part in range(0, len(own), TILE):
                some = depth[part : part + TILE]
                begin, end = max(0, some[0] - back), min(len(keys), some[-1] + ahead + 1)
                blocks.append((first_query + part, len(some), len(chain), begin, end, set(line)))
            chain.extend(keys)
            positions.extend(depth)
            first_query += len(own)
        blocks.sort(key=lambda block: block[3] - block[4])
        items, all_keys, visits, slots = [], [], [], 0
        most = max(1, STEPS_AT_ONCE // group)
        for at, first, count in key_blocks:
            position = positions_from[at] + first
            seeing = [
                number
                for number, block in enumerate(blocks)
                if at in block[5] and block[3] < position + count and block[4] > position
            ]
            begins = range(0, len(seeing), most)
            all_keys.append((starts[at] + first, count, slots, len(begins)))
            for begin in begins:
                part = seeing[begin : begin + most]
                items.append(
                    (starts[at] + first, count, position, len(visits), len(visits) + len(part), slots)
                )
                visits.extend(part)
                slots += 1
        items.sort(key=lambda item: item[3] - item[4])
        self.slots = slots
        self.counts = (len(blocks), len(items), len(all_keys))
        upload = lambda numbers: torch.tensor(numbers, dtype=torch.int32, device="cuda").flatten()
        self.blocks, self.chain = upload([block[:5] for block in blocks]), upload(chain)
        self.positions, self.items = upload(positions), upload(items)
        self.visits, self.all_keys = upload(visits), upload(all_keys)


def forward(kernels, plan, q, k, v, scale):
    queries, heads, _ = q.shape
    out = torch.empty_like(q)
    totals = torch.empty(heads, queries, dtype=torch.float32, device="cuda")
    kernels.launch(
        "forward",
        (plan.counts[0] * heads,),
        q,
        k,
        v,
        out,
        totals,
        plan.blocks,
        plan.chain,
        plan.positions,
        heads,
        k.shape[1],
        queries,
        plan.back,
        plan.ahead,
        scale,
    )
    return out, totals


def backward(kernels, plan, q, k, v, scale, out, totals, gradient):
    queries, heads, dim = q.shape
    kv_heads = k.shape[1]
    levels = torch.empty_like(totals)
    kernels.launch("levels", (-(-queries * heads // 4),), out, gradient, levels, heads, queries)
    d_q, d_k, d_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    sizes = (heads, kv_heads, queries, plan.back, plan.ahead, scale)
    kernels.launch(
        "backward_queries",
        (plan.counts[0] * heads,),
        q,
        k,
        v,
        gradient,
        totals,
        levels,
        d_q,
        plan.blocks,
        plan.chain,
        plan.positions,
        *sizes,
    )
    parts = torch.empty(plan.slots, 2, TILE, kv_heads, dim, dtype=torch.float32, device="cuda")
    kernels.launch(
        "backward_keys",
        (plan.counts[1] * kv_heads,),
        q,
        k,
        v,
        gradient,
        totals,
        levels,
        parts,
        plan.blocks,
        plan.items,
        plan.visits,
        plan.positions,
        *sizes,
    )
    kernels.launch("sum_keys", (plan.counts[2], TILE // 8, 2), parts, d_k, d_v, plan.all_keys, kv_heads)
    return d_q, d_k, d_v


def reference(plan, q, k, v, scale):
    """Attention in float64, a segment at a time."""
    group = q.shape[1] // k.shape[1]
    outputs = []
    for first, depth, keys in plan.asking:
        some = q[first : first + len(depth)].transpose(0, 1)
        its_keys = k[keys].repeat_interleave(group, 1).transpose(0, 1)
        its_values = v[keys].repeat_interleave(group, 1).transpose(0, 1)
        at = torch.tensor(depth, device="cuda")[:, None]
        key = torch.arange(len(keys), device="cuda")[None, :]
        seen = (key <= at + plan.ahead) & (key >= at - plan.back)
        scores = (some @ its_keys.transpose(1, 2) * scale).masked_fill(~seen, -math.inf)
        outputs.append((scores.softmax(2) @ its_values).transpose(0, 1))
    return torch.cat(outputs)


def operands(plan, heads, kv_heads, dim):
    of_queries, of_keys = (plan.queries, heads, dim), (plan.rows, kv_heads, dim)
    shapes = [of_queries, of_keys, of_keys, of_queries]
    return [torch.randn(shape, device="cuda").to(torch.bfloat16) for shape in shapes]


def check(kernels, what, segments, asked, back, ahead, heads, kv_heads, dim):
    plan = Plan(segments, asked, back, ahead, heads // kv_heads)
    q, k, v, gradient = operands(plan, heads, kv_heads, dim)
    scale = 1 / math.sqrt(dim)
    out, totals = forward(kernels, plan, q, k, v, scale)
    got = [out, *backward(kernels, plan, q, k, v, scale, out, totals, gradient)]
    again = backward(kernels, plan, q, k, v, scale, out, totals, gradient)
    leaves = [x.double().requires_grad_() for x in (q, k, v)]
    value = reference(plan, *leaves, scale)
    want = [value, *torch.autograd.grad(value, leaves, gradient.double())]
    # A query that sees one key has no gradient: such errors are relative to a hundredth of the values.
    norm, most = value.norm() / 100, value.abs().max() / 100
    errors = [((x.double() - y).norm() / y.norm().clamp_min(norm)).item() for x, y in zip(got, want)]
    worst = [((x.double() - y).abs().max() / y.abs().max().clamp_min(most)).item() for x, y in zip(got, want)]
    same = all(torch.equal(x, y) for x, y in zip(got[1:], again))
    fine = (
        same and all(error < TOLERANCE for error in errors) and all(error < 2 * TOLERANCE for error in worst)
    )
    names = ("out", "dq", "dk", "dv")
    numbers = " ".join(f"{name} {error:.1e}/{most:.1e}" for name, error, most in zip(names, errors, worst))
    verdict = "ok  " if fine else "FAIL"
    print(f"{verdict} {what}, {heads}/{kv_heads} heads of {dim}: {numbers}{'' if same else ', other bits'}")
    return fine


def random_tree(generator):
    segments = []
    for _ in range(generator.randint(1, 4)):
        root = len(segments)
        segments.append((generator.choice([1, 5, 63, 64, 65, 130, generator.randint(1, 300)]), None))
        for _ in range(generator.randint(0, 4)):
            parent = generator.randint(root, len(segments) - 1)
            segments.append((generator.choice([1, 2, 64, generator.randint(1, 200)]), parent))
    return segments


def timed(run):
    for _ in range(3):
        run()
    starts, ends = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    starts.record()
    for _ in range(20):
        run()
    ends.record()
    torch.cuda.synchronize()
    return starts.elapsed_time(ends) / 20 / 1000


def time_training(kernels, heads, kv_heads, dim, pairs):
    generator = random.Random(7)
    segments = []
    for pair in range(pairs):
        segments.append((500, None))
        segments.extend((generator.randint(441, 500), 3 * pair) for _ in range(2))
    plan = Plan(segments, None, FAR, 0, heads // kv_heads)
    q, k, v, gradient = operands(plan, heads, kv_heads, dim)
    scale = 1 / math.sqrt(dim)
    out, totals = forward(kernels, plan, q, k, v, scale)
    seen = sum(position + 1 for _, depth, _ in plan.asking for position in depth)
    operations = 4 * seen * heads * dim
    ahead = timed(lambda: forward(kernels, plan, q, k, v, scale))
    back = timed(lambda: backward(kernels, plan, q, k, v, scale, out, totals, gradient))
    print(
        f"{pairs} pairs, {heads}/{kv_heads} heads of {dim}: forward {ahead * 1e6:.0f} us, "
        f"{operations / ahead / 1e12:.0f} TFLOP/s; backward {back * 1e6:.0f} us, "
        f"{2.5 * operations / back / 1e12:.0f} TFLOP/s"
    )


def main():
    torch.manual_seed(1)
    source = SOURCE.read_text()
    kernels = {dim: Kernels(dim, source) for dim in (64, 128)}
    generator = random.Random(1)
    fine = True
    for case in range(16):
        segments = random_tree(generator)
        rows = sum(length for length, _ in segments)
        ends, end = [], 0
        for length, _ in segments:
            end += length
            ends.append(end - 1)
        asked = [None, ends, sorted(generator.sample(range(rows), max(1, rows // 3)))][case % 3]
        what, back, ahead = [
            ("causal", FAR, 0),
            ("window of 40", 39, 0),
            ("full", FAR, FAR),
            ("within 20", 20, 20),
            ("window of 1", 0, 0),
        ][case % 5]
        which = ["all rows", "ends", "a third of the rows"][case % 3]
        for heads, kv_heads, dim in [(14, 2, 64), (32, 8, 128), (4, 4, 64)]:
            name = f"{len(segments)} segments, {rows} rows, {what}, {which}"
            fine &= check(kernels[dim], name, segments, asked, back, ahead, heads, kv_heads, dim)
    print(torch.cuda.get_device_name())
    for heads, kv_heads, dim, pairs in [(14, 2, 64, 8), (14, 2, 64, 32), (32, 8, 128, 8)]:
        time_training(kernels[dim], heads, kv_heads, dim, pairs)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
