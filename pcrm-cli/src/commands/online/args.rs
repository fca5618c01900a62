//! The options of verbs that train on sampled answers.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use pcrm_core::data::preference::Ties;
use pcrm_core::kernels::Filters;
use pcrm_rl::advantage::MultiObjective;
use pcrm_rl::online::{Algorithm, OnlineConfig};
use pcrm_rl::options::TrainerConfig;
use pcrm_rl::reward_source::{Combine, Spec};
use pcrm_rl::rollout::{Budget, Sampling};

use super::source::SourceArgs;
use super::verbs::Chosen;
use crate::columns::{ColumnArgs, of_both_sets};
use crate::hub::Hub;
use crate::machine::Machine;
use crate::numbers::{positive, real, share};
use crate::training::policy;
use crate::training::reward::KeepArgs;
use crate::training::{DataOptions, Fetched, LoraArgs, RouterArgs, StepArgs, in_prompts};
use crate::usage::{named, usage};

/// Options shared by all algorithms.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("limit", of_both_sets), mut_arg("batch", in_prompts))]
pub struct OnlineArgs {
    /// Train the language model in this Hugging Face folder or Hub repository (org/name), usually fine-tuned,
    /// or a PEFT adapter of one
    #[arg(long, value_name = "DIR", display_order = 1)]
    pub model: PathBuf,
    /// Answer the prompts of these files, folders or Hub data sets (org/name, org/name:split): text or
    /// messages in prompt, with any other columns for rewards; of preference data, only the prompts are used
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append,
          display_order = 2)]
    pub data: Vec<PathBuf>,
    /// Reward answers with this source; several are added up (see --combine): model:DIR, length, overlong, regex,
    /// exact, format, json, repetition, world, command:CMD, python:FILE.py:FUNCTION, http://.., or JSON; append
    /// :WEIGHT to weight one
    #[arg(long, value_name = "SOURCE", required = true, action = clap::ArgAction::Append, display_order = 3)]
    pub reward: Vec<String>,
    /// Write the trained model, its checkpoints, metrics and samples to this folder
    #[arg(long, value_name = "DIR", display_order = 4)]
    pub output: PathBuf,
    /// Continue from the newest checkpoint in --output
    #[arg(long, display_order = 5)]
    pub resume: bool,
    /// Compare the policy with this model, if the KL penalty or --stop-kl needs a reference: start (the
    /// policy before training), base (the model under the adapter in --model), or a folder [default: start]
    #[arg(long, value_name = "MODEL", display_order = 6)]
    pub reference: Option<String>,
    /// Combine several rewards: sum, or min (the lowest of the standardised scores of an ensemble of reward
    /// models)
    #[arg(long, value_name = "HOW", default_value_t = Combine::Sum)]
    pub combine: Combine,
    /// Evaluate on the prompts of these files, folders or Hub data sets
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    pub eval_data: Vec<PathBuf>,
    /// Hold out this share of the prompts of --data for evaluation
    #[arg(long, value_name = "SHARE", conflicts_with = "eval_data", value_parser = share)]
    pub eval_split: Option<f64>,
    /// Draw all weights from the seed: --model needs only config.json and a tokenizer
    #[arg(long, conflicts_with = "lora_r")]
    pub random_init: bool,
    #[command(flatten)]
    pub rollout: RolloutArgs,
    #[command(flatten)]
    pub sampler: SourceArgs,
    #[command(flatten)]
    pub columns: ColumnArgs,
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

/// Options of rollouts: sampling, and the number of updates per rollout.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Rollout")]
pub struct RolloutArgs {
    /// Sample N answers to each prompt [default: 8 in grpo, 2 in rloo and online-dpo, 1 in ppo]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    pub num_generations: Option<usize>,
    /// Sample at most N tokens per answer
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = positive::<usize>)]
    pub max_completion_length: usize,
    /// Leave out prompts of more than N tokens
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    pub max_prompt_length: Option<usize>,
    /// Divide logits by T, in sampling and in training
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub temperature: f64,
    /// Make N passes over each rollout [default: 1, in ppo 4]
    #[arg(long, value_name = "N", alias = "num-ppo-epochs", value_parser = positive::<usize>)]
    pub num_iterations: Option<usize>,
    /// Make N updates per pass, each on a part of the prompts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive::<usize>)]
    pub num_mini_batches: usize,
    /// Stop when answers are more than K nats from the reference, summed over their tokens
    #[arg(long, value_name = "K", value_parser = real)]
    pub stop_kl: Option<f64>,
    /// Stop when the mean reward of a rollout exceeds R
    #[arg(long, value_name = "R", value_parser = real, allow_negative_numbers = true)]
    pub stop_score: Option<f64>,
    /// Also end answers at this token, besides those of generation_config.json, config.json and the tokenizer
    #[arg(long, value_name = "ID")]
    pub stop_token: Vec<u32>,
    /// Cache the keys and values of at most N tokens
    #[arg(long, value_name = "N", default_value_t = Budget::default().cache_tokens, value_parser = positive::<usize>)]
    pub cache_tokens: usize,
    /// Decode at most N samples at once; the samples do not depend on it
    #[arg(long, value_name = "N", default_value_t = Budget::default().rows, value_parser = positive::<usize>)]
    pub rows: usize,
}

impl OnlineArgs {
    /// Returns the options that define what a run reads.
    pub fn source(&self) -> DataOptions<'_> {
        DataOptions {
            model: &self.model,
            random_init: self.random_init,
            data: &self.data,
            eval_data: &self.eval_data,
            eval_split: self.eval_split,
            columns: &self.columns,
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

    /// Returns the reward sources.
    ///
    /// # Errors
    /// Fails if a source is unknown or malformed.
    pub fn rewards(&self) -> Result<Vec<Spec>> {
        usage(self.reward.iter().map(|text| Ok(text.parse::<Spec>()?)).collect::<Result<_>>())
    }

    /// Returns the limits of the cache and of a decoding step.
    pub fn budget(&self) -> Budget {
        Budget { cache_tokens: self.rollout.cache_tokens, rows: self.rollout.rows, ..Budget::default() }
    }

    /// Returns the checked options in the trainer's form.
    ///
    /// # Errors
    /// Fails with a usage error if a number is out of range or options conflict.
    pub fn options(&self, chosen: &Chosen) -> Result<(TrainerConfig, OnlineConfig)> {
        let rollout = &self.rollout;
        let filters = Filters { temperature: rollout.temperature, ..Filters::default() };
        let config = OnlineConfig {
            algorithm: chosen.algorithm.clone(),
            num_generations: rollout.num_generations.unwrap_or(chosen.generations),
            num_iterations: rollout.num_iterations.unwrap_or(chosen.iterations),
            num_mini_batches: rollout.num_mini_batches,
            dynamic_sampling: chosen.dynamic_sampling,
            stop_kl: rollout.stop_kl,
            stop_score: rollout.stop_score,
            critic_learning_rate: chosen.critic.as_ref().and_then(|critic| critic.critic_learning_rate),
            rollouts: self.sampler.config(&chosen.algorithm),
            sampling: Sampling {
                filters,
                max_tokens: rollout.max_completion_length,
                seed: self.machine.seed,
            },
        };
        self.sampler.check(&config.rollouts)?;
        let trainer = self.keeping.keep(self.steps.config(self.machine.seed, chosen.learning_rate));
        usage(config.check(&trainer, &self.budget()).map_err(named))?;
        usage(trainer.check(self.source().evaluates()).map_err(named))?;
        usage(self.columns.options(Ties::Keep).map(|_| ()))?;
        usage(self.columns.refuse_margins("of the data only the prompts are used"))?;
        usage((|| {
            ensure!(
                self.reference.is_none() || config.needs_reference(),
                "--reference has no effect without a KL penalty or --stop-kl"
            );
            ensure!(
                self.reference.as_deref() != Some("none"),
                "--reference none: set the KL penalty to 0 to train without a reference"
            );
            if let Algorithm::Grpo(grpo) = &chosen.algorithm {
                let each = grpo.advantages.multi_objective_aggregation == MultiObjective::NormalizeThenSum;
                ensure!(
                    self.combine == Combine::Sum || !each,
                    "--multi-objective-aggregation normalize_then_sum: sums rewards, which --combine {} does \
                     not; expected sum_then_normalize",
                    self.combine
                );
            }
            Ok(())
        })())?;
        Ok((trainer, config))
    }
}
