//! The types of the keys of `config.json` that are read. All are checked, even if a model's settings ignore
//! some, because an ignored key must not hide a mistake.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A type of values. Null, which means an absent key, is checked where the key is read.
#[derive(Debug, Clone, Copy)]
enum Type {
    Text,
    Texts,
    Count,
    Number,
    /// At least 0.
    Deviation,
    Flag,
    TokenId,
    /// One id, or a list of them.
    TokenIds,
    Object,
}

const TYPES: [(Type, &[&str]); 9] = [
    (
        Type::Text,
        &[
            "activation",
            "activation_function",
            "hidden_act",
            "hidden_activation",
            "model_type",
            "position_embedding_type",
            "problem_type",
            "tokenizer_class",
            "transformers_version",
        ],
    ),
    (Type::Texts, &["architectures", "layer_types"]),
    (
        Type::Count,
        &[
            "dim",
            "decoder_sparse_step",
            "head_dim",
            "ffn_dim",
            "hidden_dim",
            "hidden_size",
            "intermediate_size",
            "max_position_embeddings",
            "max_window_layers",
            "moe_intermediate_size",
            "n_embd",
            "n_head",
            "n_heads",
            "n_inner",
            "n_layer",
            "n_layers",
            "n_positions",
            "num_attention_heads",
            "num_experts_per_tok",
            "num_experts",
            "num_hidden_layers",
            "num_key_value_heads",
            "num_labels",
            "no_rope_layer_interval",
            "num_local_experts",
            "original_max_position_embeddings",
            "shared_expert_intermediate_size",
            "sliding_window",
            "sliding_window_pattern",
            "type_vocab_size",
            "vocab_size",
            "word_embed_proj_dim",
        ],
    ),
    (
        Type::Number,
        &[
            "final_logit_softcapping",
            "residual_multiplier",
            "logits_scaling",
            "logit_scale",
            "embedding_multiplier",
            "attn_logit_softcapping",
            "attention_multiplier",
            "layer_norm_eps",
            "layer_norm_epsilon",
            "partial_rotary_factor",
            "query_pre_attn_scalar",
            "rms_norm_eps",
            "router_aux_loss_coef",
            "rope_local_base_freq",
            "rope_theta",
            "rotary_emb_base",
            "rotary_pct",
        ],
    ),
    (Type::Deviation, &["init_std", "initializer_range"]),
    (
        Type::Flag,
        &[
            "attention_bias",
            "qkv_bias",
            "norm_topk_prob",
            "output_router_logits",
            "do_layer_norm_before",
            "enable_bias",
            "bias",
            "is_decoder",
            "mlp_bias",
            "scale_attn_by_inverse_layer_idx",
            "scale_attn_weights",
            "tie_word_embeddings",
            "use_parallel_residual",
            "use_sliding_window",
        ],
    ),
    (Type::TokenId, &["pad_token_id", "reward_token_id"]),
    (Type::TokenIds, &["bos_token_id", "eos_token_id"]),
    (Type::Object, &["id2label", "pcrm", "rope_parameters", "rope_scaling"]),
];

/// Checks that the keys accepted by `knows` have values of their type.
///
/// # Errors
/// Fails with the value and the expectation if one does not.
pub(crate) fn check(raw: &Map<String, Value>, path: &Path, knows: impl Fn(&str) -> bool) -> Result<()> {
    for (kind, keys) in TYPES {
        for key in keys {
            let Some(value) = raw.get(*key).filter(|value| !value.is_null() && knows(key)) else { continue };
            if !kind.holds(value) {
                let message = format!("{key} is {}; expected {}", shown(value), kind.words());
                return Err(Error::file(path, message));
            }
        }
    }
    match raw.get("pcrm").and_then(|own| own.get("max_length")) {
        Some(length) if !Type::Count.holds(length) => {
            let message = format!("pcrm.max_length is {}; expected {}", shown(length), Type::Count.words());
            Err(Error::file(path, message))
        }
        _ => Ok(()),
    }
}

/// Formats a value for a message, truncated if it is long.
pub(crate) fn shown(value: &Value) -> String {
    const LONGEST: usize = 120;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

impl Type {
    fn holds(self, value: &Value) -> bool {
        let id = |value: &Value| value.as_i64().is_some_and(|id| id <= i64::from(u32::MAX));
        match self {
            Self::Text => value.is_string(),
            Self::Texts => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            Self::Count => value.as_u64().is_some_and(|count| count <= u64::from(u32::MAX)),
            Self::Number => value.is_number(),
            Self::Deviation => value.as_f64().is_some_and(|deviation| deviation >= 0.0),
            Self::Flag => value.is_boolean(),
            Self::TokenId => id(value),
            Self::TokenIds => id(value) || value.as_array().is_some_and(|list| list.iter().all(id)),
            Self::Object => value.is_object(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Texts => "a list of texts",
            Self::Count => "a whole number below 2^32",
            Self::Number => "a number",
            Self::Deviation => "a number from 0 up",
            Self::Flag => "true or false",
            Self::TokenId => "a token id below 2^32",
            Self::TokenIds => "a token id below 2^32 or a list of them",
            Self::Object => "an object",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(key: &str, value: Value) -> String {
        let raw = [(key.to_owned(), value)].into_iter().collect();
        check(&raw, Path::new("config.json"), |_| true)
            .map_or_else(|error| error.to_string(), |()| String::new())
    }

    /// Protects: every key that is read has a type, and a wrong value is shown with the expectation.
    #[test]
    fn a_wrong_type_is_an_error() {
        for (kind, keys) in TYPES {
            for key in keys {
                let (right, wrong) = match kind {
                    Type::Text => (json!("a"), json!(1)),
                    Type::Texts => (json!(["a"]), json!("a")),
                    Type::Count => (json!(3), json!(4_294_967_296_u64)),
                    Type::Number => (json!(0.5), json!("500000")),
                    Type::Deviation => (json!(0.02), json!(-1)),
                    Type::Flag => (json!(true), json!("true")),
                    Type::TokenId => (json!(-1), json!(4_294_967_297_u64)),
                    Type::TokenIds => (json!([1, 2]), json!(["1"])),
                    Type::Object => (json!({}), json!([1])),
                };
                assert_eq!(
                    (said(key, right), said(key, Value::Null)),
                    (String::new(), String::new()),
                    "{key}"
                );
                let expected = format!("config.json: {key} is {wrong}; expected {}", kind.words());
                assert_eq!(said(key, wrong), expected);
            }
        }
        assert!(said("pcrm", json!({"max_length": "9"})).contains("pcrm.max_length is \"9\""));
        assert!(said("rope_theta", json!("x".repeat(10_000))).len() < 300);
    }
}
