"""Makes tiny random checkpoints and their reference results.

    python make.py OUT_DIR

needs torch, transformers (5.x) and safetensors. The output is deterministic; the
committed files came from torch 2.11 and transformers 5.23 on a CPU.

For each family, OUT_DIR gets
  FAMILY/                config.json + model.safetensors of the causal LM (float32), as
                         `save_pretrained` writes them
  FAMILY/cases.json      the token ids used
  FAMILY/golden.safetensors
                         the reference results, below
  FAMILY/config-v4.json  only where RoPE is scaled or partial, or layers differ: the same configuration in the
                         spelling of transformers 4 (`rope_theta` and `rope_scaling`, or
                         `rotary_emb_base` and `rotary_pct`; `torch_dtype`)
  FAMILY-reward/         the same base weights with a random `score.weight`:
                         a *ForSequenceClassification with num_labels = 1
and `llama-sharded/` holds the weights of `llama/` in three shards and an index.

Tensors of golden.safetensors. All are F32 except `input_ids` and `lengths` (I32).
  input_ids, lengths     cases.sequences, concatenated, and their lengths
  logits.0, logits.1     [length, vocab] of each of cases.sequences (causal LM)
  scores                 [n] reward of each of cases.score_sequences
  pair.scores            [2] reward of prompt+chosen and of prompt+rejected
  pair.loss              [1] -log sigmoid(d) - log sigmoid(bound - d), where
                         d = score(prompt+chosen) - score(prompt+rejected)
  pair.grad.NAME         gradient of pair.loss in parameter NAME of FAMILY-reward
  logp.sum               [1] sum over t of log p(ids[t+1] | ids[..t]) for cases.logp_sequence
  logp.grad.NAME         gradient of logp.sum in parameter NAME of FAMILY. A tied lm_head is not a
                         separate parameter: its gradient is part of the embedding's

The weights are the float32 ones of the files; the arithmetic is float64. Two notes on that:
transformers casts to float32 inside RMSNorm, which is undone here, and it computes the RoPE
angles, cos and sin in float32, which is kept. No sequence contains `pad_token_id`, and each
is run alone, without padding. With a sliding window w, position i sees j when 0 <= i - j < w.
pair.grad of gpt2's ln_f.bias and gpt_neox's final_layer_norm.bias is exactly 0: it cancels in d.
"""

import json
import os
import sys
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    logging,
)
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm, Gemma3TextModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

VOCAB = 67
PAD = 3  # given to the reward models; never drawn as a token
BOUND = 0.7

SHARED = dict(
    vocab_size=VOCAB,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_id=2,
    tie_word_embeddings=False,
    rms_norm_eps=1e-5,
)
WIDE = {**SHARED, "hidden_size": 32}  # head_dim = hidden_size / num_attention_heads
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=100.0,  # puts one frequency in each of the three bands
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
YARN = dict(
    rope_type="yarn",
    rope_theta=100.0,  # keeps the first pair, divides the last two, and puts the second on the ramp
    factor=4.0,
    original_max_position_embeddings=32,
)
NEOX = dict(
    vocab_size=VOCAB,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=128,
    bos_token_id=1,
    eos_token_id=2,
    tie_word_embeddings=False,
)

GEMMA = {
    **SHARED,
    "num_hidden_layers": 3,
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 24,  # unlike head_dim
    "pad_token_id": PAD,
}

FAMILIES = {
    "llama": LlamaConfig(**WIDE),
    "llama-head-dim": LlamaConfig(**{**SHARED, "hidden_size": 24}),
    "llama-tied-linear": LlamaConfig(
        **{**SHARED, "tie_word_embeddings": True},
        rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0),
    ),
    "llama3": LlamaConfig(**SHARED, rope_parameters=LLAMA3),
    # Two of the sequences are longer than the context, and by different lengths.
    "llama-dynamic": LlamaConfig(
        **{**SHARED, "max_position_embeddings": 20},
        rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0),
    ),
    "llama-yarn": LlamaConfig(**{**SHARED, "max_position_embeddings": 128}, rope_parameters=YARN),
    "mistral": MistralConfig(**SHARED, sliding_window=None),
    "mistral-window": MistralConfig(**SHARED, sliding_window=8),
    "qwen2": Qwen2Config(
        **{**{k: v for k, v in WIDE.items() if k != "head_dim"}, "tie_word_embeddings": True},
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
    ),
    # Only the second layer has a window.
    "qwen2-window": Qwen2Config(
        **{k: v for k, v in WIDE.items() if k != "head_dim"},
        use_sliding_window=True,
        sliding_window=8,
        max_window_layers=1,
    ),
    "qwen3": Qwen3Config(**SHARED),  # 4 heads of 8 dimensions over a width of 16
    "qwen3-yarn": Qwen3Config(
        **{**SHARED, "max_position_embeddings": 128},
        rope_parameters=dict(
            **YARN, beta_fast=4.0, beta_slow=0.25, mscale=1.5, mscale_all_dim=0.5, truncate=False
        ),
    ),
    "gpt2": GPT2Config(
        vocab_size=VOCAB,
        n_positions=56,
        n_embd=16,
        n_layer=2,
        n_head=4,
        n_inner=40,
        bos_token_id=1,
        eos_token_id=2,
    ),
    # The third layer has full attention, the others a window and their own angles.
    "gemma3": Gemma3TextConfig(**GEMMA, sliding_window=8, sliding_window_pattern=3),
    "gemma3-linear": Gemma3TextConfig(
        **{**GEMMA, "tie_word_embeddings": False},
        sliding_window=5,
        layer_types=["full_attention", "sliding_attention", "full_attention"],
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", rope_theta=50000.0, factor=8.0),
            sliding_attention=dict(rope_type="default", rope_theta=500.0),
        ),
    ),
    # 4 of a head's 8 dimensions rotate.
    "gpt_neox": GPTNeoXConfig(
        **NEOX,
        rope_parameters=dict(rope_type="default", rope_theta=100.0, partial_rotary_factor=0.5),
    ),
    # 6 of 8; attention before the feed-forward network, and no biases in attention.
    "gpt_neox-yarn": GPTNeoXConfig(
        **NEOX,
        use_parallel_residual=False,
        attention_bias=False,
        hidden_act="gelu_new",
        rope_parameters=dict(**YARN, partial_rotary_factor=0.75, attention_factor=1.3),
    ),
}


def rms_norm(self, x):
    """RMSNorm without the cast to float32."""
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


for norm in (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm):
    norm.forward = rms_norm


def rms_norm_around_one(self, x):
    """Gemma's RMSNorm without the cast to float32."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * (1.0 + self.weight)


Gemma3RMSNorm.forward = rms_norm_around_one


@torch.no_grad()
def randomise(model, rng):
    """Random values in every parameter, so that none is all 0 or all 1."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=rng)
        if p.dim() > 1:
            p.copy_(0.25 * noise)
        elif name.endswith("bias"):
            p.copy_(0.2 * noise)
        else:
            around = 0.0 if isinstance(model.base_model, Gemma3TextModel) else 1.0
            p.copy_(around + 0.3 * noise)  # a norm's scale


def ids(n, rng):
    return torch.randint(PAD + 1, VOCAB, (n,), generator=rng).tolist()


def run(model, tokens):
    """Results of one sequence, independent of earlier calls: dynamic RoPE keeps the angles of a longer one."""
    for module in model.modules():
        if getattr(module, "rope_type", None) == "dynamic":
            module.inv_freq = module.original_inv_freq
            module.max_seq_len_cached = module.original_max_seq_len
    return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]


def grads(model, value, prefix):
    model.zero_grad()
    value.backward()
    out = {}
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        if isinstance(model, GPTNeoXForCausalLM):
            name = name.replace("lm_head.", "embed_out.")  # the name in files
        out[prefix + name] = p.grad.clone()
    return out


def v4_config(config):
    """A configuration in the spelling of transformers 4."""
    rope = dict(config.pop("rope_parameters"))
    if "full_attention" in rope:
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = dict(rope["full_attention"])
    if config["model_type"] == "gpt_neox":
        config["rotary_emb_base"] = rope.pop("rope_theta")
        config["rotary_pct"] = rope.pop("partial_rotary_factor")
    else:
        config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    if "sliding_window_pattern" in config or config.get("use_sliding_window"):
        del config["layer_types"]  # early files had only these
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    return config


def make(family, config, out):
    rng = torch.Generator().manual_seed(zlib.crc32(family.encode()))
    base_dir, reward_dir = out / family, out / f"{family}-reward"

    lm = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    randomise(lm, rng)
    lm.save_pretrained(base_dir)
    if family == "llama":
        lm.save_pretrained(out / "llama-sharded", max_shard_size="24KB")
    rope = getattr(config, "rope_parameters", {})
    plain = rope.get("rope_type", "default") == "default" and "full_attention" not in rope
    if not plain or "partial_rotary_factor" in rope or getattr(config, "use_sliding_window", False):
        config = v4_config(json.loads((base_dir / "config.json").read_text()))
        (base_dir / "config-v4.json").write_text(json.dumps(config, indent=2) + "\n")

    reward = AutoModelForSequenceClassification.from_pretrained(
        base_dir, num_labels=1, pad_token_id=PAD, dtype=torch.float32
    )
    with torch.no_grad():
        reward.score.weight.copy_(0.25 * torch.randn(reward.score.weight.shape, generator=rng))
    reward.save_pretrained(reward_dir)

    sequences = [ids(40, rng), ids(7, rng)]
    cases = {
        "family": family,
        "sequences": sequences,
        "score_sequences": [ids(1, rng), ids(9, rng), ids(50, rng)],
        "pair": {
            "prompt": ids(6, rng),
            "chosen": ids(10, rng),
            "rejected": ids(7, rng),
            "bound": BOUND,
        },
        "logp_sequence": sequences[0],
    }
    (base_dir / "cases.json").write_text(json.dumps(cases) + "\n")

    # Read the files back, so that the results are exactly those of the files.
    lm = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32).double().eval()
    reward = AutoModelForSequenceClassification.from_pretrained(reward_dir, dtype=torch.float32)
    reward = reward.double().eval()

    golden = {f"logits.{i}": run(lm, s).detach() for i, s in enumerate(sequences)}
    golden["scores"] = torch.cat([run(reward, s) for s in cases["score_sequences"]]).detach()

    pair = cases["pair"]
    chosen = run(reward, pair["prompt"] + pair["chosen"])
    rejected = run(reward, pair["prompt"] + pair["rejected"])
    d = chosen - rejected
    loss = -F.logsigmoid(d) - F.logsigmoid(BOUND - d)
    golden["pair.scores"] = torch.cat([chosen, rejected]).detach()
    golden["pair.loss"] = loss.detach()
    golden |= grads(reward, loss, "pair.grad.")

    tokens = torch.tensor(cases["logp_sequence"])
    logp = run(lm, cases["logp_sequence"])[:-1].log_softmax(-1)
    total = logp.gather(1, tokens[1:, None]).sum().reshape(1)
    golden["logp.sum"] = total.detach()
    golden |= grads(lm, total, "logp.grad.")

    for name, value in golden.items():
        assert value.dtype == torch.float64, name
    golden = {name: value.float().contiguous() for name, value in golden.items()}
    golden["input_ids"] = torch.tensor(sum(sequences, []), dtype=torch.int32)
    golden["lengths"] = torch.tensor([len(s) for s in sequences], dtype=torch.int32)
    save_file(golden, base_dir / "golden.safetensors")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python make.py OUT_DIR")
    torch.set_num_threads(1)
    logging.set_verbosity_error()  # score.weight is new in the reward models, as intended
    logging.disable_progress_bar()
    out = Path(sys.argv[1])
    for family, config in FAMILIES.items():
        make(family, config, out)
        print(family, file=sys.stderr)
    shards = [f for f in os.listdir(out / "llama-sharded") if f.startswith("model-")]
    assert len(shards) == 3, shards


if __name__ == "__main__":
    main()
