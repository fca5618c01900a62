#!/usr/bin/env python3
"""Draws random config.json files of every family and compares the scores of pcrm and transformers.

    python tests/golden/wild/config_differential.py --pcrm target/debug/pcrm [--count 200] [--seed 0] [--keep DIR]

needs torch, numpy and transformers. A draw is equal (every score within 3e-4), refused by pcrm with the name
of a drawn key, refused by transformers too, or different. Exit status 1 if one is different, or refused
without the name of a drawn key. Differences are printed with their config; those found so far are cases of
models.py.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import formula

TOLERANCE = 3e-4
TOKENIZER = Path(__file__).parent.parent / "text" / "plain"
TEXTS = [
    "How do I boil an egg? Put it in water.",
    "ok",
    "Seven minutes in boiling water is good, and then into cold water for two minutes. " * 3,
    "A longer answer, which goes past the window and past the context that was trained on, so that angles change.",
]
ACTIVATIONS = [
    "gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh", "relu",
    "silu", "swish", "tanh", "sigmoid", "quick_gelu", "relu2", "mish", "linear", "nonsense", None, 3,
]
FLAG = [True, False]


def scaling(rng):
    """A rope_scaling or rope_parameters of any type, often with unusual entries."""
    kind = rng.choice(["default", "linear", "dynamic", "llama3", "yarn", "yarn", "longrope", "proportional", "su", 3])
    rope = {rng.choice(["rope_type", "rope_type", "type"]): kind}
    maybe = lambda key, values, chance=0.3: rope.update({key: rng.choice(values)}) if rng.random() < chance else None
    if kind in ("linear", "dynamic", "yarn", "llama3", "longrope", "proportional"):
        maybe("factor", [2.0, 4, 8.0, 1.0, 0.5, "2", None], 0.95)
    if kind == "llama3":
        maybe("low_freq_factor", [1.0, 1, 2.0], 0.95)
        maybe("high_freq_factor", [4.0, 4, 1.0, 8.0], 0.95)
        maybe("original_max_position_embeddings", [16, 32, 64], 0.9)
    if kind == "yarn":
        maybe("original_max_position_embeddings", [16, 32, 64, None], 0.7)
        for key, values in {
            "attention_factor": [1.0, 1.3, 0.7, None],
            "beta_fast": [32, 4.0, 0, None],
            "beta_slow": [1, 0.25, None],
            "mscale": [1.0, 1.5, 0, None],
            "mscale_all_dim": [0.5, 1.0, 0, None],
            "truncate": [True, False, None],
        }.items():
            maybe(key, values)
    if kind == "longrope":
        maybe("short_factor", [[1.0] * 4], 1)
        maybe("long_factor", [[2.0] * 4], 1)
    maybe("rope_theta", [10000.0, 500.0, 1e6, 100, None], 0.5)
    maybe("partial_rotary_factor", [1.0, 0.5, 0.25], 0.1)
    maybe("mrope_section", [[2, 1, 1]], 0.05)
    return rope


def layered(rng):
    """A rope_parameters of a model whose layers rotate differently."""
    whole = {"full_attention": scaling(rng), "sliding_attention": scaling(rng)}
    if rng.random() < 0.2:
        whole[rng.choice(list(whole))] = None
    if rng.random() < 0.1:
        del whole[rng.choice(list(whole))]
    return whole


def layer_types(rng):
    sorts = rng.choice([["full_attention"], ["sliding_attention"], ["full_attention", "sliding_attention"]])
    return [rng.choice(sorts) for _ in range(rng.choice([3, 3, 3, 2]))]


def choices(family):
    """Keys of a family with their possible values."""
    every = {
        "pad_token_id": [0, None, -1, 5, 383],
        "num_labels": [1],
        "id2label": [{"0": "LABEL_0"}, {"0": "bad"}],
        "problem_type": ["regression", None, "single_label_classification", "multi_label_classification"],
        "architectures": [["RewardModel"], ["LLMForSequenceRegression"], None, []],
        "is_causal": FLAG,
        "is_encoder_decoder": FLAG,
        "is_decoder": FLAG,
        "use_cache": FLAG,
        "torch_dtype": ["bfloat16", "float16", "float32"],
        "tie_word_embeddings": FLAG,
        "initializer_range": [0.02, 0.5],
        "eos_token_id": [2, [1, 2], None],
        "output_hidden_states": FLAG,
        "attention_dropout": [0.0, 0.5],
        "quantization_config": [None, {"quant_method": "fp8"}],
        "pretraining_tp": [1, 2],
        "sliding_window": [4, 16, None, 1000, 0, "4"],
        "head_dim": [8, 16, 4, None],
        "num_key_value_heads": [1, 2, 4, None, 3],
        "layer_types": [layer_types],
        "unheard_of": [1],
    }
    act = {"gpt2": "activation_function", "gemma3_text": "hidden_activation"}.get(family, "hidden_act")
    every[act] = ACTIVATIONS
    every["hidden_act"] = ACTIVATIONS
    if family == "gpt2":
        return every | {
            "scale_attn_weights": FLAG * 3 + [None, "false"],
            "scale_attn_by_inverse_layer_idx": FLAG * 3,
            "reorder_and_upcast_attn": FLAG,
            "add_cross_attention": [False],
            "n_inner": [None, 40, 128],
            "layer_norm_epsilon": [1e-5, 1e-3, 1, "x"],
            "hidden_size": [32],
            "num_hidden_layers": [2, 3],
            "num_attention_heads": [2, 8],
            "n_ctx": [64],
            "resid_pdrop": [0.0, 0.5],
            "summary_type": ["last"],
        }
    every |= {
        "rope_scaling": [scaling, scaling, None],
        "rope_parameters": [scaling, scaling, None, {}],
        "rope_theta": [10000.0, 500.0, 1000000, None],
        "partial_rotary_factor": [1.0, 0.5],
        "original_max_position_embeddings": [16, 32],
        "max_position_embeddings": [16, 32, 64, 4096],
        "attention_bias": FLAG * 2 + [None],
        "mlp_bias": FLAG,
    }
    if family == "gpt_neox":
        return every | {
            "use_parallel_residual": FLAG * 2,
            "rotary_pct": [0.25, 0.5, 1.0, 0.3],
            "rotary_emb_base": [10000, 100.0],
            "layer_norm_eps": [1e-5, 1e-3],
        }
    every |= {"rms_norm_eps": [1e-6, 1e-5, 0.1, 1, "1e-6"]}
    if family in ("qwen2", "qwen3"):
        every |= {"use_sliding_window": FLAG * 3 + [None], "max_window_layers": [0, 1, 2, 28]}
    if family == "gemma3_text":
        every |= {
            "rope_parameters": [layered, layered, scaling, None],
            "rope_local_base_freq": [10000.0, 100],
            "query_pre_attn_scalar": [8, 24, 256, 64.0, 0],
            "sliding_window_pattern": [2, 3, 6],
            "attn_logit_softcapping": [None, 30.0],
            "final_logit_softcapping": [None, 30.0],
            "use_bidirectional_attention": [False, True, None],
            "layer_types": [layer_types, layer_types, None],
        }
    return every


def draw(rng, family):
    """A config, and its drawn keys."""
    table = choices(family)
    arithmetic = [key for key in table if key not in ("use_cache", "torch_dtype", "eos_token_id", "id2label")]
    config, drawn = formula.base(family), []
    for key in rng.sample(arithmetic, rng.choice([1, 1, 2, 2, 3, 4])) + rng.sample(list(table), 1):
        value = rng.choice(table[key])
        config[key] = value(rng) if callable(value) else value
        drawn.append(key)
    if rng.random() < 0.1:
        del config[rng.choice([key for key in config if key != "model_type"])]
    return config, drawn


def write_folder(folder, config, tensors):
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder / name)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def make(folder, config):
    """Writes the checkpoint; returns the error of transformers if it rejects the config."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    try:
        own = AutoConfig.from_pretrained(folder)
        own.num_labels = 1
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(own)
        write_folder(folder, config, formula.tensors(model))
        return None
    except Exception as error:  # any error that the config causes
        own = AutoConfig.for_model(**formula.base(config["model_type"]))
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(own)
        write_folder(folder, config, formula.tensors(model))
        return f"{type(error).__name__}: {error}"


def reference(folder, rows):
    """Scores by transformers for lists of ids."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, num_labels=1
    )
    lacks = {kind: keys for kind, keys in info.items() if keys and kind != "unexpected_keys"}
    assert not lacks, f"loads with {lacks}"
    scores = []
    for ids in rows:
        with torch.no_grad():
            # Dynamic angles of a longer row would persist; a fresh model per row would avoid this too.
            for module in model.modules():
                for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
                    setattr(module, name, 0)
            scores.append(model(input_ids=torch.tensor([ids]), use_cache=False).logits.flatten().tolist()[0])
    return scores


def score(pcrm, folder):
    """Exit status, rows and message of `pcrm score`."""
    data = folder / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    command = [pcrm, "score", "--model", str(folder), "--data", str(data), "--ids"]
    if "gpt2" not in folder.name:
        command += ["--max-length", "4096"]  # transformers rotates positions beyond the config's too
    run = subprocess.run(command, capture_output=True, text=True)
    rows = [json.loads(line) for line in run.stdout.splitlines()] if run.returncode == 0 else []
    return run.returncode, rows, run.stderr.strip()


def main():
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--pcrm", required=True)
    cli.add_argument("--count", type=int, default=200)
    cli.add_argument("--seed", type=int, default=0)
    cli.add_argument("--keep", type=Path, help="keep the folders of all draws here")
    args = cli.parse_args()

    import torch
    from transformers.utils import logging

    warnings.simplefilter("ignore")
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    rng = random.Random(args.seed)
    counts = dict.fromkeys(["equal", "refused by name", "refused by both", "refused by transformers alone", "different"], 0)
    bad = 0
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(args.count):
            family = formula.FAMILIES[number % len(formula.FAMILIES)]
            folder = (args.keep or Path(temporary)) / f"{number:03}-{family}"
            config, drawn = draw(rng, family)
            refused = make(folder, config)
            status, rows, message = score(args.pcrm, folder)
            expected = None
            if refused is None:
                try:
                    ids = [row["ids"] for row in rows] or [[5, 6, 7]]
                    expected = reference(folder, ids)
                except Exception as error:
                    refused = f"{type(error).__name__}: {error}"
            last = message.splitlines()[-1] if message else ""
            if status != 0:
                named = any(key in last for key in config) or "missing" in last
                kind = "refused by both" if refused else "refused by name"
                if not named or "panicked" in message:
                    bad += 1
                    print(f"NOT BY NAME {number} {family}: {last}\n   {json.dumps(config)}")
            elif refused:
                kind = "refused by transformers alone"
                print(f"ALONE {number} {family}: {refused[:200]}\n   {json.dumps({k: config.get(k) for k in drawn})}")
            else:
                off = max(abs(row["score"] - want) for row, want in zip(rows, expected))
                kind = "equal" if off <= TOLERANCE and len(rows) == len(TEXTS) else "different"
                if kind == "different":
                    bad += 1
                    print(f"DIFFERENT {number} {family}: by {off:.2g}\n   {json.dumps(config)}")
            counts[kind] += 1
            if not args.keep:
                shutil.rmtree(folder)
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
