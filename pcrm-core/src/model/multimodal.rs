//! The text part of multimodal checkpoints, read as the family it belongs to.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A multimodal model whose text part is a supported decoder.
#[derive(Debug)]
pub struct Multimodal {
    /// `model_type` of the whole model.
    pub model_type: &'static str,
    /// `model_type` of the text part, if its section has none.
    text: &'static str,
    /// Counts that published configs omit.
    defaults: &'static [(&'static str, u64)],
}

/// The key of the text part's section.
const SECTION: &str = "text_config";

/// All multimodal models whose text part is read.
pub(super) static MULTIMODAL: [Multimodal; 2] = [
    Multimodal {
        model_type: "gemma3",
        text: "gemma3_text",
        defaults: &[("num_attention_heads", 8), ("vocab_size", 262_208)],
    },
    Multimodal { model_type: "mistral3", text: "mistral", defaults: &[] },
];

/// Keys of the whole model that also apply to the text part.
const OF_THE_WHOLE: [&str; 12] = [
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "id2label",
    "label2id",
    "num_labels",
    "pcrm",
    "problem_type",
    "quantization_config",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
];

/// Returns the config of the text part of a multimodal model; `None` for other models.
///
/// # Errors
/// Fails if the section is missing or not an object.
pub(super) fn text_part(
    raw: &Map<String, Value>,
    path: &Path,
) -> Result<Option<(Map<String, Value>, &'static Multimodal)>> {
    let name = raw.get("model_type").and_then(Value::as_str);
    let Some(whole) = MULTIMODAL.iter().find(|whole| Some(whole.model_type) == name) else { return Ok(None) };
    let Some(section) = raw.get(SECTION).and_then(Value::as_object) else {
        let message =
            format!("{SECTION} is missing; expected the config of {}'s text part", whole.model_type);
        return Err(Error::file(path, message));
    };
    let mut text = section.clone();
    text.entry("model_type").or_insert_with(|| whole.text.into());
    for (key, default) in whole.defaults {
        text.entry(*key).or_insert_with(|| (*default).into());
    }
    for key in OF_THE_WHOLE {
        if let Some(value) = raw.get(key) {
            text.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(pad) = raw.get("pad_token_id") {
        text.entry("pad_token_id").or_insert_with(|| pad.clone());
    }
    if let Some(classes) = raw.get("architectures") {
        text.insert("architectures".to_owned(), classes.clone());
    }
    Ok(Some((text, whole)))
}
