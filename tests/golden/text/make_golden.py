"""Makes golden data: the inputs that TRL's RewardTrainer makes from made-up rows.

  python make_golden.py        (torch, transformers 5.23, tokenizers 0.23, trl 1.16; writes beside itself)

Folders `plain`, `bos` and `qwen2` are tokenizers saved by transformers; `bos` begins every text with <s>, and
`qwen2` is `plain` with the class Qwen2Tokenizer. `trl.json` holds cases: the tokenizer, max_length, the rows,
and TRL's chosen_ids and rejected_ids for each row that it keeps. `tokenize.json` holds texts with the ids of
tokenizer(text).
"""
import json
import pathlib

import transformers as hf
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from trl import RewardConfig, RewardTrainer

HERE = pathlib.Path(__file__).parent
TEXTS = [
    "The red fox jumps over the lazy brown dog and runs into the forest.",
    "What is the capital of Peru? The capital of Peru is Lima.",
    "Please write a short poem about the sea. The sea is wide, the sea is deep.",
    "Human: How do I boil an egg? Assistant: Put it into boiling water for seven minutes.",
    "In 1600 there were 1600 ships, 1600 of them red.",
    "Ich heiße Jürgen. 我喜欢茶。 🙂 naïve café",
]
PLAIN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BOS_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] | trim }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] | trim }}{{ eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)


def tokenizer(name):
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["</s>", "<pad>", "<s>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=384, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(TEXTS * 3, trainer)
    if name == "bos":
        bpe.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", bpe.token_to_id("<s>"))]
        )
        # Both must be ignored when training data is encoded.
        bpe.enable_padding(pad_id=1, pad_token="<pad>", length=48)
        bpe.enable_truncation(max_length=9)
    made = hf.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    made.chat_template = BOS_TEMPLATE if name == "bos" else PLAIN_TEMPLATE
    made.save_pretrained(HERE / name)
    if name == "bos":  # transformers resets them on saving
        path = HERE / name / "tokenizer.json"
        stored = json.loads(path.read_text())
        stored["truncation"] = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
        stored["padding"] = {"strategy": {"Fixed": 48}, "direction": "Right", "pad_to_multiple_of": None,
                             "pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>"}
        path.write_text(json.dumps(stored, ensure_ascii=False))
    if name == "qwen2":  # the class makes transformers split like Qwen2, whatever tokenizer.json has
        path = HERE / name / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": "Qwen2Tokenizer"}, indent=2))
    return hf.AutoTokenizer.from_pretrained(HERE / name)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


HH = [
    {"chosen": "\n\nHuman: How do I boil an egg?\n\nAssistant: Put it into boiling water.",
     "rejected": "\n\nHuman: How do I boil an egg?\n\nAssistant: Put it away."},
    {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: A poem?\n\nAssistant: The sea is wide.</s>",
     "rejected": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: A poem?\n\nAssistant: The sea is wide, the sea is deep."},
]
EXPLICIT = [
    {"prompt": "What is the capital of Peru?", "chosen": " The capital of Peru is Lima.", "rejected": " Lim", "margin": 0.5},
    # The prompt's last token merges with the answer's first, so the prompt is no prefix of the whole.
    {"prompt": "Write: for", "chosen": "est", "rejected": "ever", "margin": 2.0},
    {"prompt": "Grüße, 我", "chosen": "喜欢茶。 🙂", "rejected": "naïve café 🙃", "margin": 1.0},
    {"prompt": "", "chosen": "dog", "rejected": "dog and", "margin": 1.0},
    {"prompt": "x " * 20, "chosen": "yes", "rejected": "no, " * 12, "margin": 1.0},
]
CHAT = [
    {"prompt": [user("What is the capital of Peru?")], "chosen": [assistant("Lima.")], "rejected": [assistant("The sea.")]},
    {"prompt": [user("Hi"), assistant("Hello 🙂"), user(" A poem? ")], "chosen": [assistant("The sea is wide.")],
     "rejected": [assistant("The sea is wide"), user("More"), assistant("deep")]},
]
CHAT_IMPLICIT = [{"chosen": row["prompt"] + row["chosen"], "rejected": row["prompt"] + row["rejected"]} for row in CHAT]
SINGLE = ["", "Hi", " the sea  is\twide\n", "a</s>b", "<|im_start|>user\nHi<|im_end|>", "naïve 我喜欢茶 🙂 e\u0301", "In 1600, don't DON'T\n\n\n  x  "]


def main():
    cases, texts = [], []
    for name in ["plain", "bos", "qwen2"]:
        made = tokenizer(name)
        sets = [("hh", HH, None), ("explicit", EXPLICIT, None), ("explicit", EXPLICIT, 40), ("chat", CHAT, None),
                ("chat implicit", CHAT_IMPLICIT, None), ("chat", CHAT, 36)]
        for what, rows, limit in sets:
            config = RewardConfig(output_dir="/tmp/unused", max_length=limit, report_to="none", use_cpu=True, bf16=False)
            marked = Dataset.from_list([{**row, "row": at} for at, row in enumerate(rows)])
            done = RewardTrainer._prepare_dataset(None, marked, made, config, "train")
            kept = [{"row": row["row"], "chosen_ids": row["chosen_ids"], "rejected_ids": row["rejected_ids"]} for row in done]
            cases.append({"name": what, "tokenizer": name, "max_length": limit, "rows": rows, "kept": kept})
        for text in SINGLE:
            texts.append({"tokenizer": name, "text": text, "ids": made(text)["input_ids"]})
    (HERE / "trl.json").write_text(json.dumps(cases, ensure_ascii=False, indent=None).replace('}, {"name"', '},\n{"name"') + "\n")
    (HERE / "tokenize.json").write_text(json.dumps(texts, ensure_ascii=False).replace('}, {', '},\n{') + "\n")


if __name__ == "__main__":
    main()
