//! The options of `pcrm grpo` and `pcrm rloo`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use pcrm_core::data::preference::Ties;
use pcrm_core::kernels::Filters;
use pcrm_rl::online::{Algorithm, OnlineConfig};
use pcrm_rl::options::TrainerConfig;
use pcrm_rl::reward_source::Spec;
use pcrm_rl::rollout::{Budget, Sampling};

use super::loss::{GrpoLossArgs, RlooLossArgs};
use crate::columns::ColumnArgs;
use crate::hub::Hub;
use crate::machine::Machine;
use crate::numbers::{positive, share};
use crate::training::policy;
use crate::training::reward::KeepArgs;
use crate::training::{DPO_RATE, Fetched, LoraArgs, Source, StepArgs};
use crate::usage::{named, usage};

/// Options of `pcrm grpo`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = GRPO_EXAMPLES, next_display_order = 10)]
pub struct GrpoArgs {
    #[command(flatten)]
    pub online: OnlineArgs,
    #[command(flatten)]
    loss: GrpoLossArgs,
}

/// Options of `pcrm rloo`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = RLOO_EXAMPLES, next_display_order = 10)]
pub struct RlooArgs {
    #[command(flatten)]
    pub online: OnlineArgs,
    #[command(flatten)]
    loss: RlooLossArgs,
}

const GRPO_EXAMPLES: &str = "\
Examples:
  pcrm grpo --model runs/sft --data prompts.jsonl --reward model:runs/rm --output runs/grpo
  pcrm grpo --model runs/sft --data prompts.jsonl --reward model:runs/rm --reward repetition:0.1 --beta 0.04 --output runs/grpo
  pcrm grpo --model qwen2 --data prompts.jsonl --reward python:rewards.py:correct --lora-r 16 --learning-rate 1e-5 --output runs/grpo";

const RLOO_EXAMPLES: &str = "\
Examples:
  pcrm rloo --model runs/sft --data prompts.jsonl --reward model:runs/rm --output runs/rloo
  pcrm rloo --model runs/sft --data prompts.jsonl --reward command:./score --num-generations 4 --output runs/rloo";

/// The options that algorithms share.
#[derive(Debug, Clone, Args)]
pub struct OnlineArgs {
    /// Begin from this Hugging Face folder, or repository of the Hub (org/name): a language model, usually fine-tuned,
    /// or a PEFT adapter of one
    #[arg(long, value_name = "DIR", display_order = 1)]
    pub model: PathBuf,
    /// Answer the prompts of these files, folders or data sets of the Hub (org/name, org/name:split): text or messages
    /// in prompt, with any other columns for rewards; of preferences the prompts are taken
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append, display_order = 2)]
    pub data: Vec<PathBuf>,
    /// Reward answers by this source, added up over all that are given: model:DIR, length, regex, exact, json, repetition,
    /// world, command:CMD, python:FILE.py:FUNCTION, http://.., or JSON; :WEIGHT at the end weighs it
    #[arg(long, value_name = "SOURCE", required = true, action = clap::ArgAction::Append, display_order = 3)]
    pub reward: Vec<String>,
    /// Write the trained model, its checkpoints, metrics and samples to this folder
    #[arg(long, value_name = "DIR", display_order = 4)]
    pub output: PathBuf,
    /// Continue from the newest checkpoint in --output
    #[arg(long, display_order = 5)]
    pub resume: bool,
    /// Compare the policy with this model, where --beta is not 0: start (the policy before training), base (the model
    /// under the adapters in --model), or a folder [default: start]
    #[arg(long, value_name = "MODEL", display_order = 6)]
    pub reference: Option<String>,
    /// Evaluate on the prompts of these files, folders or data sets
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    pub eval_data: Vec<PathBuf>,
    /// Hold out this share of the prompts of --data to evaluate on
    #[arg(long, value_name = "SHARE", conflicts_with = "eval_data", value_parser = share)]
    pub eval_split: Option<f64>,
    /// Draw all weights from the seed: --model needs config.json and a tokenizer only
    #[arg(long)]
    pub random_init: bool,
    #[command(flatten)]
    pub rollout: RolloutArgs,
    #[command(flatten)]
    pub columns: ColumnArgs,
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

/// Options of rollouts: sampling, and the number of updates made of them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Rollout")]
pub struct RolloutArgs {
    /// Sample N answers of each prompt
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive::<usize>)]
    pub num_generations: usize,
    /// Sample at most N tokens of each answer
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = positive::<usize>)]
    pub max_completion_length: usize,
    /// Leave out prompts of more than N tokens
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    pub max_prompt_length: Option<usize>,
    /// Divide logits by T, in sampling and in training
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub temperature: f64,
    /// Pass N times over each rollout
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive::<usize>)]
    pub num_iterations: usize,
    /// Make N updates of each pass, each on a part of the prompts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive::<usize>)]
    pub num_mini_batches: usize,
    /// End an answer at this token too, besides those of generation_config.json, config.json and the tokenizer
    #[arg(long, value_name = "ID")]
    pub stop_token: Vec<u32>,
    /// Keep the keys and values of at most N tokens
    #[arg(long, value_name = "N", default_value_t = Budget::default().cache_tokens, value_parser = positive::<usize>)]
    pub cache_tokens: usize,
    /// Decode at most N samples at once; what is sampled does not depend on it
    #[arg(long, value_name = "N", default_value_t = Budget::default().rows, value_parser = positive::<usize>)]
    pub rows: usize,
}

impl GrpoArgs {
    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.loss.algorithm()
    }
}

impl RlooArgs {
    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.loss.algorithm()
    }
}

impl OnlineArgs {
    /// The options that say what a run reads.
    pub fn source(&self) -> Source<'_> {
        Source {
            model: &self.model,
            random_init: self.random_init,
            data: &self.data,
            eval_data: &self.eval_data,
            eval_split: self.eval_split,
            columns: &self.columns,
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

    /// The reward sources.
    ///
    /// # Errors
    /// A source that is unknown or misspelt.
    pub fn rewards(&self) -> Result<Vec<Spec>> {
        usage(self.reward.iter().map(|text| Ok(text.parse::<Spec>()?)).collect::<Result<_>>())
    }

    /// The limits of the cache and of a step of decoding.
    pub fn budget(&self) -> Budget {
        Budget { cache_tokens: self.rollout.cache_tokens, rows: self.rollout.rows, ..Budget::default() }
    }

    /// The options as the trainer takes them, checked.
    ///
    /// # Errors
    /// Numbers out of range, options that do not go together, as errors of usage.
    pub fn options(&self, algorithm: Algorithm) -> Result<(TrainerConfig, OnlineConfig)> {
        let RolloutArgs { num_generations, num_iterations, num_mini_batches, .. } = self.rollout;
        let filters = Filters { temperature: self.rollout.temperature, ..Filters::default() };
        let config = OnlineConfig {
            algorithm,
            num_generations,
            num_iterations,
            num_mini_batches,
            sampling: Sampling {
                filters,
                max_tokens: self.rollout.max_completion_length,
                seed: self.machine.seed,
            },
        };
        let trainer = self.keeping.keep(self.steps.config(self.machine.seed, DPO_RATE));
        usage(config.check(&trainer, &self.budget()).map_err(named))?;
        usage(trainer.check(self.source().evaluates()).map_err(named))?;
        usage(self.columns.options(Ties::Keep).map(|_| ()))?;
        usage((|| {
            ensure!(
                self.reference.is_none() || config.algorithm.needs_reference(),
                "--reference has no effect with --beta 0"
            );
            ensure!(
                self.reference.as_deref() != Some("none"),
                "--reference none: --beta 0 trains without one"
            );
            Ok(())
        })())?;
        Ok((trainer, config))
    }
}
