//! A tokenizer that cuts long texts itself, for models that read a text whole and have no end to look at.

use std::fmt;

use tokenizers::{Tokenizer as HfTokenizer, TruncationParams};

use super::{Growth, Tokenizer, failed, panicked};
use crate::error::{Error, Result};
use crate::guard::guarded;

/// A tokenizer that gives at most so many tokens for a text, those that its post-processor adds included: `[CLS]`
/// and `[SEP]` stay, the text between them is cut. This is transformers' `tokenizer(text, truncation=True)`.
#[derive(Clone)]
pub struct TruncatedTokenizer {
    hf: HfTokenizer,
    max_tokens: usize,
    growth: Growth,
}

impl fmt::Debug for TruncatedTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TruncatedTokenizer").field("max_tokens", &self.max_tokens).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// The same tokenizer, cutting texts to `max_tokens`, on the side that its files say.
    ///
    /// # Errors
    /// A limit that leaves no room for text beside the special tokens.
    pub fn truncated(&self, max_tokens: usize) -> Result<TruncatedTokenizer> {
        let mut hf = self.inner.hf.clone();
        let added = guarded(|| hf.encode_fast("", true)).map_err(panicked)?.map_err(failed)?.len();
        if max_tokens <= added {
            let message =
                format!("found {max_tokens}, expected more than the {added} special tokens of every text");
            return Err(Error::invalid("max_tokens", message));
        }
        let direction = self.inner.truncates;
        let cut = TruncationParams { max_length: max_tokens, direction, ..TruncationParams::default() };
        hf.with_truncation(Some(cut)).map_err(failed)?;
        Ok(TruncatedTokenizer { hf, max_tokens, growth: self.inner.growth })
    }
}

impl TruncatedTokenizer {
    /// Token ids of a text.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.growth.check(text).map_err(Error::Text)?;
        let encoded = guarded(|| self.hf.encode_fast(text, true)).map_err(panicked)?;
        Ok(encoded.map_err(failed)?.get_ids().to_vec())
    }

    /// The most tokens a text gets.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }
}
