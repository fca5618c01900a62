//! The limits of decoding.

use pcrm_core::kernels::BLOCK;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::options::refuse;

/// The most tokens and samples that an engine holds and computes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// Number of tokens whose keys and values fit into the cache.
    pub cache_tokens: usize,
    /// Number of prompt tokens computed at once.
    pub prefill_tokens: usize,
    /// Number of samples decoded at once.
    pub rows: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { cache_tokens: 128 * 1024, prefill_tokens: 2048, rows: 256 }
    }
}

impl Budget {
    /// Returns the number of blocks.
    pub fn blocks(&self) -> usize {
        self.cache_tokens.div_ceil(BLOCK)
    }

    /// Checks that all limits are positive.
    ///
    /// # Errors
    /// Fails if a limit is 0; the error names it.
    pub fn check(&self) -> Result<()> {
        let fields = [
            ("cache_tokens", self.cache_tokens),
            ("prefill_tokens", self.prefill_tokens),
            ("rows", self.rows),
        ];
        match fields.into_iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => refuse(field, "0, expected at least 1".into()),
            None => Ok(()),
        }
    }
}
