//! Pairwise accuracy with its confidence interval.

use serde::{Deserialize, Serialize};

use crate::error::{Result, check_finite};
use crate::interval::Interval;
pub use crate::interval::LEVEL;

/// A share in \[0, 1\] with its Wilson score interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The observed share.
    pub value: f64,
    /// The confidence interval of the share.
    #[serde(flatten)]
    pub interval: Interval,
}

impl Share {
    /// Returns the share of `successes` in `trials` with [Wilson's interval](Interval::wilson) at `level`.
    ///
    /// # Errors
    /// Fails if there are no trials, if `successes` is outside \[0, trials\], or if `level` is outside (0,
    /// 1).
    pub fn wilson(successes: f64, trials: usize, level: f64) -> Result<Self> {
        let interval = Interval::wilson(successes, trials, level)?;
        Ok(Self { value: successes / trials as f64, interval })
    }

    /// Returns the lower end of the interval.
    pub fn low(&self) -> f64 {
        self.interval.low()
    }

    /// Returns the upper end of the interval.
    pub fn high(&self) -> f64 {
        self.interval.high()
    }
}

/// Returns the share of pairs whose chosen answer scores higher, with its Wilson interval at `level`
/// ([`LEVEL`]).
///
/// `margins` are score(chosen) − score(rejected). A margin of zero counts one half, so a model that gives
/// every answer the same score gets 0.5 and not 0.
///
/// # Errors
/// Fails if there are no margins, if a margin is not finite (the error has the pair's position), or if
/// `level` is outside (0, 1).
pub fn accuracy(margins: &[f64], level: f64) -> Result<Share> {
    check_finite("margin of pair", margins)?;
    let successes: f64 = margins.iter().map(|&margin| correctness(margin)).sum();
    Share::wilson(successes, margins.len(), level)
}

/// Returns 1 for a positive margin, ½ for zero, 0 for a negative one.
pub(crate) fn correctness(margin: f64) -> f64 {
    if margin > 0.0 {
        1.0
    } else if margin == 0.0 {
        0.5
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::golden::{close, golden};

    /// Protects: the interval equals scipy's `binomtest(k, n).proportion_ci(method="wilson")`.
    #[test]
    fn wilson_equals_scipy() {
        for case in golden()["wilson"].as_array().unwrap() {
            let number = |name: &str| case[name].as_f64().unwrap();
            let share = Share::wilson(number("k"), number("n") as usize, number("level")).unwrap();
            close(share.low(), number("low"), "low");
            close(share.high(), number("high"), "high");
        }
    }

    /// Protects: a tie counts one half, a win one.
    #[test]
    fn ties_count_one_half() {
        let share = accuracy(&[1.0, 0.0, -1.0, 0.0, 2.0, 3.0], LEVEL).unwrap();
        assert_eq!(share.value, 4.0 / 6.0);
        assert_eq!(accuracy(&[0.0; 5], LEVEL).unwrap().value, 0.5);
    }

    /// Protects: the interval stays inside [0, 1] and contains the share at both extremes.
    #[test]
    fn extremes_stay_in_range() {
        let all = Share::wilson(10.0, 10, LEVEL).unwrap();
        assert!(all.high() == 1.0 && all.low() > 0.7 && all.low() < 0.73, "{all:?}");
        let none = Share::wilson(0.0, 10, LEVEL).unwrap();
        assert!(none.low() == 0.0 && none.high() > 0.27 && none.high() < 0.3, "{none:?}");
    }

    /// Protects: invalid inputs are refused and the error names them.
    #[test]
    fn impossible_inputs_are_refused() {
        assert_eq!(accuracy(&[], LEVEL).unwrap_err(), Error::Empty { what: "margin of pair" });
        assert!(accuracy(&[1.0, f64::NAN], LEVEL).unwrap_err().to_string().starts_with("margin of pair 1"));
        assert!(Share::wilson(0.0, 0, LEVEL).is_err());
        assert!(Share::wilson(4.0, 3, LEVEL).unwrap_err().to_string().starts_with("successes: found 4"));
        assert!(
            Share::wilson(1.0, 3, 1.0).unwrap_err().to_string().starts_with("level of confidence: found 1")
        );
    }
}
