//! The score of an answer under an f-divergence between policy and reference (f-DPO, arXiv 2309.16240).

use std::fmt;
use std::str::FromStr;

use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::loss::{Slope, ln_sigmoid, sigmoid};

/// The clamp of exponents, as in TRL's `alpha_divergence`: f32 overflows beyond it.
const LARGEST_EXPONENT: f64 = 80.0;

/// The divergence that keeps the policy near its reference. Its score is f'(π / π_ref).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Divergence {
    /// KL(π ‖ π_ref); the score is ln(π / π_ref): DPO.
    #[default]
    ReverseKl,
    /// KL(π_ref ‖ π); the score is 1 − π_ref / π.
    ForwardKl,
    /// Jensen–Shannon; the score is ln 2 + ln σ(ln(π / π_ref)).
    JsDivergence,
    /// α-divergence; the score is ((π / π_ref)^(α−1) − 1) / (α − 1).
    AlphaDivergence,
}

const NAMES: [(Divergence, &str); 4] = [
    (Divergence::ReverseKl, "reverse_kl"),
    (Divergence::ForwardKl, "forward_kl"),
    (Divergence::JsDivergence, "js_divergence"),
    (Divergence::AlphaDivergence, "alpha_divergence"),
];

impl Divergence {
    /// Returns the score of a log-ratio ln(π / π_ref), with its derivative by the log-ratio.
    ///
    /// An exponent beyond 80 is clamped, with a derivative of 0.
    pub fn score(self, log_ratio: f64, alpha: f64) -> Slope {
        let held = |exponent: f64, by: f64| match exponent > LARGEST_EXPONENT {
            true => Slope { value: LARGEST_EXPONENT.exp(), slope: 0.0 },
            false => Slope { value: exponent.exp(), slope: by * exponent.exp() },
        };
        match self {
            Self::ReverseKl => Slope { value: log_ratio, slope: 1.0 },
            Self::ForwardKl => {
                let inverse = held(-log_ratio, -1.0);
                Slope { value: 1.0 - inverse.value, slope: -inverse.slope }
            }
            Self::JsDivergence => {
                Slope { value: std::f64::consts::LN_2 + ln_sigmoid(log_ratio), slope: sigmoid(-log_ratio) }
            }
            // The limit, as in TRL.
            Self::AlphaDivergence if (alpha - 1.0).abs() < 1e-6 => Slope { value: log_ratio, slope: 1.0 },
            Self::AlphaDivergence => {
                let power = held((alpha - 1.0) * log_ratio, alpha - 1.0);
                Slope { value: (power.value - 1.0) / (alpha - 1.0), slope: power.slope / (alpha - 1.0) }
            }
        }
    }
}

impl FromStr for Divergence {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        NAMES.iter().find(|(_, name)| *name == text).map(|(of, _)| *of).ok_or_else(|| {
            let known = NAMES.map(|(_, name)| name).join(", ");
            Error::invalid("f-divergence-type", format!("{text:?} is unknown; expected one of {known}"))
        })
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(of, _)| of == self).map_or("", |(_, name)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::check_slope;

    /// Protects: every score's derivative, and finite numbers far from the reference.
    #[test]
    fn slopes_are_differences() {
        for (divergence, name) in NAMES {
            for alpha in [0.5, 1.0, 1.5] {
                check_slope(name, &[-3.0, -0.2, 0.0, 0.7, 4.0], |x| divergence.score(x, alpha));
                for far in [-1e4, 1e4] {
                    let score = divergence.score(far, alpha);
                    assert!(score.value.is_finite() && score.slope.is_finite(), "{name} at {far}: {score:?}");
                }
            }
        }
    }
}
