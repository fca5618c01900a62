//! The pace of timed steps, in the fields that the peers' scripts print, and the model that policy benchmarks
//! train.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pcrm_core::Backend;
use pcrm_core::model::LanguageModel;
use pcrm_core::schedule::Shape;
use pcrm_rl::learner::{Learner, Trainable};
use pcrm_rl::options::TrainerConfig;
use pcrm_rl::train::Base;
use serde::Serialize;

use super::memory::{Memory, Peak};
use super::{WorkArgs, round, system};
use crate::numbers::positive;
use crate::training::{LoraArgs, RecomputeArgs};

/// Figures that every job has.
#[derive(Debug, Serialize)]
pub(super) struct Pace {
    pub system: String,
    pub job: &'static str,
    pub device: String,
    pub dtype: String,
    pub pairs_per_s: f64,
    pub tokens_per_s: f64,
    pub s_per_step: f64,
    pub batch: usize,
    pub mean_tokens_per_pair: f64,
    #[serde(flatten)]
    pub peak: Peak,
}

impl Pace {
    /// Returns the pace for `count` pairs and a number of tokens in `seconds`; prompts are counted once per
    /// answer.
    pub fn new(
        work: &WorkArgs,
        backend: &dyn Backend,
        memory: &Memory,
        job: &'static str,
        count: f64,
        tokens: usize,
        seconds: f64,
    ) -> Self {
        Self {
            system: system(backend),
            job,
            device: work.machine.device.to_string(),
            dtype: work.machine.dtype.to_string(),
            pairs_per_s: round(count / seconds, 3),
            tokens_per_s: round(tokens as f64 / seconds, 1),
            s_per_step: round(seconds / work.steps as f64, 4),
            batch: work.batch,
            mean_tokens_per_pair: round(tokens as f64 / count, 1),
            peak: memory.peak(backend),
        }
    }

    /// Formats tokens per second, seconds per step and peak memory.
    pub fn text(&self) -> String {
        format!("{:.0} tokens/s, {:.3} s per step, {}", self.tokens_per_s, self.s_per_step, self.peak.text())
    }
}

/// Returns a learner with a constant learning rate.
pub(super) fn learner<M: Trainable>(backend: &dyn Backend, model: &M) -> Result<Learner<M>> {
    let config = TrainerConfig { learning_rate: 1e-5, schedule: Shape::Constant, ..TrainerConfig::default() };
    Ok(Learner::new(backend, model, &config, u64::MAX)?)
}

/// The options of benchmarks that train a language model.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    /// Compute at most N tokens at once [default: a whole step]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    micro_tokens: Option<usize>,
    #[command(flatten)]
    recomputed: RecomputeArgs,
    #[command(flatten)]
    lora: LoraArgs,
}

impl PolicyArgs {
    /// Returns the most tokens computed at once.
    pub fn micro_tokens(&self) -> usize {
        self.micro_tokens.unwrap_or(usize::MAX)
    }

    /// Returns the model in a folder, as these options train it.
    pub fn base(&self, work: &WorkArgs, dir: PathBuf) -> Base {
        Base {
            random_init: work.random_init,
            lora: self.lora.config(),
            quantise: self.lora.quantise(&dir),
            checkpointing: self.recomputed.checkpointing(),
            ..Base::new(dir, work.machine.dtype, work.machine.seed)
        }
    }

    /// Returns a learner of that model.
    pub fn learner(base: &Base, backend: &dyn Backend) -> Result<Learner<LanguageModel>> {
        learner(backend, &base.open_language(backend)?)
    }
}
