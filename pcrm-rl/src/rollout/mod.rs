//! Sampling answers from a policy.
//!
//! [`Engine`] decodes many sequences at once over a cache of keys and values, with the kernels of training.
//! In f32 on a CPU the log-probabilities of sampled tokens have the same bits as in the training pass, so the
//! importance ratio of a first update is exactly 1. The tokens of a sample depend only on (seed, prompt,
//! sample, position), see [`uniform`]: not on other sequences in the batch, the order of prompts, threads, or
//! preemption.

mod admission;
mod answer;
mod blocks;
mod budget;
mod engine;
mod random;
mod results;
mod sequence;
pub mod source;
mod stop;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

pub use self::budget::Budget;
pub use self::engine::{Engine, Progress, Watch};
pub use self::random::uniform;
pub use self::stop::{Decode, Stop};
use crate::error::Result;
use crate::options::refuse;
use pcrm_core::kernels::Filters;

/// A prompt to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Number that seeds its samples; the same prompt has the same number in every run.
    pub number: u64,
    /// Tokens of the prompt.
    pub ids: Vec<u32>,
}

/// The sampling of answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// Distribution of a token.
    #[serde(flatten)]
    pub filters: Filters,
    /// Maximum number of tokens of an answer.
    pub max_tokens: usize,
    /// Seed of all draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { filters: Filters::default(), max_tokens: 256, seed: 0 }
    }
}

impl Sampling {
    /// Checks the ranges of the options.
    ///
    /// # Errors
    /// Fails if a value is out of range; the error names it.
    pub fn check(&self) -> Result<()> {
        self.filters.check()?;
        match self.max_tokens {
            0 => refuse("max_tokens", "0, expected at least 1".into()),
            _ => Ok(()),
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Tokens of the answer, including the one that ended it.
    pub ids: Vec<u32>,
    /// ln p of every token under the full distribution at the temperature.
    pub log_probs: Vec<f32>,
    /// ln p under the distribution that tokens were drawn from; `None` if that is the full one.
    pub filtered: Option<Vec<f32>>,
    /// Reason for its end.
    pub finish: Finish,
}

/// The reason for an answer's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// This token, the answer's last.
    Token(u32),
    /// This string in its text.
    Text(String),
    /// The maximum length.
    Length,
}

impl Finish {
    /// Returns true if the policy ended the answer itself.
    pub fn is_ended(&self) -> bool {
        *self != Self::Length
    }
}

/// Numbers prompts by their tokens, and repeated prompts by their occurrence, so that the samples of a prompt
/// do not depend on the other prompts.
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
