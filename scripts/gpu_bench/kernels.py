"""GPU time by kernel, by scripts/kernel-times.cpp."""

import importlib.util
import os
import shutil
from pathlib import Path

from gpu_bench.results import say
from gpu_bench.running import execute, slower

LONGEST = 60


def library(source, results, variables):
    """Compiles the library with the CUDA headers of a toolkit or of Python; None, with a note, without."""
    compiler = shutil.which("g++") or shutil.which("clang++") or shutil.which("nvcc")
    if not compiler:
        results.skip("all", "no g++, clang++ or nvcc; --kernel-times takes a library compiled elsewhere")
        return None
    folders = []
    if spec := importlib.util.find_spec("torch"):
        packages = Path(spec.origin).parent.parent
        # CUPTI's headers include some that only Triton's folder has.
        folders += [packages / "nvidia", packages / "triton/backends/nvidia"]
    folders.append(Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")))
    headers = [header.parent for folder in folders for header in folder.glob("**/cupti.h")]
    libraries = [library for folder in folders for library in folder.glob("**/libcupti.so*")]
    if not headers or not libraries:
        results.skip("all", "no cupti.h or libcupti in CUDA_HOME or Python's nvidia packages")
        return None
    output = results.folder / "kernel-times.so"
    flags = ["-O2", "-std=c++17", "-shared", *(f"-I{header}" for header in headers)]
    flags += [f"-L{libraries[0].parent}", f"-l:{libraries[0].name}"]
    flags += ["-Xcompiler", "-fPIC"] if compiler.endswith("nvcc") else ["-fPIC"]
    log = results.folder / "kernel-times.log"
    why = execute([compiler, source, "-o", output, *flags], variables, log, 60)
    if why:
        results.skip("all", f"{source.name} does not compile: {why}")
    return None if why else output


def time_by_kernel(command, steps, name, shown, library, results, variables):
    """Runs a benchmark of training, with one step before the timed ones, and prints the longest kernels.

    `shown` is their number.
    """
    times = results.folder / f"kernels-{name}.tsv"
    times.unlink(missing_ok=True)
    more = {
        "CUDA_INJECTION64_PATH": str(library.resolve()),
        "KERNEL_TIMES": str(times),
        "KERNEL_TIMES_BETWEEN": "adam",  # the end of a step; leaves out the start and the matrix peak
    }
    limit = min(LONGEST, results.left() + 30)
    log = results.folder / f"kernels-{name}.log"
    why = execute(command, {**variables, **more}, log, limit)
    for warning in slower(log):
        results.fail(name, warning)
    if why or not times.exists():
        return results.fail(name, why or "CUDA did not load the library")
    head, *rows = [text.split("\t") for text in times.read_text().splitlines()]
    about = dict(zip(head[0::2], head[1::2]))
    launches, busy, span = int(about["launches"]), float(about["busy_ms"]), float(about["span_ms"])
    if about["between"] == "yes":
        text = (
            f"{name}: in a step {launches / steps:.0f} launches, the GPU busy {busy / steps:.1f} ms"
            f" of {span / steps:.1f} ms ({busy / max(span, 1e-9):.0%})"
        )
    else:
        text = f"{name}: no kernel is named adam; the whole run: {launches} launches, {busy:.0f} ms"
    if shown:
        say(f"{'ms/step':>9} {'launches':>9} {'share':>7}  kernel")
    for ms, count, share, kernel in rows[:shown]:
        say(f"{float(ms) / steps:9.2f} {int(count) / steps:9.1f} {share:>7}  {short(kernel)}")
    results.add({"model": name, "launches": launches, "busy_ms": busy, "span_ms": span, "text": text})


def short(kernel):
    for noise in ("void ", "at::native::", "(anonymous namespace)::", "cutlass::", "c10::"):
        kernel = kernel.replace(noise, "")
    return kernel[:100]
