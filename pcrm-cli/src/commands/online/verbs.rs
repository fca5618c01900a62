//! The options of each command and the algorithm they select.

use anyhow::Result;
use clap::Args;
use pcrm_rl::online::Algorithm;

use super::args::OnlineArgs;
use super::critic::CriticArgs;
use super::loss::{GrpoLossArgs, OnlineDpoLossArgs, PpoLossArgs, RlooLossArgs};
use super::mix::MixArgs;
use crate::training::{DPO_RATE, peak_rate};
use crate::usage::usage;

/// Options of `pcrm grpo`.
#[derive(Debug, Clone, Args)]
#[command(
    after_long_help = GRPO_EXAMPLES,
    next_display_order = 10,
    mut_arg("learning_rate", |arg| peak_rate(arg, DPO_RATE))
)]
pub struct GrpoArgs {
    #[command(flatten)]
    pub online: OnlineArgs,
    #[command(flatten)]
    loss: GrpoLossArgs,
}

/// Options of `pcrm rloo`.
#[derive(Debug, Clone, Args)]
#[command(
    after_long_help = RLOO_EXAMPLES,
    next_display_order = 10,
    mut_arg("learning_rate", |arg| peak_rate(arg, DPO_RATE))
)]
pub struct RlooArgs {
    #[command(flatten)]
    pub online: OnlineArgs,
    #[command(flatten)]
    loss: RlooLossArgs,
}

/// Options of `pcrm ppo`.
#[derive(Debug, Clone, Args)]
#[command(
    after_long_help = PPO_EXAMPLES,
    next_display_order = 10,
    mut_arg("learning_rate", |arg| peak_rate(arg, PPO_RATE))
)]
pub struct PpoArgs {
    #[command(flatten)]
    pub online: OnlineArgs,
    #[command(flatten)]
    loss: PpoLossArgs,
    #[command(flatten)]
    critic: CriticArgs,
    #[command(flatten)]
    mix: MixArgs,
}

/// Options of `pcrm online-dpo`.
#[derive(Debug, Clone, Args)]
#[command(
    after_long_help = ONLINE_DPO_EXAMPLES,
    next_display_order = 10,
    mut_arg("learning_rate", |arg| peak_rate(arg, ONLINE_DPO_RATE))
)]
pub struct OnlineDpoArgs {
    #[command(flatten)]
    pub online: OnlineArgs,
    #[command(flatten)]
    loss: OnlineDpoLossArgs,
}

/// The default learning rate of PPO, as in TRL.
const PPO_RATE: f64 = 3e-6;
/// The default learning rate of online DPO, as in TRL.
const ONLINE_DPO_RATE: f64 = 5e-7;

const GRPO_EXAMPLES: &str = "\
Examples:
  pcrm grpo --model runs/sft --data prompts.jsonl --reward model:runs/rm --output runs/grpo
  pcrm grpo --model runs/sft --data prompts.jsonl --reward model:runs/rm --reward repetition:0.1 --beta 0.04 \
   --output runs/grpo
  pcrm grpo --model qwen2 --data prompts.jsonl --reward python:rewards.py:correct --lora-r 16 \
   --learning-rate 1e-5 --output runs/grpo";

const RLOO_EXAMPLES: &str = "\
Examples:
  pcrm rloo --model runs/sft --data prompts.jsonl --reward model:runs/rm --output runs/rloo
  pcrm rloo --model runs/sft --data prompts.jsonl --reward command:./score --num-generations 4 --output runs/rloo";

const PPO_EXAMPLES: &str = "\
Examples:
  pcrm ppo --model runs/sft --data prompts.jsonl --reward model:runs/rm --output runs/ppo
  pcrm ppo --model runs/sft --data prompts.jsonl --reward model:runs/rm --kl-target 6 --stop-kl 30 --output runs/ppo
  pcrm ppo --config recipes/ppo-paper.toml --model runs/sft --data prompts.jsonl --reward model:runs/rm \
   --output runs/ppo";

const ONLINE_DPO_EXAMPLES: &str = "\
Examples:
  pcrm online-dpo --model runs/sft --data prompts.jsonl --reward model:runs/rm --output runs/online-dpo
  pcrm online-dpo --model runs/sft --data prompts.jsonl --reward model:runs/rm --constraint length_ratio \
   --output runs/online-pcdpo";

/// The algorithm of a command, with its defaults for shared options.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub algorithm: Algorithm,
    /// The number of samples per prompt.
    pub generations: usize,
    /// The number of passes over a rollout.
    pub iterations: usize,
    pub learning_rate: f64,
    /// The largest number of batches that replace groups of equal rewards.
    pub dynamic_sampling: Option<usize>,
    /// The critic, if the algorithm has one.
    pub critic: Option<CriticArgs>,
    /// The texts trained on besides answers.
    pub mix: Option<MixArgs>,
    /// The bound on margins, if the algorithm forms pairs.
    pub constraint: Option<String>,
}

impl Chosen {
    fn new(algorithm: Algorithm, generations: usize, learning_rate: f64) -> Self {
        Self {
            algorithm,
            generations,
            iterations: 1,
            learning_rate,
            dynamic_sampling: None,
            critic: None,
            mix: None,
            constraint: None,
        }
    }
}

impl GrpoArgs {
    /// Returns the algorithm.
    pub fn chosen(&self) -> Chosen {
        Chosen {
            dynamic_sampling: self.loss.dynamic_sampling,
            ..Chosen::new(self.loss.algorithm(), 8, DPO_RATE)
        }
    }
}

impl RlooArgs {
    /// Returns the algorithm.
    pub fn chosen(&self) -> Chosen {
        Chosen::new(self.loss.algorithm(), 2, DPO_RATE)
    }
}

impl PpoArgs {
    /// Returns the algorithm.
    pub fn chosen(&self) -> Chosen {
        Chosen {
            iterations: 4,
            critic: Some(self.critic.clone()),
            mix: (!self.mix.ptx_data.is_empty()).then(|| self.mix.clone()),
            ..Chosen::new(self.loss.algorithm(), 1, PPO_RATE)
        }
    }
}

impl OnlineDpoArgs {
    /// Returns the algorithm.
    ///
    /// # Errors
    /// Fails if losses and weights conflict.
    pub fn chosen(&self) -> Result<Chosen> {
        let algorithm = usage(self.loss.algorithm())?;
        let constraint = Some(self.loss.constraint.clone());
        Ok(Chosen { constraint, ..Chosen::new(algorithm, 2, ONLINE_DPO_RATE) })
    }
}
