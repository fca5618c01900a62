"""Checks that transformers loads language models saved by pcrm.

    python check_saved.py DIR

The folders in DIR have the names of those beside this script. Each must load as the class in its config, with
no weight missing, unexpected or of another shape, and give the logits of golden.safetensors.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
here = Path(__file__).parent

for folder in sorted(Path(sys.argv[1]).iterdir()):
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        output_loading_info=True,
        attn_implementation="eager",  # the default ignores the soft cap of attention scores
        experts_implementation="eager",  # the default needs strides that tiny experts do not have
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not report.get(kind), f"{folder.name}: {kind}: {report[kind]}"
    named = AutoConfig.from_pretrained(folder).architectures
    assert named == [type(model).__name__], f"{folder.name}: {named} loads as {type(model).__name__}"
    assert model.dtype == torch.float32, f"{folder.name}: {model.dtype}"
    golden = load_file(here / folder.name / "golden.safetensors")
    sequences = json.loads((here / folder.name / "cases.json").read_text())["sequences"]
    off = 0.0
    for at, sequence in enumerate(sequences):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([sequence]), use_cache=False).logits[0]
        off = max(off, (logits - golden[f"logits.{at}"]).abs().max().item())
    assert off < 1e-4, f"{folder.name}: logits are off by {off}"
    print(f"{folder.name}: loads as {type(model).__name__}, logits within {off:.1e}")
