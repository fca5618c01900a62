#!/usr/bin/env python3
"""Compares the table of config.json's keys with the config classes of transformers.

    python scripts/check-config-keys.py

needs transformers. For every family of config_keys.json (decoders) and encoder_keys.json in pcrm-core/src/model,
checks that
  the table has every field of the config class, every alias of one, every parameter of generation that the class
  takes, and every config attribute that the family's modeling code reads (attributes read by the shared code must be
  in the table of some family);
  a missing key that the table reads has the default of the class (null in the table: pcrm requires the key, or the
  default of the class is null).
Prints each key that is missing from the table or has another default, and exits with status 1 if there is
one.
"""

import dataclasses
import json
import re
import sys
from pathlib import Path

import transformers
from transformers import GenerationConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

MODEL = Path(__file__).parent.parent / "pcrm-core" / "src" / "model"
TABLES = [MODEL / "config_keys.json", MODEL / "encoder_keys.json"]
# The shape of the model: pcrm requires all of these.
WANTED = {
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "n_embd", "n_layer", "n_head", "ffn_dim", "n_layers", "n_heads", "dim", "hidden_dim",
}  # fmt: skip
# Attributes and methods of config objects that no file sets, and fields of the multimodal gemma3 in gemma3's code.
NOT_KEYS = {
    "json", "get_text_config", "get_mtp_config", "standardize_rope_params", "validate_rope", "default_theta",
    "is_heterogeneous", "nested_rope_parameter_keys",
    "image_token_id", "mm_tokens_per_image", "text_config", "vision_config",
}  # fmt: skip
SHARED_CODE = ["masking_utils.py", "modeling_rope_utils.py", "modeling_layers.py", "cache_utils.py"]


def read_by(source):
    """Returns the config attributes that source code reads."""
    direct = re.findall(r"\bconfig\.(\w+)", source)
    return set(direct) | set(re.findall(r'getattr\((?:self\.)?(?:effective_)?config, "(\w+)"', source))


def main():
    tables = [json.loads(path.read_text()) for path in TABLES]
    everys = [table.pop("every") for table in tables]
    # Encoders ignore what all decoders ignore.
    neutral = {key for part in ("ignored", "generation") for key in everys[0][part]}
    root = Path(transformers.__file__).parent
    shared = set().union(*(read_by((root / name).read_text()) for name in SHARED_CODE))
    generation = set(GenerationConfig._get_default_generation_params())
    # Shared code reads keys of some families; pcrm reports them in the files of the others.
    parts = everys + [part for table in tables for part in table.values()]
    known_anywhere = {key for part in parts for rows in part.values() for key in rows}
    problems = []
    families = [(family, own, every) for table, every in zip(tables, everys) for family, own in table.items()]
    for family, own, every in families:
        if family not in CONFIG_MAPPING:
            print(f"{family} is not part of transformers: its keys are those of its own code")
            continue
        cls = CONFIG_MAPPING[family]
        known = set(neutral)
        for part in (own, every):
            for rows in part.values():
                known.update(rows)
        fields = {field.name: field.default for field in dataclasses.fields(cls)}
        module = family.removesuffix("_text").replace("-", "_")
        source = root / "models" / module / f"modeling_{module}.py"
        wanted = set(fields) | set(cls.attribute_map) | generation | read_by(source.read_text())
        for key in sorted((wanted - known | shared - known_anywhere) - NOT_KEYS):
            problems.append(f"{family}: {key} is not in the table")
        for key, default in {**every["read"], **own["read"]}.items():
            if key not in fields or (key in WANTED and default is None):
                continue
            if default != fields[key]:
                problems.append(f"{family}: the default of {key} is {fields[key]!r}, in the table {default!r}")
        for alias, name in own.get("aliases", {}).items():
            if cls.attribute_map.get(alias) != name and cls.attribute_map.get(name) != alias:
                problems.append(f"{family}: {alias} is not an alias of {name}")
    print(f"transformers {transformers.__version__}: {len(families)} families, {len(problems)} problems")
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
