"""Checks that peft loads adapters saved by pcrm, and that merged models compute the same.

    python check_saved.py DIR

Every folder of DIR holds `adapter` (a PEFT adapter), `merged` (a full model) and `expected.safetensors`:
input_ids and pcrm's results with the adapter, logits of a language model or scores after each token of a
reward model.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
TOLERANCE = 1e-5


# The default needs strides that tiny experts do not have on some processors.
EAGER = {"experts_implementation": "eager"}


def computed(model, tokens, reward):
    with torch.no_grad():
        if not reward:
            return model(input_ids=tokens[None], use_cache=False).logits[0]
        body = getattr(model, model.base_model_prefix)
        return model.score(body(input_ids=tokens[None], use_cache=False).last_hidden_state[0])[:, 0]


def off(found, expected):
    return ((found - expected).abs() / (1 + expected.abs())).max().item()


for folder in sorted(Path(sys.argv[1]).iterdir()):
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    reward = config["task_type"] == "SEQ_CLS"
    expected = load_file(folder / "expected.safetensors")
    tokens = expected.pop("input_ids").long()
    (expected,) = expected.values()
    base = config["base_model_name_or_path"]
    if reward:
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32, **EAGER)
    else:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **EAGER)
    load = PeftModel.from_pretrained(model, folder / "adapter")
    assert not [n for n, p in load.named_parameters() if p.is_meta], folder.name
    adapted = off(computed(load.base_model.model.eval(), tokens, reward), expected)
    assert adapted < TOLERANCE, f"{folder.name}: with peft off by {adapted}"
    kind = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    full, report = kind.from_pretrained(folder / "merged", output_loading_info=True, **EAGER)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report.get(key), f"{folder.name}: {key}: {report[key]}"
    merged = off(computed(full.eval(), tokens, reward), expected)
    assert merged < TOLERANCE, f"{folder.name}: merged off by {merged}"
    print(f"{folder.name}: peft within {adapted:.1e}, merged within {merged:.1e}")
