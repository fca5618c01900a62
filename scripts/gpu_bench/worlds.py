"""Models without weights, in the shapes of Qwen2, and texts of random letters."""

import json
import random
import shutil

SHAPES = {  # width, layers, heads, kv heads, feed-forward, vocabulary, tied
    "0.5B": (896, 24, 14, 2, 4864, 151936, True),
    "1.5B": (1536, 28, 12, 2, 8960, 151936, True),
    "7B": (3584, 28, 28, 4, 18944, 152064, False),
    "tiny": (64, 2, 4, 2, 176, 1024, True),
}


def letters(length, rng):
    return "".join(
        " " if rng.random() < 0.18 else rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length)
    )


def make(folder, tokenizer, tiny):
    """Makes a folder for each shape, `pairs.jsonl` and `prompts.jsonl`.

    Pairs have prompts of about 500 tokens and answers of 410 to 470, prompts alone 256.
    """
    rng = random.Random(1)
    asked, answered, alone = (40, (32, 40), 32) if tiny else (500, (440, 500), 274)
    pair = lambda: {
        "prompt": letters(asked, rng),
        "chosen": letters(rng.randint(*answered), rng),
        "rejected": letters(rng.randint(*answered), rng),
    }
    write(folder / "pairs.jsonl", [pair() for _ in range(256)])
    write(folder / "prompts.jsonl", [{"prompt": letters(alone, rng)} for _ in range(64)])
    for name, (width, layers, heads, kv_heads, ffn, vocabulary, tied) in SHAPES.items():
        world = folder / name
        world.mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tokenizer / file, world)
        config = {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": ffn,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "max_position_embeddings": 4096,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "tie_word_embeddings": tied,
            "initializer_range": 0.02,
            "use_sliding_window": False,
            "pad_token_id": 0,
            "dtype": "float32",
        }
        (world / "config.json").write_text(json.dumps(config))


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
