//! Applies `fix_mistral_regex` of tokenizer_config.json, which affects large Mistral vocabularies.

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer as HfTokenizer;

use super::Arguments;

/// Puts the pattern first, if the settings request it and the model is an older Mistral.
pub(super) fn mend(
    hf: &mut HfTokenizer,
    arguments: &Arguments,
    model_config: Option<&Map<String, Value>>,
) -> Result<(), String> {
    const PATTERN: &str = concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    );
    const TYPES: [&str; 5] = ["mistral", "mistral3", "voxtral", "ministral", "pixtral"];
    let Some(model_config) = model_config else { return Ok(()) };
    let entry = |key: &str| model_config.get(key).and_then(Value::as_str);
    let is_old = entry("transformers_version").is_none_or(|version| {
        version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major < 5)
    });
    let wanted = arguments.get("fix_mistral_regex") == Some(&Value::Bool(true));
    let is_mistral = entry("model_type").is_none_or(|model_type| TYPES.contains(&model_type));
    if !(wanted && is_old && is_mistral && hf.get_vocab_size(true) > 100_000) {
        return Ok(());
    }
    let Some(current) = hf.get_pre_tokenizer() else { return Ok(()) };
    let current = serde_json::to_value(current).map_err(|error| error.to_string())?;
    let split =
        json!({"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false});
    let parts = match (current["type"].as_str(), current["pretokenizers"].as_array()) {
        (Some("Sequence"), Some(parts)) => {
            std::iter::once(split).chain(parts.iter().skip(1).cloned()).collect()
        }
        (Some("Metaspace"), _) => vec![
            split,
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                "use_regex": false}),
        ],
        _ => vec![split, current],
    };
    let mended = json!({"type": "Sequence", "pretokenizers": Value::Array(parts)});
    let mended: tokenizers::PreTokenizerWrapper =
        serde_json::from_value(mended).map_err(|error| error.to_string())?;
    hf.with_pre_tokenizer(Some(mended));
    Ok(())
}
