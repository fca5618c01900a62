//! Where the answers of on-policy training come from: the trainer's own engine, a vLLM or SGLang server, or a
//! file.
//!
//! A source receives each version of the policy ([`RolloutSource::publish`]) and answers prompts with a
//! version that it was given. Asking and waiting are two calls, so that a server samples while the policy is
//! updated.

mod file;
mod name;
mod own;
#[cfg(feature = "http")]
mod served;

use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use pcrm_core::model::LanguageModel;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

pub use self::file::FileSource;
pub use self::name::SourceName;
pub use self::own::Own;
#[cfg(feature = "http")]
pub use self::served::{Access, Protocol, Served};
use super::{Prompt, Sample, Sampling};
use crate::error::Result;
use crate::lanes::Lanes;

/// The kind of a source, as runs record it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// The trainer's own engine.
    #[default]
    Own,
    /// A server of vLLM.
    Vllm,
    /// A server of SGLang.
    Sglang,
    /// A file of samples.
    File,
}

impl SourceKind {
    /// Returns true for the trainer's own engine.
    pub fn is_own(&self) -> bool {
        *self == Self::Own
    }

    /// Returns true for a server, which samples with the current policy on a machine of its own.
    pub fn is_served(self) -> bool {
        matches!(self, Self::Vllm | Self::Sglang)
    }
}

/// A request for answers.
#[derive(Debug, Clone)]
pub struct SampleRequest {
    /// Prompts.
    pub prompts: Vec<Prompt>,
    /// Number of answers to each.
    pub samples: usize,
    /// Sampling of the answers.
    pub sampling: Sampling,
    /// Version of the policy that answers.
    pub version: u64,
    /// Number of passes over the prompts before this one.
    pub pass: u64,
}

/// Answers that were asked for: the samples of every prompt, in order.
pub type Sampled = Result<Vec<Vec<Sample>>>;

/// A request that a source has taken.
pub enum Pending {
    /// Sampled when it is waited for.
    Waiting(SampleRequest),
    /// Sampled by this thread.
    Working(JoinHandle<Sampled>),
}

/// A source of answers.
pub trait RolloutSource {
    /// Returns the name of the source in messages.
    fn name(&self) -> String;

    /// Makes a policy available under a version number, and forgets versions that no request can name any more.
    /// Publishing the newest version again has no effect. With several processes, all call this together.
    ///
    /// # Errors
    /// Fails if the policy cannot be written or the server does not take it.
    fn publish(&mut self, policy: &LanguageModel, version: u64, lanes: &Lanes) -> Result<()>;

    /// Takes a request. A source with a server of its own begins to sample.
    ///
    /// # Errors
    /// Fails if the version was not published.
    fn begin(&mut self, ask: SampleRequest) -> Result<Pending>;

    /// Waits for the answers. Setting `interrupted` ends the wait with [`Error::Interrupted`].
    ///
    /// # Errors
    /// Fails if sampling fails or is interrupted, or if an answer is not what was asked for.
    ///
    /// [`Error::Interrupted`]: crate::Error::Interrupted
    fn finish(&mut self, pending: Pending, interrupted: &AtomicBool) -> Sampled;

    /// Returns true if the source answers any prompt with the published policy.
    fn answers_any(&self) -> bool {
        true
    }

    /// Removes what the source keeps at its server and on the disk. Failures are warnings.
    fn close(&mut self) {}
}

/// Returns the seed of a prompt's first sample in a request to a server; sample `i` has this seed plus `i`,
/// as vLLM counts. It is below 2⁶², so that the sum is an integer of 64 bits with a sign.
pub fn request_seed(seed: u64, prompt: u64) -> u64 {
    xxh3_64([seed, prompt].map(u64::to_le_bytes).as_flattened()) >> 2
}
