//! The options of `pcrm kto`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use pcrm_rl::loss::preference::kto::{KtoConfig, KtoLoss};
use pcrm_rl::train::KtoOptions;

use crate::columns::of_both_sets;
use crate::hub::Hub;
use crate::machine::Machine;
use crate::numbers::{real, share};
use crate::training::policy;
use crate::training::reward::KeepArgs;
use crate::training::{
    CompletionReading, DPO_RATE, DataOptions, Fetched, LoraArgs, RouterArgs, StepArgs, in_completions,
    peak_rate,
};
use crate::usage::{named, usage};

/// Options of `pcrm kto`.
#[derive(Debug, Clone, Args)]
#[command(
    after_long_help = EXAMPLES,
    next_display_order = 10,
    mut_arg("limit", of_both_sets),
    mut_arg("batch", in_completions),
    mut_arg("learning_rate", |arg| peak_rate(arg, DPO_RATE))
)]
pub struct KtoArgs {
    /// Train the language model in this Hugging Face folder or Hub repository (org/name), usually fine-tuned,
    /// or a PEFT adapter of one
    #[arg(long, value_name = "DIR", display_order = 1)]
    pub model: PathBuf,
    /// Train on these files and folders (JSONL or JSON, plain, gzip or zstd, or Parquet) or Hub data sets:
    /// prompts with a completion and a label, true for desirable; a preference pair counts as two such rows
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append,
          display_order = 2)]
    pub data: Vec<PathBuf>,
    /// Write the trained model, its checkpoints and metrics to this folder
    #[arg(long, value_name = "DIR", display_order = 3)]
    pub output: PathBuf,
    /// Continue from the newest checkpoint in --output
    #[arg(long, display_order = 4)]
    pub resume: bool,
    /// Compare the policy with this model: start (the policy before training), base (the model under the
    /// adapter in --model), none, or a folder [default: start]
    #[arg(long, value_name = "MODEL", display_order = 5)]
    pub reference: Option<String>,
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
    pub loss: LossArgs,
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
  pcrm kto --model runs/sft --data labelled.jsonl --eval-split 0.05 --output runs/kto
  pcrm kto --model runs/sft --data labelled.jsonl --desirable-weight 1.33 --output runs/kto
  pcrm kto --config runs/kto/config.toml --resume";

/// The loss, with the names and defaults of TRL.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loss")]
pub struct LossArgs {
    /// Minimise this loss
    #[arg(long, value_name = "NAME", default_value = "kto")]
    pub loss: LossChoice,
    /// Set β, the strength of the reference: larger values keep the policy closer to it
    #[arg(long, value_name = "B", default_value_t = 0.1, value_parser = real)]
    pub beta: f64,
    /// Weight desirable answers by W
    #[arg(long, value_name = "W", default_value_t = 1.0, value_parser = real)]
    pub desirable_weight: f64,
    /// Weight undesirable answers by W
    #[arg(long, value_name = "W", default_value_t = 1.0, value_parser = real)]
    pub undesirable_weight: f64,
}

/// A loss on labelled answers.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum LossChoice {
    Kto,
    ApoZeroUnpaired,
}

impl KtoArgs {
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
        let Fetched { model, data, eval_data } = policy::fetched(&self.source())?;
        Ok(Self { model, data, eval_data, ..self.clone() })
    }

    /// Returns the checked options in the trainer's form.
    ///
    /// # Errors
    /// Fails with a usage error if a number is out of range or options conflict.
    pub fn options(&self) -> Result<KtoOptions> {
        let LossArgs { loss, beta, desirable_weight, undesirable_weight } = self.loss;
        let kto_loss = match loss {
            LossChoice::Kto => KtoLoss::Kto,
            LossChoice::ApoZeroUnpaired => KtoLoss::ApoZeroUnpaired,
        };
        let options = KtoOptions {
            trainer: self.keeping.keep(self.steps.config(self.machine.seed, DPO_RATE)),
            kto: KtoConfig { kto_loss, beta, desirable_weight, undesirable_weight },
        };
        usage(options.check(self.source().evaluates()).map_err(named))?;
        Ok(options)
    }
}
