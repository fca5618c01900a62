//! The options of `pcrm reward`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use pcrm_rl::options::{Final, TrainerConfig};
use pcrm_rl::train::RewardOptions;

use super::super::TrainingArgs;
use crate::numbers::positive;
use crate::usage::{named, usage};

/// Options of `pcrm reward`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES, next_display_order = 10)]
pub struct RewardArgs {
    /// Bound margins by this prior constraint: a name, JSON such as '{"kind": "fixed", "bound": 3}', or a
    /// JSON file; none for Bradley-Terry
    #[arg(long, value_name = "NAME|JSON|FILE", default_value = "none", display_order = 3)]
    pub constraint: String,
    /// Write the trained model, its checkpoints and metrics to this folder
    #[arg(long, value_name = "DIR", display_order = 4)]
    pub output: PathBuf,
    /// Continue from the newest checkpoint in --output
    #[arg(long, display_order = 5)]
    pub resume: bool,
    #[command(flatten)]
    pub training: TrainingArgs,
    #[command(flatten)]
    pub keeping: KeepArgs,
}

const EXAMPLES: &str = "\
Examples:
  pcrm reward --model qwen2 --data train.jsonl --constraint length_ratio --output runs/rm
  pcrm reward --model qwen2 --data hh.jsonl.gz --eval-split 0.1 --eval-every 100 --patience 3 --output runs/rm \
   --constraint '{\"kind\": \"length_ratio\", \"beta1\": 10, \"beta2\": 0.001, \"beta3\": -5}'
  pcrm reward --config runs/rm/config.toml --seed 1 --output runs/rm-1
  pcrm reward --config runs/rm/config.toml --resume";

/// Evaluations, metrics and checkpoints.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Evaluation and checkpoints")]
pub struct KeepArgs {
    /// Write a line of metrics.jsonl every N steps, with the means over these steps
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive::<u64>)]
    log_every: u64,
    /// Evaluate every N steps [default: only at the end]
    #[arg(long, value_name = "N", value_parser = positive::<u64>)]
    eval_every: Option<u64>,
    /// Save a checkpoint every N steps
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive::<u64>)]
    save_every: u64,
    /// Keep the newest N checkpoints and the best
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = positive::<usize>)]
    keep: usize,
    /// Stop after N evaluations in a row without a lower loss
    #[arg(long, value_name = "N", value_parser = positive::<u64>)]
    patience: Option<u64>,
    /// Write these weights to --output: last, or best by evaluation [default: best with --patience, else
    /// last]
    #[arg(long, value_name = "WHICH")]
    r#final: Option<FinalChoice>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FinalChoice {
    Last,
    Best,
}

impl KeepArgs {
    /// Returns options with one evaluation at the end and the checkpoints needed for resuming.
    pub fn least() -> Self {
        Self { log_every: 1, eval_every: None, save_every: 100, keep: 1, patience: None, r#final: None }
    }
}

impl KeepArgs {
    /// Returns a trainer's options with these options applied.
    pub fn keep(&self, trainer: TrainerConfig) -> TrainerConfig {
        TrainerConfig {
            log_every: self.log_every,
            eval_every: self.eval_every,
            save_every: Some(self.save_every),
            keep: self.keep,
            patience: self.patience,
            final_weights: match self.r#final {
                Some(FinalChoice::Best) => Final::Best,
                Some(FinalChoice::Last) => Final::Last,
                None if self.patience.is_some() => Final::Best,
                None => Final::Last,
            },
            ..trainer
        }
    }
}

impl RewardArgs {
    /// Returns the same options with local paths in place of Hub repositories.
    ///
    /// # Errors
    /// Fails if a repository cannot be fetched.
    pub(super) fn fetched(&self) -> Result<Self> {
        Ok(Self { training: self.training.fetched()?, ..self.clone() })
    }

    /// Returns the checked options in the trainer's form.
    ///
    /// # Errors
    /// Fails with a usage error if a number is out of range or options conflict or have no effect.
    pub(super) fn options(&self) -> Result<RewardOptions> {
        let RewardOptions { trainer, reward } = self.training.options()?;
        let trainer = self.keeping.keep(trainer);
        let options = RewardOptions { trainer, reward };
        usage(options.check(self.training.evaluates()).map_err(named))?;
        Ok(options)
    }
}
