//! Training from encoded data to a folder, without a command line.
//!
//! [`reward`] trains reward models, [`sft()`] fine-tunes language models, [`dpo`] trains them on
//! preferences, [`kto()`] on labelled answers.

pub mod bounds;
pub mod dpo;
mod fitting;
mod kto;
pub mod reward;
mod sft;
mod starting_model;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use pcrm_core::Backend;
use pcrm_core::text::Tokenizer;

pub use dpo::{DpoOptions, DpoRun};
pub use fitting::discard_fitted;
pub use kto::{KtoData, KtoOptions, kto};
pub use reward::{RewardOptions, RewardRun};
pub use sft::{SftData, sft};
pub use starting_model::Base;

/// The surroundings of a run: the backend, the model to begin from, the folder, and the flag that stops it.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The backend.
    pub backend: &'a dyn Backend,
    /// The model to begin from.
    pub base: &'a Base,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The run's folder.
    pub dir: &'a Path,
    /// Resumes the run that is in the folder, its fitted constraint included.
    pub resume: bool,
    /// Set from outside to end the run after the step at hand, with a checkpoint.
    pub stop: &'a AtomicBool,
}
