"""Checks that transformers loads reward models saved by pcrm.

    python check_saved_rewards.py DIR

The folders in DIR have the names of those beside this script. Each must load as the class in its config, its own
or one of transformers, with no weight missing, unexpected or of another shape, and give the scores of
golden.safetensors.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
here = Path(__file__).parent

for folder in sorted(Path(sys.argv[1]).iterdir()):
    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder,
        trust_remote_code=True,
        output_loading_info=True,
        attn_implementation="eager",  # the default ignores the soft cap of attention scores
        experts_implementation="eager",  # the default needs strides that tiny experts do not have
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not report.get(kind), f"{folder.name}: {kind}: {report[kind]}"
    named = json.loads((folder / "config.json").read_text())["architectures"]
    assert named == [type(model).__name__], f"{folder.name}: {named} loads as {type(model).__name__}"
    golden = load_file(here / folder.name / "golden.safetensors")
    sequences = json.loads((here / folder.name / "cases.json").read_text())["score_sequences"]
    off = 0.0
    for sequence, want in zip(sequences, golden["scores"].tolist(), strict=True):
        with torch.no_grad():
            score = model(input_ids=torch.tensor([sequence])).logits[0, 0].item()
        off = max(off, abs(score - want))
    assert off < 1e-4, f"{folder.name}: scores are off by {off}"
    print(f"{folder.name}: loads as {type(model).__name__}, scores within {off:.1e}")
