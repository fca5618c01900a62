"""Makes small PEFT adapters of the models in ../models, and their results.

    python make.py OUT_DIR [NAME ..]

needs torch, transformers (5.x), peft and safetensors; the committed files came from peft 0.21.2 and transformers 5.24.
Every folder is written by `save_pretrained` of peft, with random values in A, B and the modules to save, and
holds

  expected.safetensors   input_ids [n] (I32), and logits [n, vocab] of a language model or scores [n] after each
                         token of a reward model, in float64 without casts in norms (see ../models/make.py)

`base_model_name_or_path` is relative to the adapter's folder.
"""

import json
import sys
import zlib
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, logging

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent / "models"))
import make as models  # noqa: E402  (removes the casts in norms)
import make_compact as compact  # noqa: E402

LANGUAGE = dict(task_type="CAUSAL_LM")
REWARD = dict(task_type="SEQ_CLS")

ADAPTERS = {
    # peft's default modules for the family.
    "llama-default": ("llama", LoraConfig(**LANGUAGE, r=4, lora_alpha=8, lora_dropout=0.1)),
    # Conv1D, with ranks and scales by pattern.
    "gpt2-patterns": (
        "gpt2",
        LoraConfig(
            **LANGUAGE,
            r=4,
            lora_alpha=6,
            use_rslora=True,
            fan_in_fan_out=True,
            target_modules=["c_attn", "c_proj", "c_fc"],
            rank_pattern={"h.1.mlp.c_fc": 2, "h.0.mlp.c_fc": 3},
            alpha_pattern={r"h\.\d\.attn\.c_proj": 5},
        ),
    ),
    # The head is the embedding; only the head has an adapter.
    "qwen2-tied-head": ("qwen2", LoraConfig(**LANGUAGE, r=3, target_modules=["lm_head", "down_proj"])),
    # The embedding, which is the head, trained in full as one.
    "qwen2-tied-embedding": (
        "qwen2",
        LoraConfig(
            **LANGUAGE, r=2, target_modules=["v_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True
        ),
    ),
    # One layer of two, and modules trained in full.
    "gemma3-layers": (
        "gemma3-linear",
        LoraConfig(
            **LANGUAGE,
            r=2,
            target_modules=["q_proj", "o_proj"],
            layers_to_transform=[1, 2],
            modules_to_save=["q_norm", "lm_head"],
        ),
    ),
    # Matrices with several projections in one.
    "phi3-fused": ("phi3", LoraConfig(**LANGUAGE, r=2, target_modules="all-linear")),
    "olmo2-reward": ("olmo2", LoraConfig(**REWARD, r=2, target_modules=["k_proj", "o_proj", "gate_proj"])),
    "gpt_neox-reward": ("gpt_neox", LoraConfig(**REWARD, r=2, target_modules="all-linear")),
    "qwen3-reward": (
        "qwen3",
        LoraConfig(
            **REWARD, r=2, target_modules=r".*\.(q|v)_proj|.*mlp\.up_proj", exclude_modules=r".*layers\.0\.mlp.*"
        ),
    ),
}


def make(name, base, config, out):
    rng = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    folder = here.parent / "models" / base
    if config.task_type == "SEQ_CLS":
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = get_peft_model(model, config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name or "modules_to_save" in parameter_name:
                noise = torch.randn(parameter.shape, generator=rng)
                parameter.copy_(0.3 * noise + (parameter if parameter.dim() == 1 else 0))
    model.peft_config["default"].base_model_name_or_path = f"../../models/{base}"
    model.save_pretrained(out / name, save_embedding_layers=False)
    (out / name / "README.md").unlink(missing_ok=True)

    model = model.double().eval()
    compact.without_casts(model)
    tokens = models.ids(24, rng)
    with torch.no_grad():
        if config.task_type == "SEQ_CLS":
            body = model.base_model.model.base_model
            hidden = body(input_ids=torch.tensor([tokens]), use_cache=False).last_hidden_state[0]
            expected = {"scores": model.base_model.model.score(hidden)[:, 0]}
        else:
            expected = {"logits": model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]}
    for value in expected.values():
        assert value.dtype == torch.float64
    expected = {key: value.float().contiguous() for key, value in expected.items()}
    expected["input_ids"] = torch.tensor(tokens, dtype=torch.int32)
    save_file(expected, out / name / "expected.safetensors")
    saved = json.loads((out / name / "adapter_config.json").read_text())
    print(name, saved["target_modules"], file=sys.stderr)


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: python make.py OUT_DIR [NAME ..]")
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for name in sys.argv[2:] or ADAPTERS:
        make(name, *ADAPTERS[name], Path(sys.argv[1]))


if __name__ == "__main__":
    main()
