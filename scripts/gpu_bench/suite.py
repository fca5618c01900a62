"""Runs the tests that concern a GPU from test binaries that were built elsewhere."""

import os
import re
import subprocess
import time

from gpu_bench.running import execute

LONGEST = 180
LISTING = 60  # seconds for the names of a binary's tests


def run(binaries, backend, device, tests, results, variables):
    """Runs the binaries, with `tests` the folder of the integration tests, and adds a line for each."""
    wanted = device_tests(tests)
    # Tests run beside each other; a thread for every core in each would slow them down.
    variables = {"OMP_NUM_THREADS": "4", **variables, "CARGO_MANIFEST_DIR": str(tests)}
    for binary in binaries:
        if results.left() < 5:
            results.skip(binary.name, "no time left")
            continue
        listing = {"capture_output": True, "text": True, "env": variables, "timeout": LISTING}
        try:
            listed = subprocess.run([binary, "--list"], **listing)
        except (OSError, subprocess.TimeoutExpired) as error:
            results.fail(binary.name, error)
            continue
        listed_names = [
            text[: -len(": test")] for text in listed.stdout.splitlines() if text.endswith(": test")
        ]
        # The test binary of a crate has none of them: all of its tests run.
        names = [name for name in listed_names if name in wanted] or listed_names
        if not names:
            results.fail(binary.name, listed.stderr[-300:] or "it lists no tests")
            continue
        threads = max(1, (os.cpu_count() or 2) // 2)
        command = [binary, "--exact", "--show-output", "--test-threads", threads, *names]
        log, said, started = results.folder / f"{results.part}-{binary.name}.log", [], time.monotonic()
        limit = min(LONGEST, results.left())
        why = execute(command, variables, log, limit, said.append, cwd=tests)
        text = "".join(said)
        log.write_text(text + log.read_text(errors="replace"))
        ended = dict(re.findall(r"^test (\S+) (?:- should panic )?\.\.\. (ok|FAILED|ignored)", text, re.M))
        failed = sorted(name for name, how in ended.items() if how == "FAILED")
        unfinished = [name for name in names if name not in ended]
        passed = list(ended.values()).count("ok")
        on = len(re.findall(rf"\b{backend}, cuda:0$", text, re.M))
        results.add(
            {
                "binary": binary.name,
                "passed": passed,
                "failed": failed,
                "unfinished": unfinished,
                "on_cuda": on,
                "run_s": round(time.monotonic() - started, 1),
                "text": f"{binary.name}: {passed} passed, {len(failed)} failed, {len(unfinished)} not done; "
                f"{on} runs on {backend}, cuda:0; {time.monotonic() - started:.0f} s",
            }
        )
        for name in failed:
            results.fail(name, message(name, text))
        if unfinished:
            results.fail(binary.name, f"{why}; did not end: {' '.join(unfinished)}")
        elif why and not failed:
            results.fail(binary.name, why)
        elif device == "cuda" and not on and names != listed_names:
            results.fail(binary.name, f"no test ran on {backend}, cuda:0: see {log}")


def message(name, text):
    """Returns what a failed test printed, without the devices that it names."""
    found = re.search(
        rf"^---- {re.escape(name)} stdout ----\n(.*?)(?=^---- |^failures:|\Z)", text, re.M | re.S
    )
    lines = [line.strip() for line in found[1].splitlines()] if found else []
    return " | ".join(line for line in lines if line and not re.match(r"(bf16 )?on |note: run with", line))[
        :400
    ]


def device_tests(folder):
    """Returns the tests that run on every backend and device, except those that start `pcrm` (by cargo).

    They call a public function of subject.rs, themselves or through functions beside them.
    """
    public = "|".join(re.findall(r"^pub fn (\w+)", (folder / "subject.rs").read_text(), re.M))
    found = set()
    for file in folder.glob("*.rs"):
        tests, bodies = functions(file.read_text())
        wanted = reaching(bodies, rf"\b({public})\(") - reaching(bodies, r"\bWorld::new\(")
        found |= {f"{file.stem}::{name}" for name in tests if name in wanted}
    return found


def functions(text):
    """Returns the names of a file's tests, and the bodies of its functions by name."""
    pieces = re.split(r"^((?:pub(?:\(\w+\))? )?fn \w+)", text, flags=re.M)
    names = [head.split()[-1] for head in pieces[1::2]]
    # The attributes of a function are at the end of the piece before it.
    attributes = [piece.rsplit("\n}\n")[-1] for piece in pieces[0::2]]
    tests = [name for name, before in zip(names, attributes) if "#[test]" in before]
    return tests, {name: body.split("\n}\n")[0] for name, body in zip(names, pieces[2::2])}


def reaching(bodies, what):
    """Returns the functions that have `what` in their bodies, or call such functions."""
    found = {name for name, body in bodies.items() if re.search(what, body)}
    calls = {name: set(re.findall(r"\b(\w+)\b", body)) & set(bodies) for name, body in bodies.items()}
    while more := {name for name, called in calls.items() if called & found} - found:
        found |= more
    return found
