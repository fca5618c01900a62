//! Tokens with their places in a text.

use std::ops::Range;

use tokenizers::Encoding;

/// A token of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The token's id.
    pub id: u32,
    /// The token as the vocabulary has it: `\u{120}world`.
    pub name: String,
    /// The part of the text that the token covers; the name of a special token.
    pub text: String,
    /// The bytes of the text that the token covers; `None` for a special token.
    pub bytes: Option<Range<usize>>,
}

impl Span {
    /// Returns the tokens of an encoding of `text`.
    pub(super) fn of(text: &str, encoded: &Encoding) -> Vec<Self> {
        let one = |at: usize| {
            let (id, name) = (encoded.get_ids()[at], encoded.get_tokens()[at].clone());
            let (start, stop) = encoded.get_offsets()[at];
            let bytes = (encoded.get_special_tokens_mask()[at] == 0).then_some(start..stop);
            // A token may cover a part of a character.
            let covered = bytes.clone().and_then(|bytes| text.as_bytes().get(bytes));
            let covered = covered.map(|covered| String::from_utf8_lossy(covered).into_owned());
            Self { id, text: covered.unwrap_or_else(|| name.clone()), name, bytes }
        };
        (0..encoded.len()).map(one).collect()
    }
}
