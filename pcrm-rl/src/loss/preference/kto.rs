//! KTO: losses of single desirable or undesirable answers (arXiv 2402.01306), and the unpaired form of
//! APO-zero.

use serde::{Deserialize, Serialize};

use crate::loss::{Slope, sigmoid};

/// A loss of single answers, with TRL's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KtoLoss {
    /// KTO: gains and losses relative to the KL divergence from the reference.
    #[default]
    Kto,
    /// APO-zero: gains and losses relative to 0 (arXiv 2408.06266).
    ApoZeroUnpaired,
}

impl std::fmt::Display for KtoLoss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kto => "kto",
            Self::ApoZeroUnpaired => "apo_zero_unpaired",
        })
    }
}

/// The loss of labelled answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct KtoConfig {
    /// The loss.
    pub kto_loss: KtoLoss,
    /// β, the strength of the reference.
    pub beta: f64,
    /// The weight of desirable answers.
    pub desirable_weight: f64,
    /// The weight of the others.
    pub undesirable_weight: f64,
}

impl Default for KtoConfig {
    fn default() -> Self {
        Self { kto_loss: KtoLoss::Kto, beta: 0.1, desirable_weight: 1.0, undesirable_weight: 1.0 }
    }
}

impl KtoConfig {
    /// Returns the loss of an answer by its log-ratio lr, with the derivative, at the reference point z.
    ///
    /// Desirable: w·(1 − σ(β(lr − z))); undesirable: w·(1 − σ(β(z − lr))). `apo_zero_unpaired` has z = 0.
    pub fn answer(&self, log_ratio: f64, desirable: bool, kl: f64) -> Slope {
        let zero = match self.kto_loss {
            KtoLoss::Kto => kl,
            KtoLoss::ApoZeroUnpaired => 0.0,
        };
        let (sign, weight) =
            if desirable { (1.0, self.desirable_weight) } else { (-1.0, self.undesirable_weight) };
        let gain = sign * self.beta * (log_ratio - zero);
        Slope {
            value: weight * sigmoid(-gain),
            slope: -weight * sign * self.beta * sigmoid(gain) * sigmoid(-gain),
        }
    }

    /// Returns the reference point z: the mean log-ratio of answers to other prompts, or 0 if that is
    /// negative, as in TRL.
    pub fn reference_point(&self, mismatched: &[f64]) -> f64 {
        (mismatched.iter().sum::<f64>() / mismatched.len().max(1) as f64).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::check_slope;

    /// Protects: the derivative of both losses on both sides.
    #[test]
    fn slopes_are_differences() {
        for kto_loss in [KtoLoss::Kto, KtoLoss::ApoZeroUnpaired] {
            let config = KtoConfig {
                kto_loss,
                desirable_weight: 1.3,
                undesirable_weight: 0.7,
                ..KtoConfig::default()
            };
            for desirable in [true, false] {
                check_slope("kto", &[-40.0, -1.0, 0.0, 2.0, 60.0], |x| config.answer(x, desirable, 0.8));
            }
        }
        assert_eq!(KtoConfig::default().reference_point(&[-3.0, 1.0]), 0.0);
        assert_eq!(KtoConfig::default().reference_point(&[3.0, 1.0]), 2.0);
    }
}
