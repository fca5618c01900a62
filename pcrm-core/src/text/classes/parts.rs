//! Parts of tokenizer.json that several classes share.

use serde_json::{Value, json};

/// The mark of a blank in SentencePiece vocabularies.
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

/// Pre-tokenizer and decoder alike.
pub(super) fn metaspace(scheme: &str, split: bool) -> Value {
    json!({"type": "Metaspace", "replacement": BLANK, "prepend_scheme": scheme, "split": split})
}

/// Pre-tokenizer and decoder alike.
pub(super) fn byte_level(prefix_space: bool, splits: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": true, "use_regex": splits})
}

/// A pre-tokenizer; `behavior` as tokenizer.json writes it.
pub(super) fn split(pattern: &str, behavior: &str, invert: bool) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert})
}

/// A pre-tokenizer on a literal text.
pub(super) fn split_at(text: &str, behavior: &str) -> Value {
    json!({"type": "Split", "pattern": {"String": text}, "behavior": behavior, "invert": false})
}

/// Normalizer and decoder alike, for a literal text.
pub(super) fn replace(text: &str, by: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": text}, "content": by})
}

/// A normalizer.
pub(super) fn replace_all(pattern: &str, by: &str) -> Value {
    json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": by})
}

/// A normalizer.
pub(super) fn strip(left: bool, right: bool) -> Value {
    json!({"type": "Strip", "strip_left": left, "strip_right": right})
}

/// A part without settings.
pub(super) fn bare(kind: &str) -> Value {
    json!({"type": kind})
}

/// SentencePiece's compiled character map as a normalizer.
pub(super) fn precompiled(charsmap: &Value) -> Value {
    json!({"type": "Precompiled", "precompiled_charsmap": charsmap})
}

/// Blanks for their mark, bytes for characters, without the first blank if `strip`.
pub(super) fn sentence_decoder(strip: bool) -> Value {
    let mut parts = vec![replace(BLANK, " "), bare("ByteFallback"), bare("Fuse")];
    if strip {
        parts.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    sequence_of_decoders(parts)
}
