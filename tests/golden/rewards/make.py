"""Writes rules.json: rewards of TRL's own functions for the rules that copy them. Made with trl 1.16."""

import json
import random
from pathlib import Path

from trl.rewards import get_repetition_penalty_reward, get_soft_overlong_punishment, think_format_reward

THOUGHTS = [
    "<think>\nReasons.\n</think>\nAnswer.",
    "<think>Reasons.</think>",
    "<think></think>x",
    "<think>Reasons.\nAnswer.",
    " <think>a</think>b",
    "<think>a<think>b</think>c",
    "<think>a</think>b<think>c</think>",
    "<think>a</think>b</think>c",
    "x\n<think>a</think>",
    "</think><think>",
    "",
]


def case(rule, function, completions, ids):
    messages = [[{"role": "assistant", "content": text}] for text in completions]
    rewards = function(completions=messages, completion_ids=ids)
    return {"rule": rule, "completions": completions, "completion_ids": ids, "rewards": rewards}


def main():
    rng = random.Random(0)
    drawn = [[rng.randrange(4) for _ in range(length)] for length in (0, 1, 2, 3, 4, 7, 10, 20, 40)]
    drawn += [[5] * 9, list(range(12))]
    blank = [""] * len(drawn)
    cases = [case({"kind": "format"}, think_format_reward, THOUGHTS, [[]] * len(THOUGHTS))]
    for size, penalty in ((1, -1.0), (2, -1.0), (3, -1.0), (3, -0.3), (5, -2.0)):
        rule = {"kind": "repetition", "ngram": size, "penalty": penalty}
        cases.append(case(rule, get_repetition_penalty_reward(size, penalty), blank, drawn))
    for longest, cache in ((20, 10), (10, 10), (12, 3), (9, 0), (100, 61)):
        rule = {"kind": "overlong", "max": longest, "cache": cache}
        cases.append(case(rule, get_soft_overlong_punishment(longest, cache), blank, drawn))
    path = Path(__file__).with_name("rules.json")
    path.write_text(json.dumps({"cases": cases}) + "\n")


main()
