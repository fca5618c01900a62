//! The options of `pcrm dpo`.

use std::path::PathBuf;

use anyhow::{Result, anyhow, ensure};
use clap::Args;
use pcrm_core::data::preference::Ties;
use pcrm_rl::loss::preference::{Divergence, PreferenceConfig, PreferenceLoss, WeightedLoss};
use pcrm_rl::reference::Reference;
use pcrm_rl::train::DpoOptions;

use crate::dataset::Reading;
use crate::hub::Hub;
use crate::machine::Machine;
use crate::numbers::{real, share};
use crate::training::policy;
use crate::training::reward::KeepArgs;
use crate::training::{DPO_RATE, Fetched, LoraArgs, Source, StepArgs};
use crate::usage::{named, usage};

/// Options of `pcrm dpo`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES, next_display_order = 10)]
pub struct DpoArgs {
    /// Begin from this Hugging Face folder, or repository of the Hub (org/name): a language model, usually fine-tuned,
    /// or a PEFT adapter of one
    #[arg(long, value_name = "DIR", display_order = 1)]
    pub model: PathBuf,
    /// Learn from these files and folders of preferences (JSONL or JSON, plain, gzip or zstd, or Parquet), or data sets of
    /// the Hub (org/name, org/name:split); of ranked answers all pairs are learned
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append, display_order = 2)]
    pub data: Vec<PathBuf>,
    /// Bound the margins Δ = β·(log-ratio of the preferred answer − that of the other) by this prior constraint: a name,
    /// JSON, or a JSON file; none is plain DPO
    #[arg(long, value_name = "NAME|JSON|FILE", default_value = "none", display_order = 3)]
    pub constraint: String,
    /// Write the trained model, its checkpoints and metrics to this folder
    #[arg(long, value_name = "DIR", display_order = 4)]
    pub output: PathBuf,
    /// Continue from the newest checkpoint in --output
    #[arg(long, display_order = 5)]
    pub resume: bool,
    /// Compare the policy with this model: start (the policy before training), base (the model under the adapters in
    /// --model), none, or a folder [default: start; of simpo, cpo and orpo none]
    #[arg(long, value_name = "MODEL", display_order = 6)]
    pub reference: Option<String>,
    /// Evaluate on these files, folders or data sets
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    pub eval_data: Vec<PathBuf>,
    /// Hold out this share of the prompts of --data to evaluate on
    #[arg(long, value_name = "SHARE", conflicts_with = "eval_data", value_parser = share)]
    pub eval_split: Option<f64>,
    /// Draw all weights from the seed: --model needs config.json and a tokenizer only
    #[arg(long)]
    pub random_init: bool,
    #[command(flatten)]
    pub loss: PreferenceArgs,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub steps: StepArgs,
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

/// The loss, under the names and with the defaults of TRL.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loss")]
pub struct PreferenceArgs {
    /// Minimise these losses, added up: sigmoid (DPO), cdpo, hinge, ipo (by token), ipo_sum, exo_pair, nca_pair, robust,
    /// bco_pair, sppo_hard, aot, aot_unpaired, apo_zero, apo_down, discopop, sft, sigmoid_norm; without a reference simpo, cpo, orpo
    #[arg(long, value_name = "NAME", num_args = 1.., action = clap::ArgAction::Append, default_values_t = [PreferenceLoss::Sigmoid])]
    pub loss: Vec<PreferenceLoss>,
    /// Weigh the losses by these numbers, in their order [default: 1 each]
    #[arg(long, value_name = "W", num_args = 1.., action = clap::ArgAction::Append, value_parser = real)]
    pub loss_weights: Vec<f64>,
    /// Set β, the strength of the reference: the larger, the nearer the policy stays to it
    #[arg(long, value_name = "B", default_value_t = 0.1, value_parser = real)]
    pub beta: f64,
    /// Take this share of labels to be wrong: of cdpo, exo_pair, robust, aot, aot_unpaired, simpo, cpo
    #[arg(long, value_name = "E", default_value_t = 0.0, value_parser = real)]
    pub label_smoothing: f64,
    /// Keep the policy near the reference by this divergence: reverse_kl, forward_kl, js_divergence, alpha_divergence
    #[arg(long, value_name = "NAME", default_value_t = Divergence::ReverseKl)]
    pub f_divergence_type: Divergence,
    /// Set α of alpha_divergence [default: 0.5]
    #[arg(long, value_name = "A", value_parser = real)]
    pub f_alpha_divergence_coef: Option<f64>,
    /// Set τ of discopop [default: 0.05]
    #[arg(long, value_name = "T", value_parser = real)]
    pub discopop_tau: Option<f64>,
    /// Weigh tokens beyond the length of the shorter answer by A (LD-DPO)
    #[arg(long, value_name = "A", value_parser = real)]
    pub ld_alpha: Option<f64>,
    /// Weigh pairs by how likely their answers are under the policy (WPO)
    #[arg(long)]
    pub use_weighting: bool,
    /// Set γ of simpo, the margin that is aimed for [default: 0.5]
    #[arg(long, value_name = "G", value_parser = real)]
    pub simpo_gamma: Option<f64>,
    /// Weigh −ln π of preferred answers by A in cpo [default: 1]
    #[arg(long, value_name = "A", value_parser = real)]
    pub cpo_alpha: Option<f64>,
}

impl PreferenceArgs {
    /// The loss.
    ///
    /// # Errors
    /// Weights for another number of losses, options of losses that are not chosen.
    pub fn config(&self) -> Result<PreferenceConfig> {
        let Self { loss, loss_weights, .. } = self;
        ensure!(
            loss_weights.is_empty() || loss_weights.len() == loss.len(),
            "--loss-weights: {} numbers for {} losses; expected one for each",
            loss_weights.len(),
            loss.len()
        );
        let of = |wanted: PreferenceLoss| loss.contains(&wanted);
        for (option, given, served, needs) in [
            ("simpo-gamma", self.simpo_gamma.is_some(), of(PreferenceLoss::Simpo), "--loss simpo"),
            ("cpo-alpha", self.cpo_alpha.is_some(), of(PreferenceLoss::Cpo), "--loss cpo"),
            ("discopop-tau", self.discopop_tau.is_some(), of(PreferenceLoss::Discopop), "--loss discopop"),
            (
                "f-alpha-divergence-coef",
                self.f_alpha_divergence_coef.is_some(),
                self.f_divergence_type == Divergence::AlphaDivergence,
                "--f-divergence-type alpha_divergence",
            ),
        ] {
            ensure!(!given || served, "--{option} has no effect without {needs}");
        }
        let weights = loss_weights.iter().copied().chain(std::iter::repeat(1.0));
        let usual = PreferenceConfig::default();
        Ok(PreferenceConfig {
            loss: loss
                .iter()
                .zip(weights)
                .map(|(loss, weight)| WeightedLoss { loss: *loss, weight })
                .collect(),
            beta: self.beta,
            label_smoothing: self.label_smoothing,
            f_divergence_type: self.f_divergence_type,
            f_alpha_divergence_coef: self.f_alpha_divergence_coef.unwrap_or(usual.f_alpha_divergence_coef),
            discopop_tau: self.discopop_tau.unwrap_or(usual.discopop_tau),
            ld_alpha: self.ld_alpha,
            use_weighting: self.use_weighting,
            simpo_gamma: self.simpo_gamma.unwrap_or(usual.simpo_gamma),
            cpo_alpha: self.cpo_alpha.unwrap_or(usual.cpo_alpha),
        })
    }
}

impl DpoArgs {
    /// Ties teach a policy nothing.
    pub const TIES: Ties = Ties::Drop;

    /// The options that say what a run reads.
    pub fn source(&self) -> Source<'_> {
        Source {
            model: &self.model,
            random_init: self.random_init,
            data: &self.data,
            eval_data: &self.eval_data,
            eval_split: self.eval_split,
            columns: &self.reading.columns,
            lora: self.lora.config(),
            checkpointing: self.steps.checkpointing(),
            hub: &self.hub,
            machine: &self.machine,
        }
    }

    /// The same with local paths in place of the Hub's repositories.
    ///
    /// # Errors
    /// The Hub's.
    pub fn fetched(&self) -> Result<Self> {
        let Fetched { model, data, eval_data } = policy::fetched(&self.source())?;
        Ok(Self { model, data, eval_data, ..self.clone() })
    }

    /// The options as the trainer takes them, checked; `bounded` says whether there is a constraint.
    ///
    /// # Errors
    /// Numbers out of range, options that do not go together or would have no effect, as errors of usage.
    pub fn options(&self, bounded: bool) -> Result<DpoOptions> {
        usage(self.reading.check())?;
        let preference = usage(self.loss.config())?;
        let trainer = self.keeping.keep(self.steps.config(self.machine.seed, DPO_RATE));
        let options = DpoOptions { trainer, preference };
        usage(options.check(self.source().evaluates(), bounded).map_err(named))?;
        Ok(options)
    }

    /// The reference that is asked for, its folder fetched where the Hub has it.
    ///
    /// # Errors
    /// A reference for a loss that has none; a folder that is not there.
    pub fn reference(&self, loss: &PreferenceConfig) -> Result<Reference> {
        match self.reference.as_deref() {
            None if loss.is_without_reference() => Ok(Reference::None),
            Some(given) if given != "none" && loss.is_without_reference() => {
                let message = "has no effect, as the loss compares the policy with nothing";
                usage(Err(anyhow!("--reference {given}: {message}")))
            }
            given => policy::reference(given, &self.hub),
        }
    }
}
