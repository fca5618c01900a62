//! Training from encoded data to a saved model, without a command line.
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
pub mod trainer;

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
pub use trainer::RewardTrainer;

/// The environment of a run: backend, initial model, folder, and stop flag.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Backend.
    pub backend: &'a dyn Backend,
    /// Initial model.
    pub base: &'a Base,
    /// Tokenizer of the model.
    pub tokenizer: &'a Tokenizer,
    /// Folder of the run.
    pub dir: &'a Path,
    /// Resumes the run in the folder, including its fitted constraint.
    pub resume: bool,
    /// Set from outside to end the run after the current step, with a checkpoint.
    pub stop: &'a AtomicBool,
}
