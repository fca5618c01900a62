//! Special tokens as callers see them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A special token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialToken {
    /// The text: `</s>`.
    pub text: String,
    /// The id.
    pub id: u32,
}

/// The texts of special tokens, for a tokenizer created in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialTokens {
    /// The token that begins a text (BOS).
    #[serde(rename = "bos_token", skip_serializing_if = "Option::is_none")]
    pub bos: Option<String>,
    /// The token that ends a text (EOS); reward models read scores at it.
    #[serde(rename = "eos_token", skip_serializing_if = "Option::is_none")]
    pub eos: Option<String>,
    /// The token that pads sequences.
    #[serde(rename = "pad_token", skip_serializing_if = "Option::is_none")]
    pub pad: Option<String>,
    /// The token for unknown text.
    #[serde(rename = "unk_token", skip_serializing_if = "Option::is_none")]
    pub unk: Option<String>,
}

/// Returns the id under a key such as `bos_token_id` in a model's configuration; the first id of a list.
pub(super) fn configured_id(configs: &[&Map<String, Value>], key: &str) -> Option<u32> {
    configs.iter().find_map(|config| {
        let value = config.get(key)?;
        let id = value.as_u64().or_else(|| value[0].as_u64())?;
        u32::try_from(id).ok()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(fields) = value else { panic!("not an object") };
        fields
    }

    /// Protects: Llama 3 lists several ends; the first one is the EOS.
    #[test]
    fn ids_may_be_lists() {
        let configs = [object(json!({"eos_token_id": null})), object(json!({"eos_token_id": [7, 8]}))];
        assert_eq!(configured_id(&configs.each_ref(), "eos_token_id"), Some(7));
        assert_eq!(configured_id(&configs.each_ref(), "bos_token_id"), None);
    }
}
