//! GRPO and its variants: options, their ranges, and invalid combinations.

use serde::{Deserialize, Serialize};

use super::aggregation::Aggregation;
use super::correction::Correction;
use super::entropy::EntropyControl;
use super::evaluation::{Penalty, PolicyLoss, Ratio};
use super::kl::KlEstimator;
use super::loss_type::GrpoLoss;
use super::record::MetricNames;
use super::surrogate::Surrogate;
use crate::advantage::GroupAdvantages;
use crate::error::Result;
use crate::options::{number, refuse};

/// The level of importance ratios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportanceLevel {
    /// One token.
    #[default]
    Token,
    /// The whole answer, by the mean of its log-ratios (GSPO, arXiv 2507.18071).
    Sequence,
}

/// The options of GRPO's loss and advantages. Names and defaults follow TRL's `GRPOConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GrpoConfig {
    /// The loss.
    pub loss_type: GrpoLoss,
    /// β, the weight of the KL divergence from the reference; 0 for no reference.
    pub beta: f64,
    /// The estimator of the KL divergence in the loss.
    pub kl_estimator: KlEstimator,
    /// Weights k3 by the importance ratio, which makes its gradient unbiased.
    pub use_bias_correction_kl: bool,
    /// Ratios are clipped from below at 1 − `epsilon`.
    pub epsilon: f64,
    /// Ratios are clipped from above at 1 + `epsilon_high`, for `cispo` at `epsilon_high`; `None` for
    /// `epsilon`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon_high: Option<f64>,
    /// Upper limit of ratios, even where the clip does not apply (INTELLECT-2, arXiv 2505.07291).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// Level of importance ratios.
    pub importance_sampling_level: ImportanceLevel,
    /// τ of `sapo` for positive advantages.
    pub sapo_temperature_pos: f64,
    /// τ of `sapo` for other advantages.
    pub sapo_temperature_neg: f64,
    /// k of `vespo` for advantages ≥ 0.
    pub vespo_k_pos: f64,
    /// λ of `vespo` for advantages ≥ 0.
    pub vespo_lambda_pos: f64,
    /// k of `vespo` for negative advantages.
    pub vespo_k_neg: f64,
    /// λ of `vespo` for negative advantages.
    pub vespo_lambda_neg: f64,
    /// Masks answers that were cut off before their end.
    pub mask_truncated_completions: bool,
    /// Share of tokens, those of highest entropy, that contribute to the loss (arXiv 2506.01939).
    pub top_entropy_quantile: f64,
    /// Masks answers with a negative advantage if the policy has moved further than this from the one that
    /// sampled them, by mean log-ratio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off_policy_mask_threshold: Option<f64>,
    /// Correction of samples from another engine; `None` for the trainer's own samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_correction: Option<Correction>,
    /// The entropy bonus.
    #[serde(flatten)]
    pub entropy: EntropyControl,
    /// The advantages.
    #[serde(flatten)]
    pub advantages: GroupAdvantages,
}

impl Default for GrpoConfig {
    fn default() -> Self {
        Self {
            loss_type: GrpoLoss::Dapo,
            beta: 0.0,
            kl_estimator: KlEstimator::K3,
            use_bias_correction_kl: true,
            epsilon: 0.2,
            epsilon_high: None,
            delta: None,
            importance_sampling_level: ImportanceLevel::Token,
            sapo_temperature_pos: 1.0,
            sapo_temperature_neg: 1.05,
            vespo_k_pos: 2.0,
            vespo_lambda_pos: 3.0,
            vespo_k_neg: 3.0,
            vespo_lambda_neg: 2.0,
            mask_truncated_completions: false,
            top_entropy_quantile: 1.0,
            off_policy_mask_threshold: None,
            rollout_correction: None,
            entropy: EntropyControl::default(),
            advantages: GroupAdvantages::default(),
        }
    }
}

impl GrpoConfig {
    /// Builds the loss; `longest` is the maximum number of tokens of an answer, the divisor of `dr_grpo`. The
    /// entropy coefficient is the non-adaptive one: see [`PolicyLoss::with_entropy_coefficient`].
    pub fn loss(&self, longest: usize) -> PolicyLoss {
        use GrpoLoss as L;
        let high = self.epsilon_high.unwrap_or(self.epsilon);
        let (surrogate, family) = match self.loss_type {
            L::Cispo => (Surrogate::Cispo { most: high }, MetricNames::Cispo),
            L::Sapo => {
                let (positive, negative) = (self.sapo_temperature_pos, self.sapo_temperature_neg);
                (Surrogate::Sapo { positive, negative }, MetricNames::Sapo)
            }
            L::Vespo => {
                let k = [self.vespo_k_pos, self.vespo_k_neg];
                (
                    Surrogate::Vespo { k, lambda: [self.vespo_lambda_pos, self.vespo_lambda_neg] },
                    MetricNames::Vespo,
                )
            }
            L::Grpo | L::Bnpo | L::DrGrpo | L::Dapo | L::Luspo => (
                Surrogate::Clipped { low: self.epsilon, high, most: self.delta, dual: None },
                MetricNames::Grpo,
            ),
        };
        let aggregation = match self.loss_type {
            L::Grpo | L::Sapo => Aggregation::MeanOfRows,
            L::Bnpo => Aggregation::Tokens,
            L::DrGrpo => Aggregation::Constant(longest as f64),
            L::Dapo | L::Cispo | L::Vespo => Aggregation::Generated,
            L::Luspo => Aggregation::SumOfRows,
        };
        let penalty = Penalty {
            coefficient: self.beta,
            estimator: self.kl_estimator,
            corrected: self.use_bias_correction_kl,
        };
        PolicyLoss {
            ratio: match self.importance_sampling_level {
                ImportanceLevel::Token => Ratio::Token,
                ImportanceLevel::Sequence => Ratio::SequenceMean,
            },
            surrogate,
            aggregation,
            penalty: (self.beta != 0.0).then_some(penalty),
            correction: self.rollout_correction,
            mask_truncated: self.mask_truncated_completions,
            top_entropy: self.top_entropy_quantile,
            off_policy_threshold: self.off_policy_mask_threshold,
            entropy_coefficient: self.entropy.applied(self.entropy.start()),
            family,
        }
    }

    /// Refuses numbers out of range, options without effect, and invalid combinations. Errors name options as
    /// the command line does.
    ///
    /// # Errors
    /// Fails for the first such option.
    pub fn check(&self) -> Result<()> {
        const POSITIVE: &str = "a positive number";
        let loss = self.loss_type;
        number("beta", self.beta, self.beta >= 0.0, "a number from 0 up")?;
        self.kl_estimator.check_in_loss()?;
        number("epsilon", self.epsilon, (0.0..1.0).contains(&self.epsilon), "a number from 0 to below 1")?;
        if let Some(high) = self.epsilon_high {
            number("epsilon-high", high, high > 0.0, POSITIVE)?;
        }
        if let Some(delta) = self.delta {
            number("delta", delta, delta > 1.0, "a number above 1")?;
            if !loss.clips() {
                return refuse("delta", format!("{delta}: has no effect on {loss}; expected none"));
            }
        }
        let (usual, sapo, vespo) = (Self::default(), GrpoLoss::Sapo, GrpoLoss::Vespo);
        for (field, value, usual, of) in [
            ("sapo-temperature-pos", self.sapo_temperature_pos, usual.sapo_temperature_pos, sapo),
            ("sapo-temperature-neg", self.sapo_temperature_neg, usual.sapo_temperature_neg, sapo),
            ("vespo-k-pos", self.vespo_k_pos, usual.vespo_k_pos, vespo),
            ("vespo-lambda-pos", self.vespo_lambda_pos, usual.vespo_lambda_pos, vespo),
            ("vespo-k-neg", self.vespo_k_neg, usual.vespo_k_neg, vespo),
            ("vespo-lambda-neg", self.vespo_lambda_neg, usual.vespo_lambda_neg, vespo),
        ] {
            number(field, value, value > 0.0, POSITIVE)?;
            if value != usual && loss != of {
                return refuse(field, format!("{value}: has no effect on {loss}; expected loss-type {of}"));
            }
        }
        let share = self.top_entropy_quantile;
        number("top-entropy-quantile", share, share > 0.0 && share <= 1.0, "a number above 0, at most 1")?;
        if let Some(threshold) = self.off_policy_mask_threshold {
            number("off-policy-mask-threshold", threshold, threshold > 0.0, POSITIVE)?;
        }
        if loss == GrpoLoss::Vespo && self.importance_sampling_level == ImportanceLevel::Sequence {
            let message = "sequence: vespo weighs whole answers already; expected token";
            return refuse("importance-sampling-level", message.into());
        }
        if let Some(correction) = &self.rollout_correction {
            correction.check()?;
            if loss == GrpoLoss::Vespo && !correction.importance_sampling_mode.is_by_token() {
                let message = "vespo adds up corrections by token; expected token_truncate or token_mask";
                return refuse("importance-sampling-mode", message.into());
            }
        }
        self.entropy.check()
    }

    /// Returns warnings about options that are allowed but rarely intended.
    pub fn warnings(&self) -> Vec<String> {
        use GrpoLoss as L;
        let sequence = self.importance_sampling_level == ImportanceLevel::Sequence;
        let mut said = Vec::new();
        if sequence && matches!(self.loss_type, L::Bnpo | L::DrGrpo | L::Dapo | L::Cispo) {
            said.push(format!(
                "importance-sampling-level sequence with {} weighs an answer by its length; GSPO is \
                 loss-type grpo",
                self.loss_type
            ));
        }
        if self.loss_type == L::Luspo && !sequence {
            said.push("luspo is meant for importance-sampling-level sequence".into());
        }
        if self.loss_type == L::Cispo && self.epsilon_high.unwrap_or(self.epsilon) < 1.0 {
            said.push(
                "cispo clips ratios at epsilon-high, and below 1 it clips those of every token; 5 is usual"
                    .into(),
            );
        }
        said
    }
}
