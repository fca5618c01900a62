//! The options of training, shared by every training command.

mod completions;
mod data;
pub mod folder;
mod idle;
mod lora;
mod loss;
pub mod moment;
pub mod policy;
mod recompute;
pub mod reward;
mod routers;
mod source;
mod unread;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Arg, Args, ValueEnum};
use pcrm_core::data::preference::Ties;
use pcrm_core::model::Checkpointing;
use pcrm_core::optim::{AdamWConfig, Rule, StatePlace, WeightType};
use pcrm_core::schedule::Shape;
use pcrm_core::text::Tokenizer;
use pcrm_rl::options::{TrainerConfig, Warmup};
use pcrm_rl::order::{BatchSize, Order};
use pcrm_rl::train::RewardOptions;

pub use self::completions::{CompletionReading, shortfall as completion_shortfall};
pub use self::data::{Encoded, encoded, held_out};
pub use self::lora::LoraArgs;
pub use self::loss::LossArgs;
pub use self::recompute::RecomputeArgs;
pub use self::routers::RouterArgs;
pub use self::source::{DataOptions, Fetched};
use crate::columns::of_both_sets;
use crate::dataset::Reading;
use crate::hub::Hub;
use crate::machine::Machine;
use crate::numbers::{positive, real, share, whole};
use crate::processes::ProcessArgs;
use crate::usage::{named, usage};

/// The default learning rate of reward models.
pub const REWARD_RATE: f64 = 1e-4;
/// The default learning rate of `pcrm dpo` and `pcrm kto`, as in TRL.
pub const DPO_RATE: f64 = 1e-6;
/// The default learning rate of fine-tuning, as in TRL.
pub const SFT_RATE: f64 = 2e-5;

/// Adds a command's default to the help of `--learning-rate`.
pub fn peak_rate(arg: Arg, default: f64) -> Arg {
    arg.help(format!("Set the peak learning rate [default: {default:e}]"))
}

/// Counts `--batch` in completions.
pub fn in_completions(batch: Arg) -> Arg {
    batch.value_name("COMPLETIONS").help("Completions per step; a conversation or a text counts as one")
}

/// Counts `--batch` in prompts.
pub fn in_prompts(batch: Arg) -> Arg {
    batch.value_name("PROMPTS").help("Prompts per step")
}

/// Options shared by every command that trains reward models: model, data, loss and steps.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("limit", of_both_sets), mut_arg("learning_rate", |arg| peak_rate(arg, REWARD_RATE)))]
pub struct TrainingArgs {
    /// Train the model in this Hugging Face folder or Hub repository (org/name): a language model, which gets
    /// a score head, or a reward model
    #[arg(long, value_name = "DIR", display_order = 1)]
    pub model: PathBuf,
    /// Train on these preference files and folders (JSONL or JSON, plain, gzip or zstd, or Parquet) or Hub
    /// data sets (org/name, org/name:split)
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append,
          display_order = 2)]
    pub data: Vec<PathBuf>,
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
    pub reading: Reading,
    #[command(flatten)]
    pub loss: LossArgs,
    #[command(flatten)]
    pub steps: StepArgs,
    #[command(flatten)]
    pub lora: LoraArgs,
    #[command(flatten)]
    pub hub: Hub,
    #[command(flatten)]
    pub machine: Machine,
}

/// Options of the training steps.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Steps")]
pub struct StepArgs {
    /// Make N passes over the data; may be a fraction
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = real)]
    epochs: f64,
    /// Stop after N steps; the run ends sooner if --epochs passes take fewer
    #[arg(long, value_name = "N", value_parser = positive::<u64>)]
    max_steps: Option<u64>,
    /// Pairs per step, or prompts for ranked answers
    #[arg(long, value_name = "PAIRS", default_value_t = 16, value_parser = positive::<usize>)]
    batch: usize,
    /// Use N tokens per step (each prompt counted once) instead of --batch
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    batch_tokens: Option<usize>,
    /// Compute at most N tokens at once; larger batches are accumulated with the same result
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = positive::<usize>)]
    micro_tokens: usize,
    #[command(flatten)]
    recomputed: RecomputeArgs,
    /// Order of the data: shuffled, bucketed by length, or as in the file
    #[arg(long, value_name = "ORDER", default_value = "shuffled")]
    order: OrderChoice,
    /// Set the peak learning rate
    #[arg(long, value_name = "RATE", value_parser = real)]
    learning_rate: Option<f64>,
    /// Set the shape of the learning rate after warm-up
    #[arg(long, value_name = "SHAPE", default_value = "linear")]
    schedule: ScheduleChoice,
    /// Warm up the learning rate over N steps
    #[arg(long, value_name = "N", conflicts_with = "warmup_ratio", value_parser = whole::<u64>)]
    warmup_steps: Option<u64>,
    /// Warm up the learning rate over this share of all steps
    #[arg(long, value_name = "SHARE", value_parser = real)]
    warmup_ratio: Option<f64>,
    /// Update weights with this optimiser: adamw; adamw-8bit, whose moments take 2 bytes per parameter
    /// instead of 8; or adafactor, which keeps moments of rows and columns only
    #[arg(long, value_name = "RULE", default_value_t = Rule::AdamW)]
    optimizer: Rule,
    /// Keep the moments of adamw or adamw-8bit in device memory, or in host memory, from which every step
    /// copies them to the GPU and back, with the same result
    #[arg(long, value_name = "PLACE", default_value_t = StatePlace::Device)]
    optimizer_states: StatePlace,
    /// Store trained matrices as f32; as bf16-kahan: bf16 with the rounding error in bf16 beside it; or as
    /// bf16-stochastic: bf16 with stochastic rounding
    #[arg(long, value_name = "TYPE", default_value_t = WeightType::F32)]
    pub weights: WeightType,
    /// Decay weight matrices by X (decoupled weight decay)
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = real)]
    weight_decay: f64,
    /// Set the decay of AdamW's first moment
    #[arg(long, value_name = "X", default_value_t = 0.9, value_parser = real)]
    adam_beta1: f64,
    /// Set the decay of AdamW's second moment
    #[arg(long, value_name = "X", default_value_t = 0.999, value_parser = real)]
    adam_beta2: f64,
    /// Set AdamW's epsilon
    #[arg(long, value_name = "X", default_value_t = 1e-8, value_parser = real)]
    adam_epsilon: f64,
    /// Clip gradients to a global norm of X; 0 for no clipping
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = real)]
    max_grad_norm: f64,
    #[command(flatten)]
    pub processes: ProcessArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OrderChoice {
    Shuffled,
    Bucketed,
    File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScheduleChoice {
    Constant,
    Linear,
    Cosine,
}

impl TrainingArgs {
    /// Returns the treatment of ties in the data.
    pub fn kept_ties(&self) -> Ties {
        self.loss.kept_ties()
    }

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
            router_aux_loss_coef: None,
            hub: &self.hub,
            machine: &self.machine,
        }
    }

    /// Returns true if there is held-out data.
    pub fn evaluates(&self) -> bool {
        self.source().evaluates()
    }

    /// Reads, encodes and splits the data for a model with this padding.
    ///
    /// # Errors
    /// Fails as [`encoded`] does.
    pub fn encoded(&self, tokenizer: &Tokenizer, pad: Option<u32>, max_length: usize) -> Result<Encoded> {
        encoded(&self.source(), &self.reading, self.kept_ties(), tokenizer, pad, max_length)
    }

    /// Returns the same options with local paths in place of Hub repositories.
    ///
    /// # Errors
    /// Fails if a repository cannot be fetched.
    pub fn fetched(&self) -> Result<Self> {
        let Fetched { model, data, eval_data } = self.source().fetched()?;
        Ok(Self { model, data, eval_data, ..self.clone() })
    }

    /// Returns the checked options in the trainer's form, with a single evaluation at the end and no earlier
    /// checkpoint.
    ///
    /// # Errors
    /// Fails with a usage error if a number is out of range or options conflict.
    pub fn options(&self) -> Result<RewardOptions> {
        usage(self.reading.check())?;
        let reward = usage(self.loss.config())?;
        let options = RewardOptions { trainer: self.steps.config(self.machine.seed, REWARD_RATE), reward };
        usage(options.check(self.evaluates()).map_err(named))?;
        Ok(options)
    }
}

impl StepArgs {
    /// Returns the layers that the backward pass recomputes.
    pub fn checkpointing(&self) -> Checkpointing {
        self.recomputed.checkpointing()
    }

    /// Returns the options in the trainer's form, without evaluations and checkpoints; `rate` is the default
    /// learning rate.
    pub fn config(&self, seed: u64, rate: f64) -> TrainerConfig {
        let steps = self;
        TrainerConfig {
            seed,
            epochs: steps.epochs,
            max_steps: steps.max_steps,
            batch: steps.batch_tokens.map_or(BatchSize::Pairs(steps.batch), BatchSize::Tokens),
            order: match steps.order {
                OrderChoice::Shuffled => Order::Shuffled,
                OrderChoice::Bucketed => Order::Bucketed,
                OrderChoice::File => Order::File,
            },
            micro_tokens: steps.micro_tokens,
            lanes: steps.processes.lanes(),
            learning_rate: steps.learning_rate.unwrap_or(rate),
            schedule: match steps.schedule {
                ScheduleChoice::Constant => Shape::Constant,
                ScheduleChoice::Linear => Shape::Linear,
                ScheduleChoice::Cosine => Shape::Cosine,
            },
            warmup: match (steps.warmup_steps, steps.warmup_ratio) {
                (Some(steps), _) => Warmup::Steps(steps),
                (None, ratio) => Warmup::Ratio(ratio.unwrap_or(0.0)),
            },
            optimizer: steps.optimizer,
            optimizer_states: steps.optimizer_states,
            weights: steps.weights,
            adamw: AdamWConfig {
                beta1: steps.adam_beta1,
                beta2: steps.adam_beta2,
                eps: steps.adam_epsilon,
                weight_decay: steps.weight_decay,
            },
            max_grad_norm: Some(steps.max_grad_norm).filter(|most| *most != 0.0),
            save_every: None,
            keep: 1,
            ..TrainerConfig::default()
        }
    }
}
