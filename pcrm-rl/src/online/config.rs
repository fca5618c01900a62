//! The options of on-policy training.

use serde::{Deserialize, Serialize};

use super::pairs::{OnlineDpoConfig, PairStep};
use super::sampling::RolloutConfig;
use super::step::PolicyStep;
use super::update::UpdateObjective;
use crate::error::Result;
use crate::loss::policy::{Correction, GrpoConfig, PpoConfig, RlooConfig};
use crate::options::{TrainerConfig, number, refuse};
use crate::order::BatchSize;
use crate::rollout::{Budget, Sampling};

/// The algorithm that turns rewards into gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "algorithm", rename_all = "kebab-case")]
pub enum Algorithm {
    /// GRPO and its variants.
    Grpo(GrpoConfig),
    /// RLOO.
    Rloo(RlooConfig),
    /// PPO, with a critic.
    Ppo(PpoConfig),
    /// DPO on pairs of sampled answers.
    OnlineDpo(OnlineDpoConfig),
}

impl Default for Algorithm {
    fn default() -> Self {
        Self::Grpo(GrpoConfig::default())
    }
}

impl Algorithm {
    /// Returns the objective of an update on answers of at most `longest` tokens, sampled at this
    /// temperature. Samples of other engines are corrected if `correction` is set.
    pub(super) fn update(
        &self,
        longest: usize,
        temperature: f64,
        correction: Option<Correction>,
    ) -> UpdateObjective {
        let loss = match self {
            Self::Grpo(config) => config.loss(longest),
            Self::Rloo(config) => config.loss(),
            Self::Ppo(config) => config.loss(),
            Self::OnlineDpo(config) => {
                return UpdateObjective::Pairs(PairStep {
                    loss: config.preference.clone(),
                    sampled_at: temperature,
                });
            }
        };
        let loss = match correction {
            Some(correction) => loss.with_correction(correction),
            None => loss,
        };
        UpdateObjective::Policy(PolicyStep { loss, temperature })
    }

    /// Returns true if the algorithm compares the policy with a reference.
    pub fn needs_reference(&self) -> bool {
        match self {
            Self::Grpo(config) => config.beta != 0.0,
            Self::Rloo(config) => config.beta != 0.0,
            Self::Ppo(config) => config.kl.kl_coef != 0.0,
            Self::OnlineDpo(config) => !config.preference.is_without_reference(),
        }
    }

    /// Returns true if the algorithm has a critic.
    pub fn needs_critic(&self) -> bool {
        matches!(self, Self::Ppo(_))
    }

    /// Returns the minimum number of samples per prompt; most algorithms compare them with each other.
    fn fewest(&self) -> usize {
        if self.needs_critic() { 1 } else { 2 }
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::Grpo(config) => config.check(),
            Self::Rloo(config) => config.check(),
            Self::Ppo(config) => config.check(),
            Self::OnlineDpo(config) => config.check(),
        }
    }
}

/// The options of a run, with TRL's names where it has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct OnlineConfig {
    /// The algorithm.
    #[serde(flatten)]
    pub algorithm: Algorithm,
    /// Number of samples per prompt.
    pub num_generations: usize,
    /// Number of passes over each rollout.
    pub num_iterations: usize,
    /// Number of updates per pass, each on a part of the prompts.
    pub num_mini_batches: usize,
    /// Replaces groups with equal rewards by new prompts, with at most this many further draws per rollout
    /// (DAPO, arXiv 2503.14476); `None` keeps them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic_sampling: Option<usize>,
    /// Ends the run after a rollout whose answers diverge more from the reference, in nats summed over
    /// tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_kl: Option<f64>,
    /// Ends the run after a rollout with a higher mean reward.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_score: Option<f64>,
    /// Peak learning rate of the critic; `None` for the policy's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critic_learning_rate: Option<f64>,
    /// Source of answers.
    #[serde(flatten)]
    pub rollouts: RolloutConfig,
    /// Sampling of answers; the seed is the trainer's.
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
            dynamic_sampling: None,
            stop_kl: None,
            stop_score: None,
            critic_learning_rate: None,
            rollouts: RolloutConfig::default(),
            sampling: Sampling::default(),
        }
    }
}

impl OnlineConfig {
    /// Returns the number of updates per rollout.
    pub fn updates(&self) -> u64 {
        (self.num_iterations * self.num_mini_batches) as u64
    }

    /// Returns true if the run needs a reference, for the algorithm or to stop at a divergence.
    pub fn needs_reference(&self) -> bool {
        self.algorithm.needs_reference() || self.stop_kl.is_some()
    }

    /// Checks ranges and combinations of options.
    ///
    /// # Errors
    /// Fails if a value is out of range, or if answers are not sampled from the policy's own distribution;
    /// the error names the option.
    pub fn check(&self, trainer: &TrainerConfig, budget: &Budget) -> Result<()> {
        self.algorithm.check()?;
        self.sampling.check()?;
        self.rollouts.check(&self.algorithm)?;
        if self.rollouts.staleness > 0 && self.dynamic_sampling.is_some() {
            let message = "draws prompts by the rewards of a rollout, which --staleness samples ahead; \
                           expected one of them";
            refuse("dynamic-sampling", message.into())?;
        }
        budget.check()?;
        let filters = &self.sampling.filters;
        if filters.is_greedy() {
            refuse("temperature", "0: answers must be sampled; expected more than 0".into())?;
        }
        if filters.is_filtered() {
            let message = "top-k, top-p, min-p and the repetition penalty sample from a distribution \
                           other than the one whose gradient is taken; expected none of them";
            refuse("sampling", message.into())?;
        }
        let fewest = self.algorithm.fewest();
        if self.num_generations < fewest {
            let compared = if fewest > 1 { "answers are compared with each other; " } else { "" };
            let message = format!("{}: {compared}expected at least {fewest}", self.num_generations);
            refuse("num-generations", message)?;
        }
        match (self.dynamic_sampling, &self.algorithm) {
            (None, _) | (Some(1..), Algorithm::Grpo(_)) => {}
            (Some(0), _) => refuse("dynamic-sampling", "0: expected at least 1".into())?,
            (Some(_), _) => {
                let message =
                    "replaces groups of equal rewards, from which GRPO alone learns nothing; expected none";
                refuse("dynamic-sampling", message.into())?;
            }
        }
        if let Some(kl) = self.stop_kl {
            number("stop-kl", kl, kl > 0.0, "a positive number")?;
        }
        if let Some(score) = self.stop_score {
            number("stop-score", score, true, "a finite number")?;
        }
        if let Some(rate) = self.critic_learning_rate {
            if !self.algorithm.needs_critic() {
                refuse("critic-learning-rate", "only PPO has a critic; expected none".into())?;
            }
            number("critic-learning-rate", rate, rate > 0.0, "a positive number")?;
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
