//! Qwen2's way of splitting text, which transformers imposes.
//!
//! For a model of type `qwen2`, and wherever the tokenizer's class is `Qwen2Tokenizer`, transformers 5 takes the
//! vocabulary from tokenizer.json but normalises and splits as Qwen2 does, whatever the file says. Real Qwen2
//! checkpoints say the same; for others, ids would differ from those of every tool that loads the model with
//! `AutoTokenizer`, so it is done here too, with a warning.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer as HfTokenizer};

use crate::error::{Error, Result};

const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Whether transformers loads this tokenizer as `Qwen2Tokenizer`.
pub(super) fn is_imposed(
    tokenizer_config: &Map<String, Value>,
    model_config: Option<&Map<String, Value>>,
) -> bool {
    let class = tokenizer_config.get("tokenizer_class").and_then(Value::as_str);
    let model_type = model_config.and_then(|config| config.get("model_type")?.as_str());
    match (model_type, class) {
        (Some("qwen2"), _) | (Some("qwen3"), None) => true,
        (_, Some(class)) => class.trim_end_matches("Fast") == "Qwen2Tokenizer",
        _ => false,
    }
}

/// Normalises and splits as Qwen2 does.
pub(super) fn impose(hf: &mut HfTokenizer, tokenizer_config: &Map<String, Value>, dir: &Path) -> Result<()> {
    if !matches!(hf.get_model(), ModelWrapper::BPE(_)) {
        return Ok(());
    }
    let failed = |error: tokenizers::Error| Error::Tokenizer(error.to_string());
    let prefix_space = tokenizer_config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
    let split = Split::new(SplitPattern::Regex(PATTERN.to_owned()), SplitDelimiterBehavior::Isolated, false);
    let bytes = ByteLevel::default().add_prefix_space(prefix_space).use_regex(false);
    let imposed =
        PreTokenizerWrapper::Sequence(Sequence::new(vec![split.map_err(failed)?.into(), bytes.into()]));
    if !splits_alike(hf.get_pre_tokenizer(), &imposed) {
        tracing::warn!(
            "{}: text is split as Qwen2 does and not as the file says, since transformers does so for this model",
            dir.join("tokenizer.json").display()
        );
    }
    hf.with_normalizer(Some(NFC)).map_err(failed)?;
    hf.with_pre_tokenizer(Some(imposed));
    Ok(())
}

/// Whether two ways of splitting are written alike; `trim_offsets` moves no token.
fn splits_alike(left: Option<&PreTokenizerWrapper>, right: &PreTokenizerWrapper) -> bool {
    let written = |pre_tokenizer: &PreTokenizerWrapper| {
        let mut value = serde_json::to_value(pre_tokenizer).unwrap_or_default();
        for part in value["pretokenizers"].as_array_mut().into_iter().flatten() {
            part["trim_offsets"] = Value::Null;
        }
        value
    };
    left.is_some_and(|left| written(left) == written(right))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// When transformers 5.23 makes a Qwen2Tokenizer, as tried with each of these.
    #[test]
    fn it_is_imposed_where_transformers_imposes_it() {
        let object = |value: Value| value.as_object().cloned().unwrap();
        let imposed = |model_type: Option<&str>, class: Option<&str>| {
            let config = model_type.map(|model_type| object(json!({"model_type": model_type})));
            let tokenizer = class.map_or_else(Map::new, |class| object(json!({"tokenizer_class": class})));
            is_imposed(&tokenizer, config.as_ref())
        };
        for class in
            [None, Some("Qwen2TokenizerFast"), Some("PreTrainedTokenizerFast"), Some("LlamaTokenizerFast")]
        {
            assert!(imposed(Some("qwen2"), class), "{class:?}");
        }
        for model_type in [None, Some("llama"), Some("qwen3")] {
            assert!(
                imposed(model_type, Some("Qwen2Tokenizer"))
                    && imposed(model_type, Some("Qwen2TokenizerFast"))
            );
            assert!(
                !imposed(model_type, Some("TokenizersBackend"))
                    && !imposed(model_type, Some("GPT2TokenizerFast"))
            );
            assert_eq!(imposed(model_type, None), model_type == Some("qwen3"));
        }
    }
}
