//! The Gemma families: norms around one, embeddings scaled by √width.

use super::llama::{LLAMA, LLAMA_KEYS};
use crate::model::family::{
    AttentionScale, Bias, Biases, EmbeddingScale, Every, Family, Keys, NormKind, Positions, QkNorms, Theta,
    Windows,
};

pub(super) const GEMMA: Family = Family {
    model_type: "gemma",
    classifier: "GemmaForSequenceClassification",
    language_model: "GemmaForCausalLM",
    keys: Keys { gelu_is_tanh: true, ..LLAMA_KEYS },
    embedding_scale: EmbeddingScale::RootWidth,
    norm: NormKind::RmsAroundOne,
    biases: Biases { mlp: Bias::Never, ..LLAMA.biases },
    ..LLAMA
};

pub(super) const GEMMA2: Family = Family {
    model_type: "gemma2",
    classifier: "Gemma2ForSequenceClassification",
    language_model: "Gemma2ForCausalLM",
    keys: Keys { activation: "hidden_activation", ..LLAMA_KEYS },
    windows: Windows::AllButEvery(Every::Number(2)),
    scale: AttentionScale { square: Some("query_pre_attn_scalar"), ..LLAMA.scale },
    score_cap: Some("attn_logit_softcapping"),
    mlp_norm: Some("pre_feedforward_layernorm"),
    post_norms: Some(["post_attention_layernorm", "post_feedforward_layernorm"]),
    ..GEMMA
};

pub(super) const GEMMA3: Family = Family {
    model_type: "gemma3_text",
    classifier: "Gemma3TextForSequenceClassification",
    language_model: "Gemma3ForCausalLM",
    positions: Positions::LocalRotary { theta: Theta::Key("rope_local_base_freq") },
    windows: Windows::AllButEvery(Every::Key("sliding_window_pattern")),
    score_cap: None,
    qk_norms: Some(QkNorms::ByHead(["self_attn.q_norm", "self_attn.k_norm"])),
    ..GEMMA2
};
