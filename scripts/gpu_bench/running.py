"""Runs commands with time limits, with the libraries of the installed torch, and watches the GPU's memory."""

import contextlib
import ctypes
import importlib.util
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path


class GpuMemory:
    """The most memory in use on the first GPU above what was in use at first, by the driver's library."""

    def __init__(self):
        self.most, self.after, self.device = 0, 0.0, ctypes.c_void_p()
        try:
            self.library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            self.library = None
            return
        failed = self.library.nvmlInit_v2()
        if failed or self.library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self.device)):
            self.library = None
            return
        self.floor = self.used()
        threading.Thread(target=self.watch, daemon=True).start()

    def used(self):
        total_free_used = (ctypes.c_ulonglong * 3)()
        failed = self.library.nvmlDeviceGetMemoryInfo(self.device, total_free_used)
        return 0 if failed else total_free_used[2] >> 20

    def watch(self):
        while True:
            if time.monotonic() >= self.after:
                self.most = max(self.most, self.used() - self.floor)
            time.sleep(0.02)

    def taken(self):
        """Returns the most since the last call in MiB, None without a GPU."""
        most, self.most = self.most, 0
        return most if self.library else None

    def pause(self):
        """Looks away for a moment, in which a program frees what its last line was about."""
        self.after = time.monotonic() + 0.25


def environment(device):
    """Returns variables with which binaries log warnings and find CUDA's libraries beside the installed torch."""
    variables = dict(os.environ, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", RUST_LOG="warn")
    spec = importlib.util.find_spec("torch")
    if spec is None or device == "cpu":
        return variables
    torch = Path(spec.origin).parent
    folders = [torch / "lib", *sorted((torch.parent / "nvidia").glob("*/lib"))]
    known = variables.get("LD_LIBRARY_PATH")
    variables["LIBTORCH"] = str(torch)
    variables["LD_LIBRARY_PATH"] = ":".join([*map(str, folders), *([known] if known else [])])
    return variables


def execute(command, variables, log, limit, heard=lambda text: None, cwd=None):
    """Runs a command with its messages in a log and calls `heard` with each line.

    Returns why it failed, or None.
    """
    with open(log, "w") as messages:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            errors="replace",
            env=variables,
            cwd=cwd,
            start_new_session=True,
        )
        late = threading.Event()

        def end():
            # It may have ended by itself.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        def end_late():
            late.set()
            end()

        timer = threading.Timer(max(1.0, limit), end_late)
        timer.start()
        try:
            for text in process.stdout:
                heard(text)
            status = process.wait()
        except BaseException:
            # An error of `heard`, or Ctrl-C: what runs on would disturb what is measured next.
            end()
            process.wait()
            raise
        finally:
            timer.cancel()
            process.stdout.close()
    if late.is_set():
        return f"not done after {limit:.0f} s"
    if status:
        said = [text for text in Path(log).read_text(errors="replace").splitlines() if text.strip()]
        return f"status {status}: " + " | ".join(said[-3:])[-600:]
    return None


def slower(log):
    """Returns the warnings in a log that a fast path of the GPU is off, so that figures are not the card's."""
    texts = Path(log).read_text(errors="replace").splitlines()
    return [text.strip() for text in texts if re.search(r"so (computation|training) is slower", text)]
