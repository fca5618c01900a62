//! The options of `pcrm sft`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pcrm_rl::options::TrainerConfig;

use crate::columns::of_both_sets;
use crate::hub::Hub;
use crate::machine::Machine;
use crate::numbers::share;
use crate::training::reward::KeepArgs;
use crate::training::{
    CompletionReading, DataOptions, Fetched, LoraArgs, RouterArgs, SFT_RATE, StepArgs, in_completions,
    peak_rate,
};
use crate::usage::{named, usage};

/// Options of `pcrm sft`.
#[derive(Debug, Clone, Args)]
#[command(
    after_long_help = EXAMPLES,
    next_display_order = 10,
    mut_arg("limit", of_both_sets),
    mut_arg("batch", in_completions),
    mut_arg("learning_rate", |arg| peak_rate(arg, SFT_RATE))
)]
pub struct SftArgs {
    /// Train the language model in this Hugging Face folder or Hub repository (org/name)
    #[arg(long, value_name = "DIR", display_order = 1)]
    pub model: PathBuf,
    /// Train on these files and folders (JSONL or JSON, plain, gzip or zstd, or Parquet) or Hub data sets
    /// (org/name, org/name:split): prompts with completions, conversations, texts, or preferences (chosen
    /// answers only)
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append,
          display_order = 2)]
    pub data: Vec<PathBuf>,
    /// Write the trained model, its checkpoints and metrics to this folder
    #[arg(long, value_name = "DIR", display_order = 3)]
    pub output: PathBuf,
    /// Continue from the newest checkpoint in --output
    #[arg(long, display_order = 4)]
    pub resume: bool,
    /// Evaluate on these files, folders or Hub data sets
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    pub eval_data: Vec<PathBuf>,
    /// Hold out this share of the prompts of --data for evaluation
    #[arg(long, value_name = "SHARE", conflicts_with = "eval_data", value_parser = share)]
    pub eval_split: Option<f64>,
    /// Draw all weights from the seed: --model needs only config.json and a tokenizer
    #[arg(long, conflicts_with = "lora_r")]
    pub random_init: bool,
    #[command(flatten)]
    pub reading: CompletionReading,
    #[command(flatten)]
    pub steps: StepArgs,
    #[command(flatten)]
    pub routers: RouterArgs,
    #[command(flatten)]
    pub lora: LoraArgs,
    #[command(flatten)]
    pub keeping: KeepArgs,
    #[command(flatten)]
    pub hub: Hub,
    #[command(flatten)]
    pub machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  pcrm sft --model qwen2 --data instructions.jsonl --eval-split 0.05 --output runs/sft
  pcrm sft --model qwen2 --data chats.jsonl --train-on assistant --epochs 2 --output runs/sft
  pcrm sft --config runs/sft/config.toml --resume";

impl SftArgs {
    /// Returns the options that define what a run reads.
    pub fn source(&self) -> DataOptions<'_> {
        DataOptions {
            model: &self.model,
            random_init: self.random_init,
            data: &self.data,
            eval_data: &self.eval_data,
            eval_split: self.eval_split,
            columns: &self.reading.columns,
            lora: self.lora.config(),
            quantise: self.lora.quantise(&self.model),
            checkpointing: self.steps.checkpointing(),
            weights: self.steps.weights,
            router_aux_loss_coef: self.routers.router_aux_loss_coef,
            hub: &self.hub,
            machine: &self.machine,
        }
    }

    /// Returns the same options with local paths in place of Hub repositories.
    ///
    /// # Errors
    /// Fails if a repository cannot be fetched.
    pub fn fetched(&self) -> Result<Self> {
        let Fetched { model, data, eval_data } = self.source().fetched()?;
        Ok(Self { model, data, eval_data, ..self.clone() })
    }

    /// Returns the checked options in the trainer's form.
    ///
    /// # Errors
    /// Fails with a usage error if a number is out of range or options conflict or have no effect.
    pub fn trainer(&self) -> Result<TrainerConfig> {
        let trainer = self.keeping.keep(self.steps.config(self.machine.seed, SFT_RATE));
        usage(trainer.check(self.source().evaluates()).map_err(named))?;
        Ok(trainer)
    }
}
