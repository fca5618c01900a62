#!/usr/bin/env python3
"""Makes models.json: configs of every family with unusual keys, and their scores by transformers.

    python tests/golden/wild/models.py

needs torch, numpy and transformers (made with 5.24). Weights are those of formula.py, and scores are computed
in float32. pcrm refuses a case of "refused" by the key in "says"; "lacks" are keys missing from a file.
"""

import json
import tempfile
import warnings
from pathlib import Path

import formula
from config_differential import make, reference

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 100.0}
FULL, SLIDING = "full_attention", "sliding_attention"

# Family, then the changed keys; without keys, the base itself.
SERVED = [
    *[(family, {}) for family in formula.FAMILIES],
    ("gpt2", {"scale_attn_weights": False}),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    ("gpt2", {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True}),
    ("gpt2", {"reorder_and_upcast_attn": True, "activation_function": "gelu_fast"}),
    ("gpt2", {"hidden_size": 32, "num_attention_heads": 8, "n_head": 8, "n_inner": 40}),
    ("gpt2", {"activation_function": "tanh", "layer_norm_epsilon": 0.01, "architectures": ["RewardModel"]}),
    ("gpt_neox", {"rotary_pct": 1.0, "rotary_emb_base": 100}),
    ("gpt_neox", {"use_parallel_residual": False, "attention_bias": False, "hidden_act": "gelu_python"}),
    ("gpt_neox", {"rope_scaling": {"type": "linear", "factor": 4.0}, "rotary_pct": 0.5}),
    ("gpt_neox", {"rope_scaling": {"type": "dynamic", "factor": 2.0, "partial_rotary_factor": 1.0}}),
    ("gpt_neox", {"rope_parameters": {**YARN, "partial_rotary_factor": 0.5}, "is_decoder": True}),
    ("llama", {"rope_scaling": {"type": "linear", "factor": 2}}),
    ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}, "max_position_embeddings": 16}),
    ("llama", {"rope_scaling": LLAMA3, "rope_theta": 500.0, "original_max_position_embeddings": 16}),
    ("llama", {"rope_parameters": {**YARN, "beta_fast": 4.0, "beta_slow": 0.25, "truncate": False}}),
    ("llama", {"rope_parameters": {**YARN, "mscale": 1.5, "mscale_all_dim": 0.5}}),
    ("llama", {"rope_parameters": {**YARN, "attention_factor": 1.3}, "original_max_position_embeddings": 32}),
    ("llama", {"rope_parameters": {}, "rope_theta": 100.0, "pretraining_tp": 2}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": None, "head_dim": None}),
    ("llama", {"hidden_act": "relu", "rms_norm_eps": 0.1, "architectures": ["LLMForSequenceRegression"]}),
    ("llama", {"hidden_act": "sigmoid", "sliding_window": 4, "use_sliding_window": True}),
    ("llama", {"pad_token_id": 9}),
    ("llama", {"pad_token_id": None}),
    ("llama", {"pad_token_id": -1, "problem_type": "regression", "id2label": {"0": "good"}}),
    ("llama", {"layer_types": [FULL] * 3, "num_labels": ...}),
    ("mistral", {"sliding_window": 4}),
    ("mistral", {"sliding_window": None, "head_dim": 16}),
    ("mistral", {"sliding_window": 4, "layer_types": [SLIDING] * 3, "rope_theta": 1000000}),
    ("qwen2", {"sliding_window": 4, "max_window_layers": 1}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "layer_types": [SLIDING, FULL, SLIDING]}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": None, "rope_parameters": YARN}),
    ("qwen3", {"head_dim": 16, "attention_bias": True}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 0}),
    ("gemma3_text", {"sliding_window": 4, "sliding_window_pattern": 2}),
    ("gemma3_text", {"sliding_window": 4, "layer_types": [FULL, SLIDING, SLIDING], "query_pre_attn_scalar": 24}),
    ("gemma3_text", {"sliding_window": 4, "layer_types": [FULL] * 3, "final_logit_softcapping": 30.0}),
    (
        "gemma3_text",
        {
            "sliding_window": 6,
            "layer_types": [SLIDING, FULL, SLIDING],
            "rope_parameters": {
                FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 50000.0},
                SLIDING: {"rope_type": "yarn", "factor": 4.0, "rope_theta": 500.0},
            },
        },
    ),
    (
        "gemma3_text",
        {
            "layer_types": [SLIDING, FULL, SLIDING],
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "rope_theta": 500.0,
            "rope_local_base_freq": 100.0,
            "hidden_act": "relu",
        },
    ),
]

REFUSED = [
    ("gpt2", {"scale_attn_weights": "false"}, 'scale_attn_weights is "false"; expected true or false'),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": 1}, "scale_attn_by_inverse_layer_idx is 1"),
    ("gpt2", {"hidden_size": 64}, "hidden_size is 64 and n_embd is 32"),
    ("gpt2", {"head_dim": 4}, "head_dim is 4; expected 8"),
    ("gpt2", {"activation_function": "mish"}, 'activation_function is "mish"'),
    ("gpt_neox", {"head_dim": 16}, "head_dim is 16"),
    ("gpt_neox", {"rotary_pct": "half"}, 'rotary_pct is "half"; expected a number'),
    ("gpt_neox", {"attention_bias": None}, "attention_bias is null"),
    ("gpt_neox", {"is_causal": False}, "is_causal is false; expected true"),
    ("llama", {"is_causal": False}, "is_causal is false; expected true"),
    ("llama", {"rms_norm_eps": "1e-6"}, 'rms_norm_eps is "1e-6"; expected a number'),
    ("llama", {"mlp_bias": "no"}, 'mlp_bias is "no"'),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
    ("llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ("llama", {"rope_scaling": "linear"}, 'rope_scaling is "linear"; expected an object'),
    ("llama", {"rope_scaling": {"type": "su", "factor": 2.0}}, 'rope_scaling.type is "su"'),
    ("llama", {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}}, "rope_scaling.short_factor"),
    ("llama", {"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.factor is missing"),
    ("llama", {"rope_scaling": {**LLAMA3, "high_freq_factor": 1.0}}, "rope_scaling.high_freq_factor is 1.0"),
    ("llama", {"rope_scaling": {**YARN, "truncate": None}}, "rope_scaling.truncate is null"),
    ("llama", {"rope_scaling": YARN, "rope_parameters": LLAMA3}, "rope_scaling is"),
    ("llama", {"rope_parameters": {FULL: {"rope_type": "default"}}}, "rope_parameters.full_attention"),
    ("llama", {"layer_types": [SLIDING] * 3}, "layer_types is"),
    ("llama", {"num_key_value_heads": 3}, "num_key_value_heads is 3"),
    ("llama", {"per_layer_config": {"0": {"head_dim": 4}}}, "per_layer_config is"),
    ("llama", {"pruned_heads": {"0": [1]}}, "pruned_heads is"),
    ("llama", {"transformers_weights": "other.safetensors"}, "transformers_weights is"),
    ("llama", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised (gptq, 4 bit"),
    ("llama", {"problem_type": "single_label_classification"}, "problem_type is"),
    ("llama", {"num_labels": 2}, "2 labels"),
    ("llama", {"id2label": {"0": "a", "1": "b"}, "num_labels": None}, "2 labels"),
    ("llama", {"pad_token_id": "0"}, 'pad_token_id is "0"'),
    ("mistral", {"layer_types": [FULL] * 3}, "layer_types is"),
    ("mistral", {"sliding_window": 0}, "sliding_window is 0"),
    ("mistral", {"num_key_value_heads": ...}, "num_key_value_heads is missing"),
    ("qwen2", {"layer_types": [SLIDING] * 3}, "use_sliding_window is missing"),
    ("qwen3", {"use_sliding_window": None}, "use_sliding_window is null"),
    ("qwen3", {"max_window_layers": "1", "use_sliding_window": True}, "max_window_layers is"),
    ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0; expected null"),
    ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention is true"),
    ("gemma3_text", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0"),
    ("gemma3_text", {"sliding_window": None}, "sliding_window is null"),
    ("gemma3_text", {"rope_parameters": {"rope_type": "default", "rope_theta": 10.0}}, "rope_parameters.rope_type"),
    ("gemma3_text", {"rope_scaling": {"type": "linear", "factor": 8.0}}, "rope_scaling has no rope_type"),
    ("gemma3_text", {"rope_parameters": {FULL: {**YARN, "truncate": False}}}, "rope_parameters.full_attention.truncate"),
]


def config(family, changes):
    whole = {**formula.base(family), **changes}
    return {key: value for key, value in whole.items() if value is not ...}


def split(changes):
    given = {key: value for key, value in changes.items() if value is not ...}
    return {"changes": given, "lacks": [key for key, value in changes.items() if value is ...]}


def main():
    import torch
    from transformers.utils import logging

    warnings.simplefilter("ignore")
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    rows = [[7], [3, 5, 9], [(37 * at + 11) % 380 + 2 for at in range(23)], [(53 * at + 5) % 380 + 2 for at in range(61)]]
    rows[2] += [9, 9]  # padding, where pad_token_id is set to it
    served = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (family, changes) in enumerate(SERVED):
            path = Path(folder) / str(number)
            refused = make(path, config(family, changes))
            assert refused is None, (family, changes, refused)
            scores = [float(f"{score:.6g}") for score in reference(path, rows)]
            served.append({"family": family, **split(changes), "scores": scores})
            print(family, changes, scores)
    refused = [
        {"family": family, **split(changes), "says": says}
        for family, changes, says in REFUSED
    ]
    bases = {family: formula.base(family) for family in formula.FAMILIES}
    lines = lambda name, all: f' "{name}": [\n' + ",\n".join("  " + json.dumps(one) for one in all) + "\n ]"
    text = ",\n".join([f' "bases": {json.dumps(bases)}', f' "rows": {json.dumps(rows)}', lines("served", served),
                       lines("refused", refused)])
    (Path(__file__).parent / "models.json").write_text("{\n" + text + "\n}\n")


if __name__ == "__main__":
    main()
