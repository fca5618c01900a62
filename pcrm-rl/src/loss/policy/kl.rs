//! Estimators of the KL divergence between policy and reference from sampled tokens (Schulman 2020).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::loss::Slope;
use crate::options::refuse;

/// The clamp of differences of log-probabilities, as in verl.
pub(super) const FAR: f64 = 20.0;

/// The largest value that k3 of a token subtracts from its reward, as in verl.
const MOST: f64 = 10.0;

/// An estimator of KL(π ‖ π_ref) at a sampled token, with d = ln π_ref − ln π.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// −d: unbiased, below 0 at some tokens.
    #[default]
    K1,
    /// d²/2: biased in value, with an unbiased gradient.
    K2,
    /// e^d − d − 1: unbiased and never below 0.
    K3,
}

/// An estimate at one token.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// True if a clamp changed it.
    pub clamped: bool,
}

impl KlEstimator {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::K1 => "k1",
            Self::K2 => "k2",
            Self::K3 => "k3",
        }
    }

    /// Refuses k2 as a reward: its values do not estimate the divergence.
    ///
    /// # Errors
    /// Fails for k2.
    pub fn check_in_reward(self) -> Result<()> {
        match self {
            Self::K1 | Self::K3 => Ok(()),
            Self::K2 => {
                let message = "k2: its gradient estimates the divergence and its value does not, and a \
                               reward uses the value; expected k1 or k3";
                refuse("kl-estimator", message.into())
            }
        }
    }

    /// Refuses k1 in a loss: its gradient is 0 in expectation.
    ///
    /// # Errors
    /// Fails for k1.
    pub fn check_in_loss(self) -> Result<()> {
        match self {
            Self::K2 | Self::K3 => Ok(()),
            Self::K1 => {
                let message = "k1: in a loss its gradient is that of ln π, whose mean over the policy's own \
                               samples is 0, so it would have no effect; expected k2, k3, or k1 in the \
                               reward";
                refuse("kl-estimator", message.into())
            }
        }
    }

    /// Returns the estimate that is subtracted from a token's reward. For k3, d is clamped to ±20 and the
    /// value to 10.
    pub fn in_reward(self, log_prob: f64, reference: f64) -> Estimate {
        let exact = self.in_loss(log_prob, reference).0.value;
        match self {
            Self::K1 | Self::K2 => Estimate { value: exact, clamped: false },
            Self::K3 => Estimate {
                value: exact.min(MOST),
                clamped: exact > MOST || (reference - log_prob).abs() > FAR,
            },
        }
    }

    /// Returns the estimate with its derivative by ln π, and true if a clamp changed them.
    ///
    /// For k3, d is clamped to ±20, and the slope beyond is that at ±20. The value itself is not clamped:
    /// that would remove the gradient of the tokens that are furthest off.
    pub(super) fn in_loss(self, log_prob: f64, reference: f64) -> (Slope, bool) {
        let apart = reference - log_prob;
        match self {
            Self::K1 => (Slope { value: -apart, slope: 1.0 }, false),
            Self::K2 => (Slope { value: 0.5 * apart * apart, slope: -apart }, false),
            Self::K3 => {
                let near = apart.clamp(-FAR, FAR);
                let grown = near.exp_m1();
                (Slope { value: grown - near, slope: -grown }, near != apart)
            }
        }
    }
}

impl fmt::Display for KlEstimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::check_slope;

    /// Protects: the derivative of every estimator, and finite, counted results for log-ratios of ±1e4.
    #[test]
    fn slopes_are_differences_and_far_tokens_stay_finite() {
        for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
            check_slope(estimator.name(), &[-4.0, -1.0, 0.0, 1.7], |x| estimator.in_loss(x, -1.0).0);
            for far in [-1e4, 1e4] {
                let (of, clamped) = estimator.in_loss(far, 0.0);
                assert!(of.value.is_finite() && of.slope.is_finite());
                assert_eq!(clamped, estimator == KlEstimator::K3);
            }
            assert_eq!(estimator.in_loss(-0.7, -0.7).0.value, 0.0);
        }
        assert_eq!(KlEstimator::K3.in_reward(-1e4, 0.0), Estimate { value: 10.0, clamped: true });
        assert_eq!(KlEstimator::K1.in_reward(-1e4, 0.0), Estimate { value: -1e4, clamped: false });
        assert!(!KlEstimator::K3.in_reward(-2.0, -1.0).clamped);
    }

    /// Protects: an estimator that would have no effect, or a wrong one, is refused with the reason.
    #[test]
    fn estimators_are_refused_where_they_are_wrong() {
        let said = |result: Result<()>| result.err().map(|error| error.to_string()).unwrap_or_default();
        let message = said(KlEstimator::K1.check_in_loss());
        assert!(message.starts_with("kl-estimator: k1: in a loss its gradient"), "{message}");
        assert!(said(KlEstimator::K2.check_in_reward()).contains("a reward uses the value"));
        assert_eq!(said(KlEstimator::K3.check_in_loss()) + &said(KlEstimator::K1.check_in_reward()), "");
    }
}
