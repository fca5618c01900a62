"""Makes tiny random checkpoints of the families added later, and their reference results.

    python make_compact.py OUT_DIR [FAMILY ..]

needs torch, transformers (5.x) and safetensors. The output is deterministic; the committed files came from
torch 2.11 and transformers 5.24 on a CPU. Works like make.py, whose arithmetic it uses (float64, without the
casts to float32 in norms and softmax), with smaller models and one checkpoint for both heads:

  FAMILY/                config.json + model.safetensors (bfloat16) of the causal LM, as `save_pretrained`
                         writes them
  FAMILY/config-v4.json  where it differs: the same configuration in the spelling of transformers 4
  FAMILY/cases.json      the token ids used
  FAMILY/golden.safetensors
                         as in make.py, but logp.grad only for parameters outside the layers; and
                         `score.weight` [1, hidden_size], the head of the reward model over the same weights:
                         scores are its products with the hidden states after the last norm (and projection). If
                         transformers has a class for such a model, its scores are checked against these.

Mixtures of experts also have aux.loss [1], the routers' loss of cases.logp_sequence without its coefficient
(computed by transformers, in part in float32), and aux.grad.NAME, its gradient in each router.

`internlm2` is not part of transformers: it computes the same function as llama under other names, with
queries, keys and values in one matrix by groups, as in its published code; its results are those of that
llama. `gemma3-multimodal` is a Gemma3ForConditionalGeneration; only its text part is run.
"""

import copy
import json
import re
import sys
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    Cohere2Config,
    Gemma2Config,
    Gemma3Config,
    GemmaConfig,
    Glm4Config,
    GraniteConfig,
    LlamaConfig,
    MinistralConfig,
    MixtralConfig,
    Olmo2Config,
    Olmo3Config,
    OlmoeConfig,
    OPTConfig,
    Phi3Config,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
    SmolLM3Config,
    logging,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from make import BOUND, PAD, VOCAB, ids, rms_norm, rms_norm_around_one

SHARED = dict(
    vocab_size=VOCAB,
    hidden_size=16,
    intermediate_size=8,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=PAD,
    tie_word_embeddings=True,
)
RMS = {**SHARED, "rms_norm_eps": 1e-5}
UNTIED = {**RMS, "tie_word_embeddings": False}
YARN = dict(rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=32)


def without(settings, *keys):
    return {key: value for key, value in settings.items() if key not in keys}


LONG = without(RMS, "num_attention_heads", "num_key_value_heads", "max_position_embeddings")
MOE = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=5)

FAMILIES = {
    "cohere2": Cohere2Config(
        **SHARED,
        layer_norm_eps=1e-5,
        attention_bias=True,
        logit_scale=0.25,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "gemma": GemmaConfig(**RMS, head_dim=6, hidden_act="gelu", attention_bias=True),
    "gemma2": Gemma2Config(
        **RMS,
        head_dim=6,
        query_pre_attn_scalar=20,
        sliding_window=8,
        final_logit_softcapping=3.0,
        attn_logit_softcapping=0.7,
    ),
    "gemma3-multimodal": Gemma3Config(
        text_config=dict(
            **without(RMS, "bos_token_id", "eos_token_id"),
            head_dim=6,
            query_pre_attn_scalar=20,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention"],
            rope_parameters=dict(
                full_attention=dict(rope_type="linear", rope_theta=50000.0, factor=8.0),
                sliding_attention=dict(rope_type="default", rope_theta=500.0),
            ),
        ),
        vision_config=dict(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            image_size=8,
            patch_size=4,
        ),
        mm_tokens_per_image=4,
        boi_token_index=60,
        eoi_token_index=61,
        image_token_index=62,
        eos_token_id=[2, 4],
        bos_token_id=1,
    ),
    "glm4": Glm4Config(
        **RMS,
        head_dim=8,
        attention_bias=True,
        rope_parameters=dict(rope_type="default", rope_theta=100.0, partial_rotary_factor=0.5),
    ),
    "granite": GraniteConfig(
        **RMS,
        attention_bias=True,
        mlp_bias=True,
        embedding_multiplier=3.0,
        logits_scaling=1.7,
        residual_multiplier=0.6,
        attention_multiplier=0.4,
    ),
    "internlm2": LlamaConfig(
        **{**UNTIED, "max_position_embeddings": 60},
        rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0),
    ),
    "ministral": MinistralConfig(
        **RMS, head_dim=6, sliding_window=8, layer_types=["sliding_attention", "full_attention"]
    ),
    "mixtral": MixtralConfig(**RMS, num_local_experts=4, num_experts_per_tok=2, sliding_window=9),
    "olmo2": Olmo2Config(**UNTIED, attention_bias=True),
    "olmo3": Olmo3Config(
        **{**RMS, "max_position_embeddings": 128},
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters=dict(
            full_attention=YARN,
            # Whatever θ a file of transformers 4 has.
            sliding_attention=dict(rope_type="default", rope_theta=Olmo3Config.default_theta),
        ),
    ),
    "olmoe": OlmoeConfig(
        **{**RMS, "intermediate_size": 5}, num_experts=4, num_experts_per_tok=2, norm_topk_prob=True
    ),
    "opt": OPTConfig(
        **without(SHARED, "intermediate_size", "num_key_value_heads", "max_position_embeddings"),
        ffn_dim=20,
        max_position_embeddings=60,
    ),
    # As published: norms of sums, no last norm, embeddings narrower than the layers.
    "opt-350m": OPTConfig(
        **without(SHARED, "intermediate_size", "num_key_value_heads", "max_position_embeddings"),
        ffn_dim=20,
        max_position_embeddings=60,
        do_layer_norm_before=False,
        word_embed_proj_dim=8,
    ),
    # 6 of 8 dimensions rotate.
    "phi3": Phi3Config(
        **LONG,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        sliding_window=10,
        rope_parameters=dict(rope_type="default", rope_theta=100.0, partial_rotary_factor=0.75),
    ),
    # Two of the sequences are longer than the context trained on.
    "phi3-long": Phi3Config(
        **LONG,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        original_max_position_embeddings=20,
        rope_parameters=dict(
            rope_type="longrope",
            rope_theta=100.0,
            partial_rotary_factor=0.75,
            short_factor=[1.0, 1.2, 1.5],
            long_factor=[1.1, 2.0, 5.0],
        ),
    ),
    "qwen2_moe": Qwen2MoeConfig(
        **RMS, **MOE, shared_expert_intermediate_size=10, norm_topk_prob=False, mlp_only_layers=[0]
    ),
    # The first layer has a window: the second is even, the third not before max_window_layers.
    "qwen2_moe-window": Qwen2MoeConfig(
        **{**RMS, "num_hidden_layers": 3},
        **MOE,
        shared_expert_intermediate_size=10,
        use_sliding_window=True,
        sliding_window=5,
        max_window_layers=2,
    ),
    "qwen3_moe": Qwen3MoeConfig(**UNTIED, **MOE, head_dim=6, norm_topk_prob=True),
    "qwen3_moe-window": Qwen3MoeConfig(**UNTIED, **MOE, head_dim=6, use_sliding_window=True, sliding_window=5),
    "smollm3": SmolLM3Config(**RMS, no_rope_layers=[1, 0], attention_bias=True, mlp_bias=True),
    # The layers without positions have windows: the first and the third.
    "smollm3-window": SmolLM3Config(
        **{**RMS, "num_hidden_layers": 3}, no_rope_layers=[0, 1, 0], use_sliding_window=True, sliding_window=5
    ),
}

# No implementation that is limited to float32 or ignores the soft cap of attention scores.
EAGER = dict(attn_implementation="eager", experts_implementation="eager")

softmax = F.softmax


def softmax_without_cast(x, dim=None, _stacklevel=3, dtype=None):
    """softmax in float64 where models request float32."""
    return softmax(x, dim=dim, dtype=None if x.dtype == torch.float64 else dtype)


F.softmax = softmax_without_cast


def layer_norm(self, x):
    """Cohere's norm without the cast to float32."""
    x = x - x.mean(-1, keepdim=True)
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def without_casts(model):
    for module in model.modules():
        kind = type(module)
        if kind.__name__.endswith("RMSNorm"):
            kind.forward = rms_norm_around_one if kind.__name__.startswith("Gemma") else rms_norm
        elif kind.__name__ == "Cohere2LayerNorm":
            kind.forward = layer_norm


@torch.no_grad()
def randomise(model, rng):
    """Random values in every parameter, so that none is all 0 or all 1."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=rng)
        if p.dim() > 1:
            # Routers choose clearly: no two experts are nearly equal.
            p.copy_((1.0 if name.endswith("mlp.gate.weight") else 0.3) * noise)
        elif name.endswith("bias"):
            p.copy_(0.2 * noise)
        else:
            around = 0.0 if "gemma" in type(model).__name__.lower() else 1.0
            p.copy_(around + 0.3 * noise)


def run(model, tokens, head=None):
    """Logits of one sequence or, with a head, the score after its last token, independent of earlier calls."""
    for module in model.modules():
        if getattr(module, "rope_type", None) in ("dynamic", "longrope"):
            module.inv_freq = module.original_inv_freq.clone()
            module.max_seq_len_cached = module.original_max_seq_len
    inputs = dict(input_ids=torch.tensor([tokens]), use_cache=False)
    if head is None:
        return model(**inputs).logits[0]
    body = model.model if hasattr(model, "model") else model.base_model
    return body(**inputs).last_hidden_state[0, -1:] @ head.T[:, 0]


def text_name(name):
    """The name of a parameter in a checkpoint of only the text part; None if it belongs to another part."""
    if "vision_tower" in name or "projector" in name:
        return None
    return name.replace("model.language_model.", "model.")


def internlm2(weights, config):
    """The weights of a llama under InternLM2's names."""
    heads, kv, width = config.num_attention_heads, config.num_key_value_heads, config.hidden_size
    dim, group = width // heads, heads // kv
    renamed = {}
    for name, weight in weights.items():
        if re.search(r"\.[kv]_proj\.", name):
            continue
        if ".q_proj." in name:
            q = weight.view(kv, group, dim, width)
            k, v = (weights[name.replace("q_proj", f"{x}_proj")].view(kv, 1, dim, width) for x in "kv")
            weight = torch.cat([q, k, v], 1).reshape(-1, width)
        for theirs, ours in [
            ("self_attn.q_proj", "attention.wqkv"),
            ("self_attn.o_proj", "attention.wo"),
            ("mlp.gate_proj", "feed_forward.w1"),
            ("mlp.up_proj", "feed_forward.w3"),
            ("mlp.down_proj", "feed_forward.w2"),
            ("input_layernorm", "attention_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("embed_tokens", "tok_embeddings"),
            ("lm_head", "output"),
        ]:
            name = name.replace(theirs, ours)
        renamed[name] = weight.contiguous()
    return renamed


def per_expert(weights):
    """Separate experts under the names in checkpoints; the model holds the experts of a layer in one tensor."""
    apart = {}
    for name, weight in weights.items():
        if ".mlp.experts." not in name:
            apart[name] = weight
            continue
        lead = name[: name.rindex(".")]
        for expert, own in enumerate(weight):
            if name.endswith("gate_up_proj"):
                half = own.shape[0] // 2
                apart[f"{lead}.{expert}.gate_proj.weight"] = own[:half].contiguous()
                apart[f"{lead}.{expert}.up_proj.weight"] = own[half:].contiguous()
            else:
                apart[f"{lead}.{expert}.down_proj.weight"] = own.contiguous()
    return apart


def of_mixtral(name):
    name = name.replace(".mlp.", ".block_sparse_moe.")
    return name.replace(".gate_proj.", ".w1.").replace(".up_proj.", ".w3.").replace(".down_proj.", ".w2.")


def stored(family, config, tensors):
    """Gradients or weights of the model's parameters, with the names and shapes of the checkpoint."""
    tensors = {text_name(name): tensor for name, tensor in tensors.items() if text_name(name)}
    tensors = per_expert(tensors)
    if family == "internlm2":
        return internlm2(tensors, config)
    if family == "mixtral":
        return {of_mixtral(name) if ".mlp." in name else name: tensor for name, tensor in tensors.items()}
    return tensors


def grads(family, config, model, value, head=None):
    model.zero_grad()
    value.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if head is None:
        missing = [name for name, p in model.named_parameters() if p.grad is None and text_name(name)]
        assert not missing, missing
    return {name: gradient.clone() for name, gradient in stored(family, config, gradients).items()}


def v4_config(config):
    """A configuration in the spelling of transformers 4, if it differs in more than the names of keys."""
    rope = dict(config.pop("rope_parameters"))
    if "full_attention" in rope:
        rope = dict(rope["full_attention"])
    config["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if rope["rope_type"] == "longrope":
        rope["type"] = rope.pop("rope_type")
    config["rope_scaling"] = rope if rope.get("rope_type") != "default" else None
    if config.get("use_sliding_window"):
        del config["layer_types"]  # early files had only max_window_layers
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    return config


def write_checkpoint(family, config, lm, folder):
    copy.deepcopy(lm).to(torch.bfloat16).save_pretrained(folder)
    path = folder / "config.json"
    raw = json.loads(path.read_text())
    if family == "internlm2":
        names = dict(model_type="internlm2", architectures=["InternLM2ForCausalLM"])
        names["bias"] = raw.pop("attention_bias")
        for key in ("attention_dropout", "mlp_bias", "head_dim", "pretraining_tp"):
            raw.pop(key, None)
        rope = raw.pop("rope_parameters")
        scaling = dict(type="dynamic", factor=rope["factor"])
        raw |= names | dict(rope_theta=rope["rope_theta"], rope_scaling=scaling)
        path.write_text(json.dumps(raw, indent=2, sort_keys=True) + "\n")
        weights = internlm2(load_file(folder / "model.safetensors"), config)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    elif family in ("phi3-long", "glm4", "olmo3", "qwen2_moe-window", "smollm3-window"):
        v4 = v4_config(raw)
        (folder / "config-v4.json").write_text(json.dumps(v4, indent=2) + "\n")
        read = type(config).from_dict(v4)
        same = all(read.rope_parameters[key] == value for key, value in config.rope_parameters.items())
        assert same and getattr(read, "layer_types", None) == getattr(config, "layer_types", None), read
    elif family == "gemma":
        raw["hidden_act"] = "gelu"  # as in its first configs
        path.write_text(json.dumps(raw, indent=2) + "\n")
    if family in ("internlm2", "gemma3-multimodal"):
        (folder / "generation_config.json").unlink(missing_ok=True)


def make(family, config, out):
    rng = torch.Generator().manual_seed(zlib.crc32(family.encode()))
    folder = out / family
    auto = AutoModelForImageTextToText if family == "gemma3-multimodal" else AutoModelForCausalLM
    lm = auto.from_config(config, dtype=torch.float32, **EAGER)
    randomise(lm, rng)
    for p in lm.parameters():
        p.data = p.data.bfloat16().float()  # halves the size of the files
    write_checkpoint(family, config, lm, folder)
    text = config.get_text_config()
    width = getattr(text, "word_embed_proj_dim", text.hidden_size)
    score = 0.3 * torch.randn(1, width, generator=rng)

    sequences = [ids(12, rng), ids(7, rng)]
    cases = {
        "family": family,
        "sequences": sequences,
        "score_sequences": [ids(1, rng), ids(9, rng), ids(30, rng)],
        "pair": {"prompt": ids(6, rng), "chosen": ids(10, rng), "rejected": ids(7, rng), "bound": BOUND},
        "logp_sequence": sequences[0],
    }
    (folder / "cases.json").write_text(json.dumps(cases) + "\n")

    if family != "internlm2":  # read the files back for exact results
        lm = auto.from_pretrained(folder, dtype=torch.float32, **EAGER)
    lm = lm.double().eval()
    without_casts(lm)
    head = score.double().requires_grad_()

    golden = {f"logits.{i}": run(lm, s).detach() for i, s in enumerate(sequences)}
    golden["scores"] = torch.cat([run(lm, s, head) for s in cases["score_sequences"]]).detach()
    has_class = type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    if has_class and family not in ("internlm2", "gemma3-multimodal"):
        reward = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, pad_token_id=PAD, dtype=torch.float32, **EAGER
        ).double().eval()
        reward.score.weight.data.copy_(score)
        for tokens, want in zip(cases["score_sequences"], golden["scores"]):
            assert torch.allclose(run(reward, tokens)[0], want, atol=1e-9), family

    pair = cases["pair"]
    chosen = run(lm, pair["prompt"] + pair["chosen"], head)
    rejected = run(lm, pair["prompt"] + pair["rejected"], head)
    d = chosen - rejected
    loss = -F.logsigmoid(d) - F.logsigmoid(BOUND - d)
    golden["pair.scores"] = torch.cat([chosen, rejected]).detach()
    golden["pair.loss"] = loss.detach()
    gradients = grads(family, config, lm, loss, head)
    golden |= {f"pair.grad.{name}": gradient for name, gradient in gradients.items()}
    golden["pair.grad.score.weight"] = head.grad.clone()

    tokens = torch.tensor(cases["logp_sequence"])
    logp = run(lm, cases["logp_sequence"])[:-1].log_softmax(-1)
    total = logp.gather(1, tokens[1:, None]).sum().reshape(1)
    golden["logp.sum"] = total.detach()
    # The pair's gradients cover those of the body.
    for name, gradient in grads(family, config, lm, total).items():
        if any(part in name for part in ("embed", "lm_head", "output.", "norm.", "project")) and ".layers." not in name:
            golden[f"logp.grad.{name}"] = gradient

    if config.get_text_config().__dict__.get("output_router_logits") is not None:
        # The routers' loss of one sequence, over all layers with experts, and its gradient in the routers.
        lm.zero_grad()
        balance = lm(input_ids=tokens[None], use_cache=False, output_router_logits=True).aux_loss.reshape(1)
        balance.backward()
        golden["aux.loss"] = balance.detach()
        routed = [name for name, _ in lm.named_parameters() if name.endswith("mlp.gate.weight")]
        routers = stored(family, config, {name: lm.get_parameter(name).grad for name in routed})
        golden |= {f"aux.grad.{name}": gradient.clone() for name, gradient in routers.items()}

    golden = {name: value.float().contiguous() for name, value in golden.items()}
    golden["score.weight"] = score
    save_file(golden, folder / "golden.safetensors")


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: python make_compact.py OUT_DIR [FAMILY ..]")
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    out = Path(sys.argv[1])
    for family in sys.argv[2:] or FAMILIES:
        make(family, FAMILIES[family], out)
        print(family, file=sys.stderr)


if __name__ == "__main__":
    main()
