//! RLOO: REINFORCE with a leave-one-out baseline and a clipped ratio of whole answers (arXiv 2402.14740).

use serde::{Deserialize, Serialize};

use super::aggregation::Aggregation;
use super::evaluation::{PolicyLoss, Ratio};
use super::kl::KlEstimator;
use super::record::MetricNames;
use super::surrogate::Surrogate;
use crate::advantage::{Advantages, LeaveOneOut, Rewards, ScoreShaping};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::options::{number, refuse};

/// The options of RLOO. Names and defaults follow TRL's `RLOOConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RlooConfig {
    /// β, the weight of the KL divergence from the reference, subtracted from rewards; 0 for no reference.
    pub beta: f64,
    /// The estimator of the KL divergence in the reward.
    pub kl_estimator: KlEstimator,
    /// Ratios are clipped from below at 1 − `epsilon`.
    pub epsilon: f64,
    /// Ratios are clipped from above at 1 + `epsilon_high`; `None` for `epsilon`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon_high: Option<f64>,
    /// Standardises the advantages of the batch: subtracts their mean and divides by their standard
    /// deviation.
    pub normalize_advantages: bool,
    /// Masks answers that were cut off before their end.
    pub mask_truncated_completions: bool,
    /// Clipping of rewards, and the penalty for answers that were cut off.
    #[serde(flatten)]
    pub shaping: ScoreShaping,
}

impl Default for RlooConfig {
    fn default() -> Self {
        Self {
            beta: 0.05,
            kl_estimator: KlEstimator::K1,
            epsilon: 0.2,
            epsilon_high: None,
            normalize_advantages: false,
            mask_truncated_completions: false,
            shaping: ScoreShaping::default(),
        }
    }
}

/// The numbers of a sampled answer that determine the penalty on its reward.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sampled<'a> {
    /// ln π of the tokens at the time of sampling.
    pub log_probs: &'a [f64],
    /// ln π_ref of the tokens; empty without a reference.
    pub reference: &'a [f64],
    /// True if the answer has an end token.
    pub ended: bool,
}

impl RlooConfig {
    /// Builds the loss: the mean over answers of −min(ρ·A, clip(ρ)·A), with ρ = π(answer) / π_old(answer).
    pub fn loss(&self) -> PolicyLoss {
        let high = self.epsilon_high.unwrap_or(self.epsilon);
        PolicyLoss {
            ratio: Ratio::SequenceSum,
            surrogate: Surrogate::Clipped { low: self.epsilon, high, most: None, dual: None },
            aggregation: Aggregation::MeanOfRows,
            penalty: None,
            correction: None,
            mask_truncated: self.mask_truncated_completions,
            top_entropy: 1.0,
            off_policy_threshold: None,
            entropy_coefficient: 0.0,
            family: MetricNames::Rloo,
        }
    }

    /// Computes the advantages of answers in consecutive groups of `group`, from Σ w·reward, clipped, less
    /// β·Σ kl_t. Records `kl`, the rewards and `frac_reward_zero_std`.
    ///
    /// # Errors
    /// Fails if the numbers of answers and rewards differ, if references differ in length, or if the group
    /// size does not fit.
    pub fn advantages(
        &self,
        rewards: &Rewards,
        answers: &[Sampled<'_>],
        group: usize,
        metrics: &mut Metrics,
    ) -> Result<Advantages> {
        if answers.len() != rewards.len() {
            refuse("reward", format!("{} answers have {} rewards", answers.len(), rewards.len()))?;
        }
        let mut shaped = Vec::with_capacity(answers.len());
        let mut clamped = 0;
        for (at, (total, answer)) in rewards.totals().into_iter().zip(answers).enumerate() {
            let score = total.map(|total| self.shaping.shaped(total, answer.ended));
            let masked = self.mask_truncated_completions && !answer.ended;
            if self.beta == 0.0 || masked {
                shaped.push(score);
                continue;
            }
            if answer.reference.len() != answer.log_probs.len() {
                let (found, expected) = (answer.reference.len(), answer.log_probs.len());
                refuse("reference", format!("answer {at} has {found}; expected {expected}"))?;
            }
            let kl = answer.log_probs.iter().zip(answer.reference).map(|(log_prob, reference)| {
                let estimate = self.kl_estimator.in_reward(*log_prob, *reference);
                clamped += usize::from(estimate.clamped);
                estimate.value
            });
            let kl: f64 = kl.sum();
            let tokens = answer.log_probs.len() as f64;
            metrics.mean("kl", kl / tokens.max(1.0), tokens);
            shaped.push(score.map(|score| score - self.beta * kl));
        }
        metrics.sum("clamps/kl", clamped as f64);
        let found = LeaveOneOut { normalize_advantages: self.normalize_advantages }.of(&shaped, group)?;
        rewards.record(metrics);
        found.record(metrics);
        Ok(found)
    }

    /// Refuses numbers out of range and an estimator that is unsuitable as a reward.
    ///
    /// # Errors
    /// Fails for the first such option.
    pub fn check(&self) -> Result<()> {
        number("beta", self.beta, self.beta >= 0.0, "a number from 0 up")?;
        self.kl_estimator.check_in_reward()?;
        number("epsilon", self.epsilon, (0.0..1.0).contains(&self.epsilon), "a number from 0 to below 1")?;
        if let Some(high) = self.epsilon_high {
            number("epsilon-high", high, high > 0.0, "a positive number")?;
        }
        self.shaping.check()
    }
}
