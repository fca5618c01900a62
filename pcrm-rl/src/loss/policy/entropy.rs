//! Entropy: the quantile for choosing tokens, and the coefficient of the bonus.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::options::{number, refuse};

/// The coefficient of the entropy bonus: fixed, or adapted to a target (Skywork-OR1, arXiv 2505.22312).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EntropyControl {
    /// Coefficient; the initial one with `use_adaptive_entropy`.
    pub entropy_coef: f64,
    /// Raises the coefficient after steps with an entropy at or below the target, and lowers it after others.
    pub use_adaptive_entropy: bool,
    /// The lowest coefficient.
    pub entropy_coef_min: f64,
    /// The highest coefficient.
    pub entropy_coef_max: f64,
    /// Change of the coefficient per step.
    pub entropy_coef_delta: f64,
    /// Target of the mean entropy of a token, in nats.
    pub entropy_target: f64,
}

impl Default for EntropyControl {
    fn default() -> Self {
        Self {
            entropy_coef: 0.0,
            use_adaptive_entropy: false,
            entropy_coef_min: 0.0,
            entropy_coef_max: 1.0,
            entropy_coef_delta: 0.005,
            entropy_target: 0.2,
        }
    }
}

/// The state of the coefficient, stored in checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EntropyCoefficient {
    /// The coefficient.
    pub value: f64,
    /// The mean entropy of the tokens of the last step; `None` before the first.
    pub last: Option<f64>,
}

impl EntropyControl {
    /// Refuses numbers out of range.
    ///
    /// # Errors
    /// Fails if a coefficient is negative or outside its range, if another option is not positive, or if an
    /// option of adaptation has no effect.
    pub fn check(&self) -> Result<()> {
        let coefficients = [
            ("entropy-coef", self.entropy_coef),
            ("entropy-coef-min", self.entropy_coef_min),
            ("entropy-coef-max", self.entropy_coef_max),
        ];
        for (field, coefficient) in coefficients {
            number(field, coefficient, coefficient >= 0.0, "a number from 0 up")?;
        }
        if !self.use_adaptive_entropy {
            let usual = Self::default();
            for (field, value, usual) in [
                ("entropy-target", self.entropy_target, usual.entropy_target),
                ("entropy-coef-delta", self.entropy_coef_delta, usual.entropy_coef_delta),
                ("entropy-coef-min", self.entropy_coef_min, usual.entropy_coef_min),
                ("entropy-coef-max", self.entropy_coef_max, usual.entropy_coef_max),
            ] {
                if value != usual {
                    refuse(field, format!("{value}: has no effect without use-adaptive-entropy"))?;
                }
            }
            return Ok(());
        }
        let (low, high) = (self.entropy_coef_min, self.entropy_coef_max);
        if !(low..=high).contains(&self.entropy_coef) {
            let message = format!("{}: expected a number from {low} to {high}", self.entropy_coef);
            return refuse("entropy-coef", message);
        }
        number(
            "entropy-coef-delta",
            self.entropy_coef_delta,
            self.entropy_coef_delta > 0.0,
            "a positive number",
        )?;
        number("entropy-target", self.entropy_target, self.entropy_target > 0.0, "a positive number")
    }

    /// Returns true if the loss may have a bonus and therefore needs entropies.
    pub fn is_used(&self) -> bool {
        self.use_adaptive_entropy || self.entropy_coef != 0.0
    }

    /// Returns the state before the first step.
    pub fn start(&self) -> EntropyCoefficient {
        EntropyCoefficient { value: self.entropy_coef, last: None }
    }

    /// Returns the coefficient of a step. An adaptive one is applied only if the entropy of the previous step
    /// was at or below the target.
    pub fn applied(&self, state: EntropyCoefficient) -> f64 {
        let low = state.last.is_some_and(|last| last <= self.entropy_target);
        if self.use_adaptive_entropy && !low { 0.0 } else { state.value }
    }

    /// Returns the state after a step with this mean entropy of its tokens.
    pub fn next(&self, state: EntropyCoefficient, entropy: f64) -> EntropyCoefficient {
        let value = match (self.use_adaptive_entropy, entropy <= self.entropy_target) {
            (false, _) => state.value,
            (true, true) => (state.value + self.entropy_coef_delta).min(self.entropy_coef_max),
            (true, false) => (state.value - self.entropy_coef_delta).max(self.entropy_coef_min),
        };
        EntropyCoefficient { value, last: Some(entropy) }
    }
}

/// Returns a quantile of these numbers with linear interpolation; `None` if there are none.
pub(super) fn quantile(mut numbers: Vec<f64>, share: f64) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let place = share * numbers.len().checked_sub(1)? as f64;
    let (below, above) = (numbers[place.floor() as usize], numbers[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: quantiles between and at numbers, of one number and of none.
    #[test]
    fn quantiles_are_linear() {
        let numbers = || vec![4.0, 1.0, 2.0];
        let found = [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| quantile(numbers(), share));
        assert_eq!(found, [Some(1.0), Some(1.5), Some(2.0), Some(3.0), Some(4.0)]);
        assert_eq!((quantile(vec![7.0], 0.3), quantile(Vec::new(), 0.3)), (Some(7.0), None));
    }

    /// Protects: the adaptive coefficient starts without effect, follows the target in fixed steps and stays
    /// within its bounds.
    #[test]
    fn the_coefficient_follows_the_entropy() {
        let control = EntropyControl {
            use_adaptive_entropy: true,
            entropy_coef: 0.01,
            entropy_coef_max: 0.012,
            ..EntropyControl::default()
        };
        assert!(control.check().is_ok() && control.is_used());
        let first = control.start();
        assert_eq!(control.applied(first), 0.0);
        let raised = control.next(first, 0.1);
        assert_eq!((control.applied(raised), raised.value), (0.012, 0.012));
        let lowered = control.next(raised, 3.0);
        assert_eq!((control.applied(lowered), (lowered.value - 0.007).abs() < 1e-12), (0.0, true));
        assert_eq!(control.next(control.next(lowered, 3.0), 3.0).value, 0.0);
        let fixed = EntropyControl { entropy_coef: 0.01, ..EntropyControl::default() };
        assert_eq!(fixed.applied(fixed.next(fixed.start(), 0.1)), 0.01);
        let idle = EntropyControl { entropy_target: 0.5, ..fixed };
        let message = idle.check().err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(message, "entropy-target: 0.5: has no effect without use-adaptive-entropy");
        let faulty = EntropyControl { entropy_coef: 2.0, ..control };
        let message = faulty.check().err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(message, "entropy-coef: 2: expected a number from 0 to 0.012");
    }
}
