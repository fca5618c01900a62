//! Properties of a tokenizer's special tokens, for surveys of data.

use super::{SpecialToken, Tokenizer};

impl Tokenizer {
    /// Returns the unknown token, if the files name one.
    pub fn unk(&self) -> Option<SpecialToken> {
        let (_, text) = self.inner.named.iter().find(|(name, _)| name == "unk_token")?;
        Some(SpecialToken { text: text.clone(), id: self.inner.hf.token_to_id(text)? })
    }

    /// Returns true if the tokenizer's post-processor begins every text with the BOS.
    pub fn prepends_bos(&self) -> bool {
        self.inner.prepends_bos
    }

    /// Returns true if an id is a special token rather than text.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.hf.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// Returns the tokens that are left out of plain text.
    pub fn special_tokens(&self) -> Vec<SpecialToken> {
        let added = self.inner.hf.get_added_tokens_decoder();
        let special = added.into_iter().filter(|(_, token)| token.special && !token.content.is_empty());
        special.map(|(id, token)| SpecialToken { text: token.content, id }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Protects: special tokens are distinguished from text, and tokenizers that add a BOS from others.
    #[test]
    fn special_tokens_are_distinguished_from_text() {
        let golden = |name: &str| {
            let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/text")).join(name);
            Tokenizer::from_dir(&dir).unwrap()
        };
        let (plain, bos) = (golden("plain"), golden("bos"));
        assert!(plain.is_special(plain.eos().unwrap().id));
        assert!(!plain.is_special(plain.encode_rendered("a").unwrap()[0]));
        assert!(bos.prepends_bos() && !plain.prepends_bos());
        assert!(plain.special_tokens().contains(plain.eos().unwrap()));
        assert_eq!(plain.unk(), None);
    }
}
