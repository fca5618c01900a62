//! Splits token ids into pieces of text.

use super::Tokenizer;
use crate::error::Result;

/// A token, or several that together encode one character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The tokens.
    pub ids: Vec<u32>,
    /// The text of the tokens.
    pub text: String,
}

/// The maximum number of tokens that encode one character: its bytes in UTF-8.
const MOST: usize = 4;

/// Splits token ids into pieces. `before` is the preceding token, which may determine a blank at the start.
///
/// Bytes that are not valid text become U+FFFD, one token each.
///
/// # Errors
/// Fails if the tokenizer cannot decode the ids.
pub fn pieces(tokenizer: &Tokenizer, before: Option<u32>, ids: &[u32]) -> Result<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = 0;
    while at < ids.len() {
        let last = pieces.last().map(|piece| piece.ids.as_slice());
        let context: Vec<u32> = last.map_or_else(|| before.into_iter().collect(), <[u32]>::to_vec);
        let known = tokenizer.decode(&context)?;
        let most = MOST.min(ids.len() - at);
        let mut found = None;
        for taken in 1..=most {
            let own = &ids[at..at + taken];
            let together = tokenizer.decode(&[&context, own].concat())?;
            let text = match together.strip_prefix(&known) {
                Some(text) => text.to_owned(),
                None => tokenizer.decode(own)?,
            };
            if !text.contains(char::REPLACEMENT_CHARACTER) {
                found = Some((taken, text));
                break;
            }
        }
        let (taken, text) = match found {
            Some(found) => found,
            None => (1, tokenizer.decode(&ids[at..=at])?),
        };
        pieces.push(Piece { ids: ids[at..at + taken].to_vec(), text });
        at += taken;
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Protects: joined pieces equal the text, characters of several tokens stay whole, and special tokens
    /// are visible.
    #[test]
    fn pieces_are_the_text_again() {
        for name in ["plain", "bos", "qwen2"] {
            let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/text")).join(name);
            let tokenizer = Tokenizer::from_dir(&dir).unwrap();
            let text = "Grüße, 世界 👩‍🚀!\n\tEnd";
            let ids = tokenizer.encode_rendered(text).unwrap();
            let pieces = pieces(&tokenizer, None, &ids).unwrap();
            assert_eq!(pieces.iter().map(|piece| piece.text.as_str()).collect::<String>(), text, "{name}");
            assert_eq!(pieces.iter().flat_map(|piece| piece.ids.clone()).collect::<Vec<_>>(), ids, "{name}");
            assert!(
                pieces.iter().any(|piece| piece.text == "世" || piece.text == "世界"),
                "{name}: {pieces:?}"
            );
        }
    }

    /// Protects: invalid bytes do not swallow the text after them.
    #[test]
    fn broken_characters_stand_alone() {
        let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/text/plain"));
        let tokenizer = Tokenizer::from_dir(dir).unwrap();
        let world = tokenizer.encode_rendered("世").unwrap();
        let a = tokenizer.encode_rendered("a").unwrap();
        assert!(world.len() > 1, "the case needs a character of several tokens");
        let ids = [&world[..1], &a].concat();
        let pieces = pieces(&tokenizer, None, &ids).unwrap();
        let texts: Vec<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(texts, ["\u{fffd}", "a"]);
    }
}
