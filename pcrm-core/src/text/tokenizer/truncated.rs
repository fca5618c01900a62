//! A tokenizer that truncates long texts, for models that read a text as a whole and ignore what exceeds a
//! limit.

use std::fmt;

use tokenizers::{Tokenizer as HfTokenizer, TruncationParams};

use super::{Growth, Tokenizer, failed, panicked};
use crate::error::{Error, Result};
use crate::guard::guarded;

/// A tokenizer that returns at most a fixed number of tokens per text, including those that its
/// post-processor adds: `[CLS]` and `[SEP]` stay, and the text between them is truncated. This is
/// transformers' `tokenizer(text, truncation=True)`.
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
    /// Returns the tokenizer with texts truncated to `max_tokens`, on the side set in its files.
    ///
    /// # Errors
    /// Fails if the limit leaves no room for text next to the special tokens.
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
    /// Returns the token ids of a text.
    ///
    /// # Errors
    /// Fails if the tokenizer cannot encode the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.growth.check(text).map_err(Error::Text)?;
        let encoded = guarded(|| self.hf.encode_fast(text, true)).map_err(panicked)?;
        Ok(encoded.map_err(failed)?.get_ids().to_vec())
    }

    /// Returns the maximum number of tokens of a text.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }
}
