//! Families with fused projections, or with other rotary pairs than llama.

use super::llama::{LLAMA, LLAMA_KEYS};
use crate::model::family::{
    Bias, Biases, Every, Family, Gated, HeadDim, Keys, LogitScale, Mlp, NormKind, Pairs, Parallel, Positions,
    Qkv, Windows,
};

const NO_BIASES: Biases = Biases { qkv: Bias::Never, output: Bias::Never, mlp: Bias::Never };

pub(super) const PHI3: Family = Family {
    model_type: "phi3",
    classifier: "Phi3ForSequenceClassification",
    language_model: "Phi3ForCausalLM",
    positions: Positions::PartialRotary { share: "partial_rotary_factor", theta: "rope_theta" },
    windows: Windows::Everywhere,
    qkv: Qkv::Fused("self_attn.qkv_proj"),
    mlp: Mlp::GatedByOne { gate_up: "mlp.gate_up_proj", down: "mlp.down_proj" },
    lora_targets: &["qkv_proj"],
    biases: NO_BIASES,
    ..LLAMA
};

pub(super) const GLM4: Family = Family {
    model_type: "glm4",
    classifier: "Glm4ForSequenceClassification",
    language_model: "Glm4ForCausalLM",
    positions: Positions::PartialRotary { share: "partial_rotary_factor", theta: "rope_theta" },
    pairs: Pairs::Neighbours,
    mlp: Mlp::GatedByOne { gate_up: "mlp.gate_up_proj", down: "mlp.down_proj" },
    post_norms: Some(["post_self_attn_layernorm", "post_mlp_layernorm"]),
    biases: Biases { qkv: Bias::Flag("attention_bias"), ..NO_BIASES },
    ..LLAMA
};

pub(super) const COHERE2: Family = Family {
    model_type: "cohere2",
    classifier: "Cohere2ForSequenceClassification",
    scored_by_transformers: false,
    language_model: "Cohere2ForCausalLM",
    keys: Keys { norm_eps: Some("layer_norm_eps"), ..LLAMA_KEYS },
    positions: Positions::RotaryInWindows,
    pairs: Pairs::Neighbours,
    windows: Windows::AllButEvery(Every::Key("sliding_window_pattern")),
    head_dim: HeadDim::Divided,
    mlp_norm: None,
    parallel: Parallel::Always,
    logit_scale: LogitScale::Times("logit_scale"),
    norm: NormKind::LayerUnbiased,
    biases: Biases { mlp: Bias::Never, ..LLAMA.biases },
    ..LLAMA
};

/// Llama under other names; its code is not part of `transformers` but comes with its checkpoints.
pub(super) const INTERNLM2: Family = Family {
    model_type: "internlm2",
    classifier: "InternLM2ForRewardModel",
    scored_by_transformers: false,
    language_model: "InternLM2ForCausalLM",
    embedding: "model.tok_embeddings",
    attention_norm: Some("attention_norm"),
    qkv: Qkv::FusedByGroup("attention.wqkv"),
    head_dim: HeadDim::Divided,
    output: "attention.wo",
    mlp_norm: Some("ffn_norm"),
    mlp: Mlp::Gated(Gated { gate: "feed_forward.w1", up: "feed_forward.w3", down: "feed_forward.w2" }),
    language_head: "output.weight",
    score_head: "v_head.weight",
    lora_targets: &["wqkv"],
    biases: Biases { qkv: Bias::Flag("bias"), output: Bias::Flag("bias"), mlp: Bias::Never },
    ..LLAMA
};
