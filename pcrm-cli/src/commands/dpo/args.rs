//! The options of `pcrm dpo`.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;
use pcrm_core::data::preference::Ties;
use pcrm_rl::loss::preference::PreferenceConfig;
use pcrm_rl::reference::Reference;
use pcrm_rl::train::DpoOptions;

use crate::columns::of_both_sets;
use crate::dataset::Reading;
use crate::hub::Hub;
use crate::machine::Machine;
use crate::numbers::share;
use crate::training::policy::{self, PreferenceArgs};
use crate::training::reward::KeepArgs;
use crate::training::{DPO_RATE, DataOptions, Fetched, LoraArgs, RouterArgs, StepArgs, peak_rate};
use crate::usage::{named, usage};

/// Options of `pcrm dpo`.
#[derive(Debug, Clone, Args)]
#[command(
    after_long_help = EXAMPLES,
    next_display_order = 10,
    mut_arg("limit", of_both_sets),
    mut_arg("learning_rate", |arg| peak_rate(arg, DPO_RATE))
)]
pub struct DpoArgs {
    /// Train the language model in this Hugging Face folder or Hub repository (org/name), usually fine-tuned,
    /// or a PEFT adapter of one
    #[arg(long, value_name = "DIR", display_order = 1)]
    pub model: PathBuf,
    /// Train on these preference files and folders (JSONL or JSON, plain, gzip or zstd, or Parquet) or Hub
    /// data sets (org/name, org/name:split); ranked answers give all their pairs
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append,
          display_order = 2)]
    pub data: Vec<PathBuf>,
    /// Bound the margins Δ = β·(log-ratio of the preferred answer − log-ratio of the other) by this prior
    /// constraint: a name, JSON, or a JSON file; none for plain DPO
    #[arg(long, value_name = "NAME|JSON|FILE", default_value = "none", display_order = 3)]
    pub constraint: String,
    /// Write the trained model, its checkpoints and metrics to this folder
    #[arg(long, value_name = "DIR", display_order = 4)]
    pub output: PathBuf,
    /// Continue from the newest checkpoint in --output
    #[arg(long, display_order = 5)]
    pub resume: bool,
    /// Compare the policy with this model: start (the policy before training), base (the model under the
    /// adapter in --model), none, or a folder [default: start; none for simpo, cpo and orpo]
    #[arg(long, value_name = "MODEL", display_order = 6)]
    pub reference: Option<String>,
    /// Evaluate on these files, folders or Hub data sets
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    pub eval_data: Vec<PathBuf>,
    /// Hold out this share of the prompts of --data for evaluation
    #[arg(long, value_name = "SHARE", conflicts_with = "eval_data", value_parser = share)]
    pub eval_split: Option<f64>,
    /// Draw all weights from the seed: --model needs only config.json and a tokenizer
    #[arg(long)]
    pub random_init: bool,
    #[command(flatten)]
    pub loss: PreferenceArgs,
    #[command(flatten)]
    pub reading: Reading,
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
  pcrm dpo --model runs/sft --data pairs.jsonl --eval-split 0.05 --output runs/dpo
  pcrm dpo --model runs/sft --data pairs.jsonl --constraint length_ratio --output runs/pcdpo
  pcrm dpo --model qwen2 --data pairs.jsonl --lora-r 16 --learning-rate 1e-5 --output runs/dpo-lora
  pcrm dpo --model runs/sft --data pairs.jsonl --loss sigmoid bco_pair sft --loss-weights 0.8 0.2 1 --output runs/mpo
  pcrm dpo --model runs/sft --data pairs.jsonl --loss simpo --beta 2 --simpo-gamma 1 --output runs/simpo
  pcrm dpo --config recipes/dpo-length.toml --model runs/sft --data pairs.jsonl --output runs/pcdpo";

impl DpoArgs {
    /// Ties are dropped: they teach a policy nothing.
    pub const TIES: Ties = Ties::Drop;

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

    /// Returns the checked options in the trainer's form; `bounded` is true if there is a constraint.
    ///
    /// # Errors
    /// Fails with a usage error if a number is out of range or options conflict or have no effect.
    pub fn options(&self, bounded: bool) -> Result<DpoOptions> {
        usage(self.reading.check())?;
        let preference = usage(self.loss.config())?;
        let trainer = self.keeping.keep(self.steps.config(self.machine.seed, DPO_RATE));
        let options = DpoOptions { trainer, preference };
        usage(options.check(self.source().evaluates(), bounded).map_err(named))?;
        Ok(options)
    }

    /// Checks that options about margins have an effect; `used` is true if something may read margins.
    ///
    /// # Errors
    /// Fails if margins are asked for and nothing reads them.
    pub fn check_margins(&self, used: bool) -> Result<()> {
        const WHY: &str =
            "the losses of dpo read no margins; expected a --constraint that does, such as score_gap";
        if used { Ok(()) } else { self.reading.columns.refuse_margins(WHY) }
    }

    /// Returns the requested reference, after fetching its folder from the Hub if needed.
    ///
    /// # Errors
    /// Fails if a reference is given for a loss without one, or its folder does not exist.
    pub fn reference(&self, loss: &PreferenceConfig) -> Result<Reference> {
        match self.reference.as_deref() {
            None if loss.is_without_reference() => Ok(Reference::None),
            Some(given) if given != "none" && loss.is_without_reference() => {
                let message = "has no effect: the loss uses no reference";
                usage(Err(anyhow!("--reference {given}: {message}")))
            }
            given => policy::reference(given, &self.hub),
        }
    }
}
