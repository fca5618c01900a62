"""Renders the chat templates of templates.json with transformers: jinja2's result for each kind of
expression.

  python make_templates.py     (transformers 5.24, jinja2 3.1; rewrites templates.json beside itself)

templates.json has conversations, and cases: a name, a template, and for each conversation the text that
transformers renders, or null where jinja2 fails.
"""

import json
import os
import pathlib

os.environ["HF_HUB_OFFLINE"] = "1"

import transformers as hf

HERE = pathlib.Path(__file__).parent
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def main():
    path = HERE / "templates.json"
    golden = json.loads(path.read_text())
    tokenizer = hf.AutoTokenizer.from_pretrained(HERE / "plain", **SPECIAL, pad_token=None)
    for case in golden["cases"]:
        case["texts"] = []
        for turns in golden["conversations"]:
            try:
                text = tokenizer.apply_chat_template(turns, chat_template=case["template"], tokenize=False)
            except Exception:
                text = None
            case["texts"].append(text)
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in golden["cases"])
    turns = ",\n".join(json.dumps(turns, ensure_ascii=False) for turns in golden["conversations"])
    path.write_text(f'{{"conversations": [\n{turns}\n],\n"cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
