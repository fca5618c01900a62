"""Makes golden data: how transformers reads tokenizer folders, by class, settings and files, and renders chat
templates.

  python make_classes.py       (transformers 5.24, tokenizers 0.23, jinja2 3.1; writes beside itself)

`bases/` has small tokenizers of every model: byte-level BPE, SentencePiece BPE with byte fallback, unigram,
WordPiece. `classes.json` has cases: a base, changed keys of tokenizer.json (`patch`), the other files, texts,
and from transformers the class and the ids of each text with special tokens (`texts`) and without (`bare`),
and of conversations rendered by the template (`conversations`). `refused` marks folders that pcrm refuses by
name. `templates.json` has chat templates with messages and their rendering by transformers, or null where
jinja2 fails.
"""

import json
import os
import pathlib
import shutil
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.utils.chat_template_utils import render_jinja_template

hf.logging.set_verbosity(hf.logging.CRITICAL)
HERE = pathlib.Path(__file__).parent
CORPUS = [
    "The red fox jumps over the lazy brown dog and runs into the forest.",
    "What is the capital of Peru? The capital of Peru is Lima.",
    "Please write a short poem about the sea. The sea is wide, the sea is deep.",
    "Human: How do I boil an egg? Assistant: Put it into boiling water for seven minutes.",
    "In 1600 there were 1600 ships, 1600 of them red.",
    "Ich heiße Jürgen. 我喜欢茶。 🙂 naïve café",
    "user assistant system [INST] hello [/INST] think tools",
]
TEXTS = [
    "Hi the sea",
    "</s>a</s> b<s>",
    "<think>two</think> 4",
    "How do I boil an egg?\n",
    "  naïve 我🙂 DON'T 1600\n\n x",
    "",
]
CHAT = "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ eos_token }}{% endfor %}"
TURNS = [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "</s>Hello 🙂"}]]


def bases():
    made = {}
    special = ["<|endoftext|>", "<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<unk>", "<mask>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        CORPUS * 3,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made["bytes"] = bpe

    spm = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spm.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    spm.train_from_iterator(
        CORPUS * 3,
        trainers.BpeTrainer(
            vocab_size=480,
            special_tokens=["<unk>", "<s>", "</s>"] + fallback + ["<pad>"],
            show_progress=False,
        ),
    )
    stored = json.loads(spm.to_str())
    stored["added_tokens"] = [t for t in stored["added_tokens"] if not t["content"].startswith("<0x")]
    spm = Tokenizer.from_str(json.dumps(stored))
    spm.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    spm.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", spm.token_to_id("<s>"))]
    )
    made["sentence"] = spm

    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    unigram.train_from_iterator(
        CORPUS * 3,
        trainers.UnigramTrainer(
            vocab_size=200,
            special_tokens=["<pad>", "<unk>", "<s>", "</s>", "[CLS]", "[SEP]", "<mask>", "<cls>", "<sep>"],
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    made["unigram"] = unigram

    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer(lowercase=True)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece()
    words.train_from_iterator(
        CORPUS * 3,
        trainers.WordPieceTrainer(
            vocab_size=220,
            special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>"],
            show_progress=False,
        ),
    )
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    made["words"] = words
    for name, tokenizer in made.items():
        (HERE / "bases").mkdir(exist_ok=True)
        (HERE / "bases" / f"{name}.json").write_text(compact(json.loads(tokenizer.to_str())))


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


def of_class(base, name, model_type=None, patch=None, **settings):
    """A folder of a class."""
    files = {
        "tokenizer_config.json": {
            **({"tokenizer_class": name} if name else {}),
            **settings,
            "chat_template": CHAT,
        }
    }
    if model_type:
        files["config.json"] = {"model_type": model_type}
    return {"base": base, "files": files, **({"patch": patch} if patch else {})}


KINDS = {
    "bytes": [
        "GPT2Tokenizer",
        "CodeGenTokenizer",
        "GPTNeoXTokenizerFast",
        "Qwen2Tokenizer",
        "Qwen3_5Tokenizer",
        "CohereTokenizerFast",
        "RobertaTokenizer",
        "BartTokenizerFast",
        "BlenderbotTokenizer",
        "DebertaTokenizer",
        "CLIPTokenizer",
        "NougatTokenizerFast",
        "OpenAIGPTTokenizer",
        "HerbertTokenizer",
        "LlamaTokenizer",
        "PreTrainedTokenizerFast",
        "BloomTokenizerFast",
        "MyOwnTokenizer",
    ],
    "sentence": [
        "LlamaTokenizer",
        "LlamaTokenizerFast",
        "CodeLlamaTokenizerFast",
        "GemmaTokenizerFast",
        "Siglip2Tokenizer",
        "ReformerTokenizerFast",
        "Tipsv2Tokenizer",
        "MistralTokenizer",
        "PreTrainedTokenizerFast",
    ],
    "unigram": [
        "T5TokenizerFast",
        "XLMRobertaTokenizerFast",
        "AlbertTokenizerFast",
        "BarthezTokenizer",
        "BigBirdTokenizer",
        "CamembertTokenizer",
        "DebertaV2TokenizerFast",
        "FNetTokenizer",
        "LasrTokenizer",
        "PegasusTokenizerFast",
        "RemBertTokenizer",
        "VideoPrismTokenizer",
        "XGLMTokenizer",
        "XLNetTokenizer",
        "GPT2Tokenizer",
        "LlamaTokenizer",
    ],
    "words": [
        "BertTokenizerFast",
        "DistilBertTokenizer",
        "ConvBertTokenizer",
        "MPNetTokenizer",
        "FunnelTokenizer",
        "SplinterTokenizer",
        "DPRReaderTokenizer",
        "DPRQuestionEncoderTokenizer",
        "DPRContextEncoderTokenizerFast",
        "Qwen2Tokenizer",
    ],
}
REFUSED = [
    "ByT5Tokenizer",
    "LayoutLMv3Tokenizer",
    "LukeTokenizer",
    "WhisperTokenizer",
    "NllbTokenizer",
    "MBartTokenizer",
    "PerceiverTokenizer",
]


def cases():
    made = {}
    for base, names in KINDS.items():
        for name in names:
            made[f"class {name} over {base}"] = of_class(base, name)
    for name in REFUSED:
        made[f"refused {name}"] = {**of_class("bytes", name), "refused": True}

    # Llama's own classes, legacy and not, under several model types.
    for model_type in ("llama", "mistral", "qwen2", "gemma3_text"):
        for name in (
            "LlamaTokenizer",
            "LlamaTokenizerFast",
            "CodeLlamaTokenizer",
            "GemmaTokenizer",
            "MistralTokenizer",
            "PreTrainedTokenizerFast",
            None,
        ):
            made[f"spm {model_type} {name}"] = of_class("sentence", name, model_type)
    for legacy in (True, False, None):
        made[f"spm legacy {legacy}"] = of_class("sentence", "LlamaTokenizer", "llama", legacy=legacy)
        made[f"spm plain class, legacy {legacy}"] = of_class(
            "sentence", "PreTrainedTokenizerFast", "llama", legacy=legacy
        )
    for scheme in ("first", "always", "never"):
        metaspace = {
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Metaspace",
                "replacement": "▁",
                "prepend_scheme": scheme,
                "split": False,
            },
        }
        for name in ("LlamaTokenizer", "PreTrainedTokenizerFast"):
            made[f"spm metaspace {scheme} {name}"] = of_class("sentence", name, "llama", metaspace)
    for prefix in (True, False, None):
        made[f"spm add_prefix_space {prefix}"] = of_class(
            "sentence", "LlamaTokenizer", "llama", add_prefix_space=prefix
        )
        made[f"spm code llama add_prefix_space {prefix}"] = of_class(
            "sentence", "CodeLlamaTokenizer", "code_llama", add_prefix_space=prefix
        )
        made[f"spm legacy add_prefix_space {prefix}"] = of_class(
            "sentence", "LlamaTokenizer", "llama", legacy=True, add_prefix_space=prefix
        )
    made["spm over bytes"] = of_class("bytes", "LlamaTokenizerFast", "llama")
    made["spm no post-processor"] = of_class("sentence", "LlamaTokenizer", "llama", {"post_processor": None})
    made["spm add_bos_token is not read"] = of_class(
        "sentence",
        "LlamaTokenizer",
        "llama",
        {"post_processor": None},
        add_bos_token=True,
        add_eos_token=True,
    )

    # add_prefix_space of tokenizer_config.json, either way.
    for prefix in (True, False):
        for name, model_type in [
            ("GPT2Tokenizer", "gpt2"),
            ("GPT2TokenizerFast", "llama"),
            ("GPTNeoXTokenizerFast", "gpt_neox"),
            ("Qwen2Tokenizer", "qwen2"),
            ("RobertaTokenizer", "roberta"),
            ("PreTrainedTokenizerFast", "llama"),
            ("PreTrainedTokenizerFast", "gpt2"),
            ("CohereTokenizer", "cohere"),
        ]:
            made[f"prefix {name} {model_type} {prefix}"] = of_class(
                "bytes", name, model_type, add_prefix_space=prefix
            )
            patch = {
                "pre_tokenizer": {
                    "type": "ByteLevel",
                    "add_prefix_space": not prefix,
                    "trim_offsets": True,
                    "use_regex": True,
                }
            }
            made[f"prefix {name} {model_type} {prefix}, the file says otherwise"] = of_class(
                "bytes", name, model_type, patch, add_prefix_space=prefix
            )
        made[f"prefix XLM {prefix}"] = of_class("unigram", "XLMRobertaTokenizer", add_prefix_space=prefix)
        made[f"prefix DeBERTa {prefix}"] = of_class("unigram", "DebertaV2Tokenizer", add_prefix_space=prefix)

    # The class of each model type.
    for model_type in (
        "qwen2",
        "qwen3",
        "gpt2",
        "gpt_neox",
        "llama",
        "mistral",
        "phi3",
        "internlm2",
        "EvollaModel",
        "of_mine",
        "bert",
        "t5",
    ):
        for name in (
            None,
            "GPT2Tokenizer",
            "Qwen2TokenizerFast",
            "PreTrainedTokenizerFast",
            "MyOwnTokenizer",
        ):
            made[f"type {model_type} {name}"] = of_class(
                "bytes" if model_type != "t5" else "unigram", name, model_type
            )
    made["type in config.json"] = {
        **of_class("bytes", None),
        "files": {"config.json": {"model_type": "llama", "tokenizer_class": "GPT2TokenizerFast"}},
    }
    made["no settings at all"] = {"base": "bytes", "files": {}}
    made["type with auto_map"] = of_class(
        "bytes", "MyOwnTokenizer", "gpt2", auto_map={"AutoTokenizer": ["own.MyOwnTokenizer", None]}
    )

    # Tokens declared outside tokenizer.json.
    plain = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|endoftext|>",
        "chat_template": CHAT,
    }
    think = ["<think>", "</think>"]
    token = {"lstrip": True, "rstrip": False, "single_word": False, "normalized": False, "special": True}
    outside = {
        "additional_special_tokens": {"additional_special_tokens": think},
        "extra_special_tokens, a list": {"extra_special_tokens": think},
        "extra_special_tokens, objects": {
            "extra_special_tokens": [{"__type": "AddedToken", "content": "<think>", **token}]
        },
        "extra_special_tokens, a dict": {
            "extra_special_tokens": {"think_token": "<think>", "end": "</think>"}
        },
        "both lists": {"additional_special_tokens": ["</think>"], "extra_special_tokens": ["<think>"]},
        "an empty extra list": {"additional_special_tokens": think, "extra_special_tokens": []},
        "a token of its own": {"image_token": "<think>"},
        "an eos that is new": {"eos_token": "<think>", "unk_token": "</think>"},
        "an eos object that is new": {"eos_token": {"__type": "AddedToken", "content": "<think>", **token}},
        "added_tokens_decoder": {
            "added_tokens_decoder": {
                "401": {"content": "<think>", **token},
                "400": {"content": "</think>", "special": False},
            }
        },
        "added_tokens_decoder and special": {
            "added_tokens_decoder": {"402": {"content": "</think>", **token}},
            "additional_special_tokens": think,
        },
        "split special tokens": {"extra_special_tokens": think, "split_special_tokens": True},
        "a null bos": {"bos_token": None, "pad_token": None},
    }
    for name, settings in outside.items():
        made[f"tokens: {name}"] = {
            "base": "bytes",
            "files": {
                "tokenizer_config.json": {**plain, **settings},
                "config.json": {"model_type": "llama", "bos_token_id": 2, "eos_token_id": 3},
            },
        }
        made[f"tokens over sentences: {name}"] = {
            "base": "sentence",
            "files": {"tokenizer_config.json": {**plain, **settings, "tokenizer_class": "LlamaTokenizer"}},
        }
    maps = {
        "added_tokens.json": {"added_tokens.json": {"<think>": 400, "</think>": 401}},
        "added_tokens.json in another order": {"added_tokens.json": {"<think>": 500, "</think>": 401}},
        "special_tokens_map.json": {"special_tokens_map.json": {"additional_special_tokens": think}},
        "special_tokens_map.json, extra": {
            "special_tokens_map.json": {
                "extra_special_tokens": [{"content": "<think>", "lstrip": True}, "</think>"]
            }
        },
        "special_tokens_map.json wins": {
            "special_tokens_map.json": {
                "eos_token": {"content": "<think>", "lstrip": False},
                "bos_token": "<s>",
            }
        },
        "both": {
            "special_tokens_map.json": {"additional_special_tokens": ["<think>"]},
            "added_tokens.json": {"</think>": 400, "<think>": 401},
        },
    }
    for name, files in maps.items():
        made[f"tokens: {name}"] = {"base": "bytes", "files": {"tokenizer_config.json": plain, **files}}
        made[f"tokens over sentences: {name}"] = {
            "base": "sentence",
            "files": {"tokenizer_config.json": {**plain, "tokenizer_class": "LlamaTokenizer"}, **files},
        }
    decoder = {"added_tokens_decoder": {"3": {"content": "</s>", "special": True}}}
    made["tokens: a decoder hides the map"] = {
        "base": "bytes",
        "files": {
            "tokenizer_config.json": {**plain, **decoder},
            "special_tokens_map.json": {"eos_token": "<think>"},
            "added_tokens.json": {"</think>": 400},
        },
    }
    flags = {
        "added_tokens_decoder": {"3": {"content": "</s>", "lstrip": True, "rstrip": True, "special": True}}
    }
    made["tokens: flags of the configuration win"] = {
        "base": "bytes",
        "files": {"tokenizer_config.json": {**plain, **flags}},
    }

    # BOS null, absent, and named only by config.json; class defaults.
    for name in ("PreTrainedTokenizerFast", "Qwen2Tokenizer", "LlamaTokenizer"):
        for settings in ({"bos_token": None}, {}, {"bos_token": "<s>"}, {"eos_token": None}):
            case = of_class(
                "bytes" if name != "LlamaTokenizer" else "sentence", name, "llama", None, **settings
            )
            case["files"]["config.json"].update({"bos_token_id": 2, "eos_token_id": 3})
            made[f"bos {name} {settings}"] = case
    made["padding names the pad token"] = {
        **of_class("bytes", "OpenAIGPTTokenizer"),
        "patch": {
            "padding": {
                "strategy": "BatchLongest",
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 1,
                "pad_type_id": 0,
                "pad_token": "<new>",
            }
        },
    }
    made["HerBERT with one token for both"] = of_class(
        "bytes", "HerbertTokenizer", cls_token="<s>", sep_token="<s>"
    )
    made["ALBERT without a post-processor"] = of_class(
        "unigram", "AlbertTokenizer", patch={"post_processor": None}
    )

    # The places where a template can be.
    places = {
        "a list": {
            "tokenizer_config.json": {
                "chat_template": [
                    {"name": "tool_use", "template": "T"},
                    {"name": "default", "template": CHAT},
                ]
            }
        },
        "a list without default": {
            "tokenizer_config.json": {"chat_template": [{"name": "tool_use", "template": "T"}]}
        },
        "a list of one": {
            "tokenizer_config.json": {"chat_template": [{"name": "default", "template": CHAT}]}
        },
        "a dict": {"tokenizer_config.json": {"chat_template": {"rag": "R", "default": CHAT}}},
        "a dict without default": {"tokenizer_config.json": {"chat_template": {"rag": "R"}}},
        "null": {"tokenizer_config.json": {"chat_template": None}},
        "none": {"tokenizer_config.json": {}},
        "empty": {"tokenizer_config.json": {"chat_template": ""}},
        "a file over the configuration": {
            "tokenizer_config.json": {"chat_template": "C"},
            "chat_template.jinja": CHAT,
        },
        "a file with CRLF": {"chat_template.jinja": CHAT.replace("\n", "\r\n") + "\r\n"},
        "a file with a BOM": {"chat_template.jinja": "\ufeff" + CHAT},
        "a file with a final newline": {"chat_template.jinja": CHAT + "\n"},
        "a folder with default": {"additional_chat_templates/default.jinja": CHAT},
        "a folder without default": {"additional_chat_templates/rag.jinja": "R"},
        "a folder beside the configuration": {
            "tokenizer_config.json": {"chat_template": CHAT},
            "additional_chat_templates/rag.jinja": "R",
        },
        "a folder beside a file": {"chat_template.jinja": CHAT, "additional_chat_templates/rag.jinja": "R"},
        "a folder and a file, both default": {
            "chat_template.jinja": "F",
            "additional_chat_templates/default.jinja": CHAT,
        },
    }
    for name, files in places.items():
        made[f"template: {name}"] = {"base": "bytes", "files": files}
    return made


def write(folder, case):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    base = json.loads((HERE / "bases" / f"{case['base']}.json").read_text())
    files = {"tokenizer.json": {**base, **case.get("patch", {})}, **case["files"]}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), newline="")


def attempt(what):
    try:
        return list(what())
    except BaseException:
        return None


def golden():
    made = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "folder"
        for name, case in cases().items():
            write(folder, case)
            try:
                tokenizer = hf.AutoTokenizer.from_pretrained(folder)
            except BaseException as error:
                made.append({"name": name, **case, "error": f"{type(error).__name__}: {error}"[:90]})
                continue
            made.append(
                {
                    "name": name,
                    **case,
                    "class": type(tokenizer).__name__,
                    "texts": [attempt(lambda: tokenizer(text)["input_ids"]) for text in TEXTS],
                    "bare": [
                        attempt(lambda: tokenizer(text, add_special_tokens=False)["input_ids"])
                        for text in TEXTS
                    ],
                    "conversations": [
                        attempt(lambda: tokenizer.apply_chat_template(turns)["input_ids"]) for turns in TURNS
                    ],
                }
            )
    lines = ",\n".join(compact(case).strip() for case in made)
    texts, turns = compact(TEXTS).strip(), compact(TURNS).strip()
    (HERE / "classes.json").write_text(
        f'{{"texts":{texts},\n"conversations":{turns},\n"cases":[\n{lines}\n]}}\n'
    )
    print(len(made), "cases,", sum("error" in case for case in made), "of them refused by transformers")


def main():
    if not (HERE / "bases").exists():  # training breaks ties at random: every run makes other ids
        bases()
    golden()


if __name__ == "__main__":
    main()
