//! Sampling answers from a policy.
//!
//! [`Engine`] decodes many sequences at once over a cache of keys and values, by the kernels of training: in f32 on a CPU
//! the log-probabilities of sampled tokens have the bits that the training pass gives them, so that the importance ratio
//! of a first update is exactly 1. The tokens of a sample depend on (seed, prompt, sample, position) alone, see
//! [`uniform`]: not on what is decoded beside it, on the order of prompts, on threads, or on whether it was thrown out of
//! the cache and computed again.

mod admission;
mod blocks;
mod engine;
mod random;
mod results;
mod sequence;
mod stop;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

pub use self::engine::{Budget, Engine, Progress, Watch};
pub use self::random::uniform;
pub use self::stop::{Decode, Stop};
use crate::error::Result;
use crate::options::refuse;
use pcrm_core::kernels::Filters;

/// A prompt to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The number that its samples are drawn by: the same prompt has the same number in every run.
    pub number: u64,
    /// Its tokens.
    pub ids: Vec<u32>,
}

/// The sampling of answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// The distribution of a token.
    #[serde(flatten)]
    pub filters: Filters,
    /// The most tokens of an answer.
    pub max_tokens: usize,
    /// The seed of all draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { filters: Filters::default(), max_tokens: 256, seed: 0 }
    }
}

impl Sampling {
    /// Checks the ranges.
    ///
    /// # Errors
    /// A value out of its range, by name.
    pub fn check(&self) -> Result<()> {
        self.filters.check()?;
        match self.max_tokens {
            0 => refuse("max_tokens", "0, expected at least 1".into()),
            _ => Ok(()),
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its tokens, the one that ended it included.
    pub ids: Vec<u32>,
    /// ln p of every token under the full distribution at the temperature.
    pub log_probs: Vec<f32>,
    /// ln p under the distribution that tokens were drawn from; `None` where it is the full one.
    pub filtered: Option<Vec<f32>>,
    /// The reason why it ended.
    pub finish: Finish,
}

/// The reason why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// This token ended it, which is its last.
    Token(u32),
    /// Its text has this string.
    Text(String),
    /// It has the most tokens allowed.
    Length,
}

impl Finish {
    /// Returns true if the policy ended the answer itself.
    pub fn is_ended(&self) -> bool {
        *self != Self::Length
    }
}

/// Numbers prompts by their tokens, those that repeat by how often they came before: a prompt has the same samples
/// whatever prompts are beside it.
pub fn numbered(prompts: impl IntoIterator<Item = Vec<u32>>) -> Vec<Prompt> {
    let mut before: BTreeMap<u64, u64> = BTreeMap::new();
    let mut number = |ids: &[u32]| {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let hash = xxh3_64(&bytes);
        let count = before.entry(hash).or_insert(0);
        *count += 1;
        xxh3_64_with_seed(&hash.to_le_bytes(), *count)
    };
    prompts.into_iter().map(|ids| Prompt { number: number(&ids), ids }).collect()
}
