//! The coefficient of the KL penalty: fixed, or adapted to a target (Ziegler et al. 2019; InstructGPT; verl).

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::options::{number, refuse};

/// The largest relative change of the coefficient per horizon.
const MOST: f64 = 0.2;

/// The options of the coefficient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct KlControl {
    /// Coefficient, constant without a target, else the initial one.
    pub kl_coef: f64,
    /// Target of the KL divergence, summed over an answer's tokens; `None` keeps the coefficient fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_target: Option<f64>,
    /// Number of answers over which the coefficient adapts.
    pub kl_horizon: f64,
}

impl Default for KlControl {
    fn default() -> Self {
        Self { kl_coef: 0.05, kl_target: None, kl_horizon: 10_000.0 }
    }
}

/// The current coefficient, stored in checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KlCoefficient {
    /// The coefficient.
    pub value: f64,
}

impl KlControl {
    /// Refuses numbers out of range.
    ///
    /// # Errors
    /// Fails if a number is out of range, if a coefficient of 0 has a target, or if there is a horizon without
    /// a target.
    pub fn check(&self) -> Result<()> {
        number("kl-coef", self.kl_coef, self.kl_coef >= 0.0, "a number from 0 up")?;
        if let Some(target) = self.kl_target {
            number("kl-target", target, target > 0.0, "a positive number")?;
            let moves = "a positive number: a coefficient of 0 cannot be steered";
            number("kl-coef", self.kl_coef, self.kl_coef > 0.0, moves)?;
        }
        if self.kl_target.is_none() && self.kl_horizon != Self::default().kl_horizon {
            refuse("kl-horizon", format!("{}: has no effect without kl-target", self.kl_horizon))?;
        }
        number("kl-horizon", self.kl_horizon, self.kl_horizon > 0.0, "a positive number")
    }

    /// Returns the initial coefficient.
    pub fn start(&self) -> KlCoefficient {
        KlCoefficient { value: self.kl_coef }
    }

    /// Returns the coefficient after a batch of `answers` with mean KL divergence `kl`: value·(1 +
    /// e·n/horizon), with e = kl/target − 1 clamped to ±0.2. A batch larger than the horizon counts as the
    /// horizon.
    pub fn next(&self, now: KlCoefficient, kl: f64, answers: usize) -> KlCoefficient {
        let Some(target) = self.kl_target else { return now };
        let error = (kl / target - 1.0).clamp(-MOST, MOST);
        KlCoefficient { value: now.value * (1.0 + error * (answers as f64 / self.kl_horizon).min(1.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the formula of the controller, its bounds, a fixed coefficient, and serialisation of its
    /// state.
    #[test]
    fn the_coefficient_follows_its_target() -> Result<()> {
        let control = KlControl { kl_coef: 0.1, kl_target: Some(6.0), kl_horizon: 1000.0 };
        control.check()?;
        let next = |kl, answers| control.next(control.start(), kl, answers).value;
        assert!((next(6.6, 100) - 0.1 * (1.0 + 0.1 * 0.1)).abs() < 1e-15);
        assert!((next(60.0, 100) - 0.1 * 1.02).abs() < 1e-15);
        assert!((next(-1.0, 100) - 0.1 * 0.98).abs() < 1e-15);
        assert!((next(0.0, 1_000_000) - 0.08).abs() < 1e-15);
        let fixed = KlControl::default();
        assert_eq!(fixed.next(fixed.start(), 99.0, 100), fixed.start());
        let state: KlCoefficient =
            serde_json::from_str(&serde_json::json!(control.start()).to_string()).unwrap();
        assert_eq!(state, control.start());
        let dead = KlControl { kl_coef: 0.0, ..control };
        let aimless = KlControl { kl_target: None, ..control };
        let message = aimless.check().err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(message, "kl-horizon: 1000: has no effect without kl-target");
        assert!(dead.check().is_err() && KlControl { kl_coef: 0.0, ..fixed }.check().is_ok());
        Ok(())
    }
}
