//! Parts of tokenizer.json shared by several classes.

use serde_json::{Value, json};

/// The blank mark in SentencePiece vocabularies.
pub(super) const BLANK: &str = "▁";

pub(super) fn sequence_of_normalizers(parts: Vec<Value>) -> Value {
    json!({"type": "Sequence", "normalizers": parts})
}

pub(super) fn sequence_of_pre_tokenizers(parts: Vec<Value>) -> Value {
    json!({"type": "Sequence", "pretokenizers": parts})
}

pub(super) fn sequence_of_decoders(parts: Vec<Value>) -> Value {
    json!({"type": "Sequence", "decoders": parts})
}

/// Returns a Metaspace part, for pre-tokenizer and decoder.
pub(super) fn metaspace(scheme: &str, split: bool) -> Value {
    json!({"type": "Metaspace", "replacement": BLANK, "prepend_scheme": scheme, "split": split})
}

/// Returns a ByteLevel part, for pre-tokenizer and decoder.
pub(super) fn byte_level(prefix_space: bool, splits: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": true, "use_regex": splits})
}

/// Returns a pre-tokenizer that splits by a pattern, with a `behavior` of tokenizer.json.
pub(super) fn split(pattern: &str, behavior: &str, invert: bool) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert})
}

/// Returns a pre-tokenizer that splits at a literal text.
pub(super) fn split_at(text: &str, behavior: &str) -> Value {
    json!({"type": "Split", "pattern": {"String": text}, "behavior": behavior, "invert": false})
}

/// Returns a replacement of a literal text, for normalizer and decoder.
pub(super) fn replace(text: &str, by: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": text}, "content": by})
}

/// Returns a normalizer that replaces a pattern.
pub(super) fn replace_all(pattern: &str, by: &str) -> Value {
    json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": by})
}

/// Returns a normalizer that strips blanks.
pub(super) fn strip(left: bool, right: bool) -> Value {
    json!({"type": "Strip", "strip_left": left, "strip_right": right})
}

/// Returns a part without settings.
pub(super) fn bare(kind: &str) -> Value {
    json!({"type": kind})
}

/// Returns a normalizer with SentencePiece's compiled character map.
pub(super) fn precompiled(charsmap: &Value) -> Value {
    json!({"type": "Precompiled", "precompiled_charsmap": charsmap})
}

/// Returns a decoder that replaces marks by blanks and byte tokens by characters, and drops the first blank
/// if `strip`.
pub(super) fn sentence_decoder(strip: bool) -> Value {
    let mut parts = vec![replace(BLANK, " "), bare("ByteFallback"), bare("Fuse")];
    if strip {
        parts.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    sequence_of_decoders(parts)
}
