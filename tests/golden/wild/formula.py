"""Tiny checkpoints whose weights are a formula of their names, so that no weights are committed.

tests/wild_models.rs has the same formula. Element i of a tensor comes from splitmix64, seeded by FNV-1a of
its name: u = the upper 24 bits / 2^23 - 1, in [-1, 1). Matrices are u/2; biases u/4; norms 1 + u/4 (gemma3:
u/4, since it adds the one itself); the head score.weight is u.
"""

import numpy as np
import torch


def uniform(name, count):
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def tensor(name, shape, gemma=False):
    """The float32 tensor with this name; `shape` is that of the file."""
    u = uniform(name, int(np.prod(shape)))
    if name == "score.weight":
        values = u
    elif len(shape) > 1:
        values = u / 2
    elif name.endswith("bias") or gemma:
        values = u / 4
    else:
        values = 1 + u / 4
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def tensors(model):
    """All parameters of a reward model of transformers, by the names in its files."""
    gemma = model.config.model_type == "gemma3_text"
    return {name: tensor(name, tuple(p.shape), gemma) for name, p in model.named_parameters()}


def base(family):
    """The base config.json that cases change, with a vocabulary of 384 (tests/golden/text/plain)."""
    shared = {"model_type": family, "vocab_size": 384, "pad_token_id": 0, "num_labels": 1}
    if family == "gpt2":
        return {**shared, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
    wide = {
        **shared,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }
    if family == "gpt_neox":
        return wide
    return {**wide, "num_key_value_heads": 2, "head_dim": 8}


FAMILIES = ["gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3"]
