"""Checks that peft applies adapters saved by pcrm to a base that bitsandbytes quantises.

    python check_saved.py DIR

Every folder FAMILY.METHOD of DIR holds `adapter` (a PEFT adapter, which names its float base), `merged` (a full
model) and `expected.safetensors`: input_ids and pcrm's logits with the adapter.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
TOLERANCE = 1e-5


def off(found, expected):
    return ((found - expected).abs() / (1 + expected.abs())).max().item()


for folder in sorted(Path(sys.argv[1]).iterdir()):
    base = json.loads((folder / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    expected = load_file(folder / "expected.safetensors")
    tokens = expected["input_ids"].long()[None]
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=folder.name.endswith("double"),
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, quantization_config=config, device_map="cpu"
    )
    model = PeftModel.from_pretrained(model, folder / "adapter")
    # In training mode bitsandbytes multiplies by dequantised weights; these models have no dropout.
    adapted = off(model.train()(input_ids=tokens, use_cache=False).logits[0].detach(), expected["values"])
    assert adapted < TOLERANCE, f"{folder.name}: with peft off by {adapted}"
    full = AutoModelForCausalLM.from_pretrained(folder / "merged").eval()
    with torch.no_grad():
        merged = off(full(input_ids=tokens, use_cache=False).logits[0], expected["values"])
    assert merged < TOLERANCE, f"{folder.name}: merged off by {merged}"
    print(f"{folder.name}: peft within {adapted:.1e}, merged within {merged:.1e}")
