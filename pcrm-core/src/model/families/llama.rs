//! Llama and the families that differ from it in one or two options.

use crate::model::family::{
    AttentionScale, Bias, Biases, EmbeddingScale, Every, Family, Gated, HeadDim, Keys, LogitScale, Mlp,
    NormKind, Pairs, Parallel, Positions, QkNorms, Qkv, Theta, Windows,
};
use crate::model::parameters::SCORE;

pub(super) const LLAMA_KEYS: Keys = Keys {
    width: "hidden_size",
    layers: "num_hidden_layers",
    heads: "num_attention_heads",
    kv_heads: Some("num_key_value_heads"),
    ffn: ("intermediate_size", None),
    max_positions: "max_position_embeddings",
    norm_eps: Some("rms_norm_eps"),
    activation: "hidden_act",
    deviation: "initializer_range",
    gelu_is_tanh: false,
};

/// The feed-forward network of llama and of most later families.
pub(super) const NETWORK: Gated = Gated { gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj" };

pub(super) const LLAMA: Family = Family {
    model_type: "llama",
    classifier: "LlamaForSequenceClassification",
    scored_by_transformers: true,
    language_model: "LlamaForCausalLM",
    prefix: "model.",
    keys: LLAMA_KEYS,
    embedding: "model.embed_tokens",
    embedding_scale: EmbeddingScale::One,
    projections: None,
    positions: Positions::Rotary,
    pairs: Pairs::Halves,
    layers: "model.layers.",
    attention_norm: Some("input_layernorm"),
    windows: Windows::Never,
    qkv: Qkv::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    head_dim: HeadDim::Key,
    scale: AttentionScale { square: None, factor: None, on: None, by_layer: None },
    score_cap: None,
    qk_norms: None,
    output: "self_attn.o_proj",
    mlp_norm: Some("post_attention_layernorm"),
    mlp: Mlp::Gated(NETWORK),
    experts: None,
    post_norms: None,
    parallel: Parallel::Never,
    norms_first: None,
    residual_scale: None,
    last_norm: "model.norm",
    language_head: "lm_head.weight",
    score_head: SCORE,
    logit_scale: LogitScale::One,
    lora_targets: &["q_proj", "v_proj"],
    norm: NormKind::Rms,
    biases: Biases {
        qkv: Bias::Flag("attention_bias"),
        output: Bias::Flag("attention_bias"),
        mlp: Bias::Flag("mlp_bias"),
    },
    conv1d: false,
};

pub(super) const MISTRAL: Family = Family {
    model_type: "mistral",
    classifier: "MistralForSequenceClassification",
    language_model: "MistralForCausalLM",
    windows: Windows::Everywhere,
    biases: Biases { qkv: Bias::Never, output: Bias::Never, mlp: Bias::Never },
    ..LLAMA
};

pub(super) const QWEN2: Family = Family {
    model_type: "qwen2",
    classifier: "Qwen2ForSequenceClassification",
    language_model: "Qwen2ForCausalLM",
    windows: Windows::Late,
    biases: Biases { qkv: Bias::Always, output: Bias::Never, mlp: Bias::Never },
    ..LLAMA
};

pub(super) const QWEN3: Family = Family {
    model_type: "qwen3",
    classifier: "Qwen3ForSequenceClassification",
    language_model: "Qwen3ForCausalLM",
    windows: Windows::Late,
    qk_norms: Some(QkNorms::ByHead(["self_attn.q_norm", "self_attn.k_norm"])),
    biases: Biases { mlp: Bias::Never, ..LLAMA.biases },
    ..LLAMA
};

pub(super) const MINISTRAL: Family = Family {
    model_type: "ministral",
    classifier: "MinistralForSequenceClassification",
    language_model: "MinistralForCausalLM",
    windows: Windows::AllUnlessListed,
    ..MISTRAL
};

pub(super) const SMOLLM3: Family = Family {
    model_type: "smollm3",
    classifier: "SmolLM3ForSequenceClassification",
    language_model: "SmolLM3ForCausalLM",
    positions: Positions::RotaryInSome { list: "no_rope_layers", every: "no_rope_layer_interval" },
    windows: Windows::Unrotated,
    ..LLAMA
};

pub(super) const GRANITE: Family = Family {
    model_type: "granite",
    classifier: "GraniteForSequenceClassification",
    scored_by_transformers: false,
    language_model: "GraniteForCausalLM",
    embedding_scale: EmbeddingScale::Key("embedding_multiplier"),
    scale: AttentionScale { factor: Some("attention_multiplier"), ..LLAMA.scale },
    residual_scale: Some("residual_multiplier"),
    logit_scale: LogitScale::Over("logits_scaling"),
    ..LLAMA
};

/// OLMo 2, with norms after attention and after the network, and none before.
pub(super) const OLMO2: Family = Family {
    model_type: "olmo2",
    classifier: "Olmo2ForSequenceClassification",
    language_model: "Olmo2ForCausalLM",
    attention_norm: None,
    qk_norms: Some(QkNorms::Whole(["self_attn.q_norm", "self_attn.k_norm"])),
    mlp_norm: None,
    post_norms: Some(["post_attention_layernorm", "post_feedforward_layernorm"]),
    biases: Biases { mlp: Bias::Never, ..LLAMA.biases },
    ..LLAMA
};

pub(super) const OLMO3: Family = Family {
    model_type: "olmo3",
    classifier: "Olmo3ForSequenceClassification",
    language_model: "Olmo3ForCausalLM",
    // `rope_theta` belongs to layers without a window: transformers consumes the key for them.
    positions: Positions::LocalRotary { theta: Theta::Number(500_000) },
    windows: Windows::AllButEvery(Every::Number(4)),
    ..OLMO2
};
