//! Recipes that classes of unigram vocabularies share.

use serde_json::Value;

use super::parts::{bare, metaspace, precompiled, sequence_of_normalizers, sequence_of_pre_tokenizers};
use super::{Arguments, File, Recipe};

/// Returns a tokenizer with these parts.
pub(super) fn whole(
    model: String,
    normalizers: Vec<Value>,
    pre_tokenizer: Value,
    decoder: Value,
) -> Result<Recipe, String> {
    Ok(Recipe { model, normalizer: sequence_of_normalizers(normalizers), pre_tokenizer, decoder })
}

/// Returns a tokenizer that first splits at blanks, and normalizes with the file's character map.
pub(super) fn words(model: String, file: &File<'_>, blanks: Value) -> Result<Recipe, String> {
    Ok(Recipe {
        model,
        normalizer: file.charsmap().map_or(Value::Null, |map| precompiled(&map)),
        pre_tokenizer: sequence_of_pre_tokenizers(vec![bare("WhitespaceSplit"), blanks.clone()]),
        decoder: blanks,
    })
}

/// Returns marks for blanks, with one before the text if `add_prefix_space` is set.
pub(super) fn blanks(arguments: &Arguments, otherwise: &str) -> Value {
    metaspace(if arguments.is_true("add_prefix_space", true) { "always" } else { otherwise }, true)
}

/// Adds normalizers that drop accents and case, and the file's character map.
pub(super) fn accents(
    mut parts: Vec<Value>,
    arguments: &Arguments,
    file: &File<'_>,
    keeps: bool,
    lowers: bool,
) -> Vec<Value> {
    if !keeps {
        parts.extend([bare("NFKD"), bare("StripAccents")]);
    }
    if arguments.is_true("do_lower_case", lowers) {
        parts.push(bare("Lowercase"));
    }
    parts.extend(file.charsmap().map(|map| precompiled(&map)));
    parts
}

/// Returns a whole number from the arguments.
pub(super) fn place(arguments: &Arguments, key: &str, default: usize) -> Result<usize, String> {
    match arguments.get(key) {
        None => Ok(default),
        Some(value) => value
            .as_u64()
            .and_then(|value| usize::try_from(value).ok())
            .ok_or_else(|| format!("{key} is {value}; expected a whole number")),
    }
}
