//! PPO (arXiv 1707.06347): options, the policy's loss and the critic's.

use serde::{Deserialize, Serialize};

use super::aggregation::Aggregation;
use super::entropy::EntropyControl;
use super::evaluation::{Penalty, PolicyLoss, Ratio};
use super::kl::KlEstimator;
use super::record::MetricNames;
use super::surrogate::Surrogate;
use super::value::ValueLoss;
use crate::advantage::{Gae, KlControl, ScoreShaping};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::options::{number, refuse};

/// The place of the KL penalty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlPlace {
    /// Subtracted from the reward of every token.
    #[default]
    Reward,
    /// A term of the loss.
    Loss,
}

/// The options of PPO. Names and defaults follow TRL's `PPOConfig`, where it has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PpoConfig {
    /// The place of the KL penalty.
    pub kl_in: KlPlace,
    /// The estimator of the KL divergence.
    pub kl_estimator: KlEstimator,
    /// Coefficient of the KL penalty, with its adaptation.
    #[serde(flatten)]
    pub kl: KlControl,
    /// Ratios are clipped to 1 ± `cliprange`.
    pub cliprange: f64,
    /// Largest term of a token with a negative advantage, in multiples of −A (arXiv 1912.09729).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dual_clip: Option<f64>,
    /// Values are clipped to the rollout's value ± `cliprange_value`; 0 for no clip.
    pub cliprange_value: f64,
    /// The weight of the critic's loss.
    pub vf_coef: f64,
    /// γ, the discount of a later token's reward.
    pub gamma: f64,
    /// λ of generalised advantage estimation.
    pub lam: f64,
    /// Scales the rewards of a batch's tokens to variance 1.
    pub whiten_rewards: bool,
    /// Scales the advantages of a batch's tokens to mean 0 and variance 1.
    pub whiten_advantages: bool,
    /// Masks answers that were cut off before their end.
    pub mask_truncated_completions: bool,
    /// Clipping of scores, and the penalty for answers that were cut off.
    #[serde(flatten)]
    pub shaping: ScoreShaping,
    /// The entropy bonus.
    #[serde(flatten)]
    pub entropy: EntropyControl,
}

impl Default for PpoConfig {
    fn default() -> Self {
        Self {
            kl_in: KlPlace::Reward,
            kl_estimator: KlEstimator::K1,
            kl: KlControl::default(),
            cliprange: 0.2,
            dual_clip: None,
            cliprange_value: 0.2,
            vf_coef: 0.1,
            gamma: 1.0,
            lam: 0.95,
            whiten_rewards: false,
            whiten_advantages: true,
            mask_truncated_completions: false,
            shaping: ScoreShaping::default(),
            entropy: EntropyControl::default(),
        }
    }
}

impl PpoConfig {
    /// Builds the policy's loss: the mean over the tokens of a step of max(−A·ρ, −A·clip(ρ)), plus the KL
    /// term if it is in the loss. Coefficients are the initial ones: see [`PolicyLoss::with_kl_coefficient`]
    /// and [`PolicyLoss::with_entropy_coefficient`].
    pub fn loss(&self) -> PolicyLoss {
        let penalty = Penalty { coefficient: self.kl.kl_coef, estimator: self.kl_estimator, corrected: true };
        PolicyLoss {
            ratio: Ratio::Token,
            surrogate: Surrogate::Clipped {
                low: self.cliprange,
                high: self.cliprange,
                most: None,
                dual: self.dual_clip,
            },
            aggregation: Aggregation::Tokens,
            penalty: (self.kl_in == KlPlace::Loss && self.kl.kl_coef != 0.0).then_some(penalty),
            correction: None,
            mask_truncated: self.mask_truncated_completions,
            top_entropy: 1.0,
            off_policy_threshold: None,
            entropy_coefficient: self.entropy.applied(self.entropy.start()),
            family: MetricNames::Ppo,
        }
    }

    /// Returns true if an answer is masked. [`PolicyLoss`] masks it in the policy's loss; for the critic's
    /// loss the caller omits its row.
    pub fn masks(&self, ended: bool) -> bool {
        self.mask_truncated_completions && !ended
    }

    /// Builds the critic's loss.
    pub fn value_loss(&self) -> ValueLoss {
        let cliprange_value = (self.cliprange_value != 0.0).then_some(self.cliprange_value);
        ValueLoss { cliprange_value, vf_coef: self.vf_coef }
    }

    /// Returns the constants of advantage estimation.
    pub fn gae(&self) -> Gae {
        Gae { gamma: self.gamma, lam: self.lam }
    }

    /// Refuses numbers out of range and estimators in the wrong place. Errors name options as the command
    /// line does.
    ///
    /// # Errors
    /// Fails for the first such option.
    pub fn check(&self) -> Result<()> {
        match self.kl_in {
            KlPlace::Reward => self.kl_estimator.check_in_reward()?,
            KlPlace::Loss => self.kl_estimator.check_in_loss()?,
        }
        self.kl.check()?;
        let within = "a number above 0, below 1";
        number("cliprange", self.cliprange, self.cliprange > 0.0 && self.cliprange < 1.0, within)?;
        if let Some(dual) = self.dual_clip {
            number("dual-clip", dual, dual > 1.0, "a number above 1; 3 is usual")?;
        }
        let range = self.cliprange_value;
        number("cliprange-value", range, range >= 0.0, "a positive number, or 0 for no clip")?;
        number("vf-coef", self.vf_coef, self.vf_coef > 0.0, "a positive number")?;
        for (field, value) in [("gamma", self.gamma), ("lam", self.lam)] {
            number(field, value, (0.0..=1.0).contains(&value), "a number from 0 to 1")?;
        }
        if self.mask_truncated_completions && self.shaping.missing_eos_penalty.is_some() {
            let message =
                "has no effect on answers that mask-truncated-completions leaves out; set only one of them";
            return refuse("missing-eos-penalty", message.into());
        }
        self.shaping.check()?;
        self.entropy.check()
    }
}

/// Adds the metrics of an update (a minibatch) to those of a rollout, and its mean ratio to `val/ratio_var`,
/// the variance of that mean over all updates of the rollout.
pub fn record_update(update: Metrics, metrics: &mut Metrics) {
    if let Some(ratio) = update.summary().get("val/ratio") {
        metrics.variance("val/ratio_var", ratio);
    }
    metrics.merge(update);
}
