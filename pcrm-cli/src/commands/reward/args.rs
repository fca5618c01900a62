//! What `pcrm reward` may be told.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use pcrm_rl::trainer::{Final, TrainerConfig};

use crate::training::TrainingArgs;

/// Options of `pcrm reward`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct RewardArgs {
    #[command(flatten)]
    pub training: TrainingArgs,
    /// Folder for the trained model, its checkpoints and metrics
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Go on from the newest checkpoint in --output
    #[arg(long)]
    pub resume: bool,
    /// Prior constraint: a name, JSON such as '{"kind": "fixed", "bound": 3}', or a JSON file that holds such; none is
    /// Bradley-Terry
    #[arg(long, value_name = "NAME|JSON|FILE", default_value = "none")]
    pub constraint: String,
    #[command(flatten)]
    pub keeping: KeepArgs,
}

const EXAMPLES: &str = "\
Examples:
  pcrm reward --model qwen2 --data train.jsonl --constraint length_ratio --output runs/rm
  pcrm reward --model qwen2 --data hh.jsonl.gz --eval-split 0.1 --eval-every 100 --patience 3 --output runs/rm \\
      --constraint '{\"kind\": \"length_ratio\", \"beta1\": 10, \"beta2\": 0.001, \"beta3\": -5}'
  pcrm reward --config runs/rm/config.toml --seed 1 --output runs/rm-1
  pcrm reward --config runs/rm/config.toml --resume";

/// What is shown and kept.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Evaluation and checkpoints")]
pub struct KeepArgs {
    /// Steps between lines of metrics.jsonl
    #[arg(long, value_name = "N", default_value_t = 1)]
    log_every: u64,
    /// Steps between evaluations [default: at the end only]
    #[arg(long, value_name = "N")]
    eval_every: Option<u64>,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", default_value_t = 100)]
    save_every: u64,
    /// Checkpoints kept besides the best
    #[arg(long, value_name = "N", default_value_t = 2)]
    keep: usize,
    /// End after so many evaluations without a lower loss
    #[arg(long, value_name = "N")]
    patience: Option<u64>,
    /// Weights that end up in --output: last, or best by evaluation [default: best with --patience, else last]
    #[arg(long, value_name = "WHICH")]
    r#final: Option<FinalChoice>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FinalChoice {
    Last,
    Best,
}

impl KeepArgs {
    /// An evaluation at the end, and checkpoints for going on.
    pub fn least() -> Self {
        Self { log_every: 1, eval_every: None, save_every: 100, keep: 1, patience: None, r#final: None }
    }
}

impl RewardArgs {
    /// The same with local paths for what the Hub has.
    ///
    /// # Errors
    /// The Hub's.
    pub(super) fn fetched(&self) -> Result<Self> {
        Ok(Self { training: self.training.fetched()?, ..self.clone() })
    }

    /// The options as the trainer takes them.
    ///
    /// # Errors
    /// Numbers out of range, options that do not go together.
    pub(super) fn trainer(&self) -> Result<TrainerConfig> {
        let keeping = &self.keeping;
        let patient = keeping.patience.is_some();
        ensure!(!patient || keeping.eval_every.is_some(), "--patience needs --eval-every");
        Ok(TrainerConfig {
            log_every: keeping.log_every,
            eval_every: keeping.eval_every,
            save_every: Some(keeping.save_every),
            keep: keeping.keep,
            patience: keeping.patience,
            final_weights: match keeping.r#final {
                Some(FinalChoice::Best) => Final::Best,
                Some(FinalChoice::Last) => Final::Last,
                None if patient => Final::Best,
                None => Final::Last,
            },
            ..self.training.trainer()?
        })
    }
}
