//! The options of on-policy training.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::loss::policy::{GrpoConfig, PolicyLoss, RlooConfig};
use crate::options::{TrainerConfig, refuse};
use crate::order::BatchSize;
use crate::rollout::{Budget, Sampling};

/// The way that rewards become gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "algorithm", rename_all = "kebab-case")]
pub enum Algorithm {
    /// GRPO and its kin.
    Grpo(GrpoConfig),
    /// RLOO.
    Rloo(RlooConfig),
}

impl Default for Algorithm {
    fn default() -> Self {
        Self::Grpo(GrpoConfig::default())
    }
}

impl Algorithm {
    /// The loss of answers of at most `longest` tokens.
    pub(super) fn loss(&self, longest: usize) -> PolicyLoss {
        match self {
            Self::Grpo(config) => config.loss(longest),
            Self::Rloo(config) => config.loss(),
        }
    }

    /// Returns true if the policy is compared with a reference.
    pub fn needs_reference(&self) -> bool {
        match self {
            Self::Grpo(config) => config.beta != 0.0,
            Self::Rloo(config) => config.beta != 0.0,
        }
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::Grpo(config) => config.check(),
            Self::Rloo(config) => config.check(),
        }
    }
}

/// The options of a run. Names are TRL's where it has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct OnlineConfig {
    /// The algorithm.
    #[serde(flatten)]
    pub algorithm: Algorithm,
    /// Samples of each prompt.
    pub num_generations: usize,
    /// Passes over each rollout.
    pub num_iterations: usize,
    /// Updates of a pass, each on a part of the prompts.
    pub num_mini_batches: usize,
    /// The sampling of answers; its seed is the trainer's.
    #[serde(flatten)]
    pub sampling: Sampling,
}

impl Default for OnlineConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            num_generations: 8,
            num_iterations: 1,
            num_mini_batches: 1,
            sampling: Sampling::default(),
        }
    }
}

impl OnlineConfig {
    /// Updates that are made of a rollout.
    pub fn updates(&self) -> u64 {
        (self.num_iterations * self.num_mini_batches) as u64
    }

    /// Checks ranges and combinations.
    ///
    /// # Errors
    /// A value out of its range, samples that are not drawn from the policy's own distribution, by name.
    pub fn check(&self, trainer: &TrainerConfig, budget: &Budget) -> Result<()> {
        self.algorithm.check()?;
        self.sampling.check()?;
        budget.check()?;
        let filters = &self.sampling.filters;
        if filters.is_greedy() {
            refuse(
                "temperature",
                "0: a policy learns from answers that are drawn; expected more than 0".into(),
            )?;
        }
        if filters.is_filtered() {
            let message = "top-k, top-p, min-p and the repetition penalty draw answers from another distribution than the \
                           one whose gradient is taken; expected none of them";
            refuse("sampling", message.into())?;
        }
        if self.num_generations < 2 {
            let message = format!(
                "{}: answers are compared with each other; expected at least 2",
                self.num_generations
            );
            refuse("num-generations", message)?;
        }
        for (field, value) in
            [("num-iterations", self.num_iterations), ("num-mini-batches", self.num_mini_batches)]
        {
            if value == 0 {
                refuse(field, "0: expected at least 1".into())?;
            }
        }
        match trainer.batch {
            BatchSize::Pairs(prompts) if prompts < self.num_mini_batches => {
                let message =
                    format!("{} of {prompts} prompts; expected at most as many", self.num_mini_batches);
                refuse("num-mini-batches", message)
            }
            BatchSize::Pairs(_) => Ok(()),
            BatchSize::Tokens(_) => {
                refuse("batch-tokens", "rollouts are counted in prompts; expected --batch".into())
            }
        }
    }
}
