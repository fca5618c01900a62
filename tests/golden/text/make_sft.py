"""Makes golden data: the inputs that TRL's SFTTrainer makes from made-up rows.

  python make_sft.py        (torch, transformers 5.24, tokenizers 0.23, trl 1.16; writes sft.json beside itself)

Tokenizers are the folders of make_golden.py; `templates` holds chat templates by name: `marked` has
generation marks, the others are published ones, for which TRL trains with a variant that has marks. Cases
hold the tokenizer, the template (none for the folder's own), SFTConfig's fields, the rows, and for each row
that TRL keeps its input_ids and the mask of its labels. `stops` records which templates mark the end of
turns, and `prompts` holds prompts with the ids that GRPOTrainer generates from.
"""
import json
import pathlib

import transformers as hf
from datasets import Dataset
from trl import SFTConfig, SFTTrainer
from trl.chat_template_utils import get_training_chat_template, has_generation_markers, is_chat_template_stop_token_trained
import trl

HERE = pathlib.Path(__file__).parent
PUBLISHED = pathlib.Path(trl.__file__).parent / "chat_templates"
MARKED = (
    "{%- for m in messages %}\n"
    "    {%- if m.role == 'assistant' %}\n"
    "        {{- '<|im_start|>assistant\\n' }}\n"
    "        {%- generation %}\n"
    "        {{- m.content + '<|im_end|>\\n' }}\n"
    "        {%- endgeneration %}\n"
    "    {%- else %}\n"
    "        {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}\n"
    "    {%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
# The marks are inside words, so that tokens overlap their ends.
SPLIT = (
    "{% for m in messages %}{% if m.role == 'assistant' %}The{% generation %} {{ m.content | trim }}"
    "{% endgeneration %}est 🙂{% else %}{{ m.content }}{% endif %}{% endfor %}"
)
TEMPLATES = {"marked": MARKED, "split": SPLIT} | {
    name: (PUBLISHED / f"{name}.jinja").read_text(encoding="utf-8")
    for name in ["gemma", "gemma3", "llama3", "qwen2_5", "qwen3", "qwen3_instruct_2507"]
}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


TEXT = [
    {"text": "The red fox jumps over the lazy brown dog."},
    {"text": "The sea is wide.</s>"},
    {"text": "naïve 我喜欢茶 🙂"},
    {"text": "x " * 30},
]
COMPLETION = [
    {"prompt": "What is the capital of Peru?", "completion": " The capital of Peru is Lima."},
    # The prompt's last token merges with the completion's first.
    {"prompt": "Write: for", "completion": "est"},
    {"prompt": "Grüße, 我", "completion": "喜欢茶。 🙂</s>"},
    {"prompt": "", "completion": "dog"},
    {"prompt": "x " * 40, "completion": "yes"},
]
CHAT = [
    {"prompt": [user("What is the capital of Peru?")], "completion": [assistant("Lima.")]},
    {"prompt": [user("Hi"), assistant("Hello 🙂"), user(" A poem? ")], "completion": [assistant("The sea is wide.")]},
    {"prompt": [user("x " * 40)], "completion": [assistant("yes")]},
]
TURNS = [
    {"prompt": [user("A poem?")], "completion": [assistant("The sea 🙂"), user("More"), assistant("deep")]},
]
MESSAGES = [{"messages": row["prompt"] + row["completion"]} for row in CHAT + TURNS]


def main():
    cases, stops = [], {}

    def case(name, folder, template, rows, **fields):
        made = hf.AutoTokenizer.from_pretrained(HERE / folder)
        if template:
            made.chat_template = TEMPLATES[template]
        config = SFTConfig(output_dir="/tmp/unused", report_to="none", use_cpu=True, bf16=False, **fields)
        # SFTTrainer.__init__ sets these before it prepares the data.
        trainer = SFTTrainer.__new__(SFTTrainer)
        trainer._tokenizer = made
        trainer.chat_template = None
        if config.assistant_only_loss and not has_generation_markers(made.chat_template):
            trainer.chat_template = get_training_chat_template(made)
        if config.assistant_only_loss and folder == "plain":
            stops[template] = is_chat_template_stop_token_trained(made, chat_template=trainer.chat_template)
        trainer.completion_only_loss = config.completion_only_loss
        if config.completion_only_loss is None:
            trainer.completion_only_loss = "prompt" in rows[0] and "completion" in rows[0]
        marked = Dataset.from_list([{**row, "row": at} for at, row in enumerate(rows)])
        done = trainer._prepare_dataset(marked, made, config, False, None, "train")
        kept = [
            {"row": row["row"], "ids": row["input_ids"], "learned": "".join("01"[label != -100] for label in row["labels"])}
            for row in done
        ]
        cases.append({"name": name, "tokenizer": folder, "template": template, "config": fields, "rows": rows, "kept": kept})

    for folder in ["plain", "bos", "qwen2"]:
        for limit in [None, 24]:
            case("text", folder, None, TEXT, max_length=limit)
            case("completion", folder, None, COMPLETION, max_length=limit)
            case("chat", folder, None, CHAT, max_length=limit)
            case("messages", folder, None, MESSAGES, max_length=limit)
    case("everything", "plain", None, COMPLETION, max_length=None, completion_only_loss=False)
    for template in ["marked", "split"]:
        case("assistant", "plain", template, MESSAGES, max_length=None, assistant_only_loss=True)
        case("assistant", "plain", template, CHAT + TURNS, max_length=None, assistant_only_loss=True)
    case("assistant", "plain", "marked", MESSAGES, max_length=36, assistant_only_loss=True)
    for template in ["gemma", "gemma3", "llama3", "qwen2_5", "qwen3", "qwen3_instruct_2507"]:
        case("assistant", "plain", template, MESSAGES[:2], max_length=None, assistant_only_loss=True)
    case("assistant", "bos", "llama3", MESSAGES[:2], max_length=None, assistant_only_loss=True)
    prompts = []
    for folder in ["plain", "bos", "qwen2"]:
        made = hf.AutoTokenizer.from_pretrained(HERE / folder)
        for prompt in [row["prompt"] for row in COMPLETION[:3] + CHAT[:2]]:
            chat = isinstance(prompt, list)
            ids = made.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=True) if chat else made(prompt)
            prompts.append({"tokenizer": folder, "prompt": prompt, "ids": ids["input_ids"]})
    text = json.dumps({"templates": TEMPLATES, "stops": stops, "prompts": prompts, "cases": cases}, ensure_ascii=False)
    (HERE / "sft.json").write_text(text.replace('}, {"name"', '},\n{"name"') + "\n")


if __name__ == "__main__":
    main()
