"""Calls a Python reward function for pcrm: a JSON object per line in, one per line out.

The function is recognised by the names of its parameters and called as TRL, OpenRLHF or verl calls it.
"""

import asyncio
import importlib
import importlib.util
import inspect
import json
import math
import os
import sys
import traceback
from types import SimpleNamespace

FORMS = """expected a function of TRL's parameters (prompts, completions, completion_ids, **kwargs), \
of OpenRLHF's (queries, prompts, labels) or of verl's (data_source, solution_str, ground_truth, extra_info)"""


class Unusable(Exception):
    """What is wrong with a function or its data; no traceback is needed to see it."""


def connect():
    """Keeps the protocol to itself: what the function prints goes to stderr, and it reads nothing."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    sys.stdout = sys.stderr
    return requests, answers


def load(path, name):
    """The function of this name in a file, or in a module that Python finds."""
    if path.endswith(".py"):
        path = os.path.abspath(path)
        sys.path.insert(0, os.path.dirname(path))
        stem = os.path.splitext(os.path.basename(path))[0]
        if stem in sys.modules or stem in getattr(sys, "stdlib_module_names", ()):
            stem = f"reward_{stem}"  # A file json.py takes no module's place.
        spec = importlib.util.spec_from_file_location(stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[stem] = module
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, os.getcwd())
        module = importlib.import_module(path)
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise Unusable(f"{path} has no {name}; it has: {', '.join(public) or 'no function'}")
        found = getattr(found, part)
    if not callable(found):
        raise Unusable(f"{path}: {name} is {type(found).__name__}; expected a function")
    return found


def form_of(function):
    parameters = inspect.signature(function).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for form, keys in (("verl", ["solution_str"]), ("verl-batch", ["solution_strs"]), ("openrlhf", ["queries"])):
        if any(key in parameters for key in keys):
            return form
    if takes_any or any(key in parameters for key in ("prompts", "completions", "completion_ids")):
        return "trl"
    raise Unusable(f"the function takes ({', '.join(parameters)}); {FORMS}")


def call(function, arguments):
    """Calls the function with those of the arguments that it takes."""
    signature = inspect.signature(function)
    parameters = signature.parameters
    given = ", ".join(arguments)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        arguments = {key: value for key, value in arguments.items() if key in parameters}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise Unusable(f"the function cannot be called: {error}; it may take {given}")
    result = function(**arguments)
    return asyncio.run(result) if inspect.isawaitable(result) else result


def as_list(values):
    values = values.tolist() if hasattr(values, "tolist") else values
    return list(values) if isinstance(values, (list, tuple)) else [values]


def number(value):
    """A reward for JSON, which has no NaN: pcrm refuses the text in its place and says so."""
    if value is None:
        return None
    value = float(value)
    return value if math.isfinite(value) else str(value)


def measure(value):
    """A number for the metrics; one that is not finite is left out of them."""
    value = number(value)
    return None if isinstance(value, str) else value


def cell(value):
    """A value for a table of samples."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


def is_number(value):
    return isinstance(value, (int, float)) or (hasattr(value, "item") and getattr(value, "ndim", 0) == 0)


def column(request, names, default):
    for name in names:
        if name in request["columns"]:
            return request["columns"][name]
    return [default] * len(request["completions"])


def by_trl(function, request, answer, label):
    def log_extra(name, values):
        answer["columns"][name] = [cell(value) for value in as_list(values)]

    def log_metric(name, value):
        answer["logs"].setdefault(name, []).append(measure(value))

    completions = [
        [{"role": "assistant", "content": text}] if isinstance(prompt, list) else text
        for prompt, text in zip(request["prompts"], request["completions"])
    ]
    arguments = dict(request["columns"])
    arguments.update(
        prompts=request["prompts"],
        completions=completions,
        completion_ids=request["completion_ids"],
        trainer_state=SimpleNamespace(global_step=request["step"]),
        log_extra=log_extra,
        log_metric=log_metric,
    )
    answer["rewards"] = [number(value) for value in as_list(call(function, arguments))]


def by_openrlhf(function, request, answer, label):
    arguments = {
        "queries": request["sequences"],
        "prompts": request["prompt_texts"],
        "labels": column(request, [label] if label else ["label", "labels"], None),
    }
    result = call(function, arguments)
    rewards = result
    if isinstance(result, dict):
        rewards = result["rewards"]
        logs = dict(result.get("extra_logs") or {})
        if result.get("scores") is not None:
            logs["scores"] = result["scores"]
        answer["logs"] = {name: [measure(value) for value in as_list(values)] for name, values in logs.items()}
    answer["rewards"] = [number(value) for value in as_list(rewards)]


def truths(request, label):
    """The ground truth of every row: verl's data have it in `reward_model`."""
    columns = request["columns"]
    if label:
        return columns[label]
    if "reward_model" in columns:
        return [row["ground_truth"] for row in columns["reward_model"]]
    if "ground_truth" in columns:
        return columns["ground_truth"]
    has = ", ".join(columns) or "none"
    raise Unusable(
        "the function wants ground_truth; expected a column reward_model with ground_truth, or ground_truth "
        f"(columns: {has})"
    )


def by_verl(function, request, answer, label):
    sources = column(request, ["data_source"], "")
    infos = [info or {} for info in column(request, ["extra_info"], None)]
    rows = list(zip(sources, request["completions"], truths(request, label), infos))
    if form_of(function) == "verl":
        keys = ("data_source", "solution_str", "ground_truth", "extra_info")
        results = [call(function, dict(zip(keys, row))) for row in rows]
    else:
        keys = ("data_sources", "solution_strs", "ground_truths", "extra_infos")
        results = as_list(call(function, {key: [row[at] for row in rows] for at, key in enumerate(keys)}))
    answer["rewards"] = []
    for result in results:
        if isinstance(result, dict):
            answer["rewards"].append(number(result["score"]))
            for key, value in result.items():
                if key != "score" and is_number(value):
                    answer["logs"].setdefault(key, []).append(measure(value))
        else:
            answer["rewards"].append(number(result[0] if isinstance(result, (list, tuple)) else result))


FORMS_BY_NAME = {"trl": by_trl, "openrlhf": by_openrlhf, "verl": by_verl, "verl-batch": by_verl}


def said(error):
    """The traceback without the lines of this file, which runs as <string>."""
    if isinstance(error, Unusable):
        return str(error)
    lines = error.__traceback__
    while lines is not None and lines.tb_frame.f_code.co_filename == "<string>" and lines.tb_next is not None:
        lines = lines.tb_next
    return "".join(traceback.format_exception(type(error), error, lines)).rstrip()


def main():
    path, name, label = sys.argv[1:4]
    requests, answers = connect()

    def write(answer):
        print(json.dumps(answer), file=answers, flush=True)

    try:
        function = load(path, name)
        form = form_of(function)
    except BaseException as error:
        write({"ready": False, "error": said(error)})
        return 1
    write({"ready": True, "form": form})
    for line in requests:
        request = json.loads(line)
        answer = {"id": request["id"], "rewards": [], "logs": {}, "columns": {}}
        try:
            FORMS_BY_NAME[form](function, request, answer, label)
        except (Exception, SystemExit) as error:
            answer = {"id": request["id"], "error": said(error)}
        write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
