//! Means over replicates of one measurement: seeds, folds, worlds.

use serde::{Deserialize, Serialize};

use crate::error::{Result, check_finite, check_lengths};
use crate::interval::{Interval, LEVEL};
use crate::quantiles::mean;

/// A mean over replicates with its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// Mean.
    pub value: f64,
    /// Number of replicates.
    pub replicates: usize,
    /// [Student's interval](Interval::student_t); absent with fewer than three replicates or if all are
    /// equal.
    #[serde(flatten)]
    pub interval: Option<Interval>,
}

impl Mean {
    /// Computes the mean of these replicates, with an interval of [`LEVEL`].
    ///
    /// # Errors
    /// Fails if there are no values or a value is not finite.
    pub fn of(values: &[f64]) -> Result<Self> {
        check_finite("replicate", values)?;
        let interval = Interval::student_t(values, LEVEL)?;
        Ok(Self { value: mean(values), replicates: values.len(), interval })
    }

    /// Computes the mean of second − first, replicate by replicate. Both treatments share the seed of a
    /// replicate, so the effect of the seed on both cancels.
    ///
    /// # Errors
    /// Fails if the numbers of replicates differ, if there are none, or if a value is not finite.
    pub fn of_differences(first: &[f64], second: &[f64]) -> Result<Self> {
        check_lengths("replicates", first.len(), second.len())?;
        Self::of(&first.iter().zip(second).map(|(first, second)| second - first).collect::<Vec<_>>())
    }

    /// Returns true if the interval excludes 0; false without an interval.
    pub fn excludes_zero(&self) -> bool {
        self.interval.is_some_and(|interval| !interval.contains(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: means and intervals equal scipy.stats.t.interval(0.95, n − 1, mean, sem).
    #[test]
    fn intervals_are_those_of_scipy() {
        let first = [0.61, 0.58, 0.64, 0.6, 0.59];
        let second = [0.62, 0.61, 0.65, 0.6, 0.63];
        for (mean, value, low, high) in [
            (Mean::of(&first).unwrap(), SCIPY[0][0], SCIPY[0][1], SCIPY[0][2]),
            (Mean::of_differences(&first, &second).unwrap(), SCIPY[1][0], SCIPY[1][1], SCIPY[1][2]),
            (Mean::of(&first[..3]).unwrap(), SCIPY[2][0], SCIPY[2][1], SCIPY[2][2]),
        ] {
            let interval = mean.interval.unwrap();
            for (found, expected) in [(mean.value, value), (interval.low(), low), (interval.high(), high)] {
                assert!((found - expected).abs() < 1e-9, "{found} {expected}");
            }
        }
        assert!(!Mean::of_differences(&first, &second).unwrap().excludes_zero());
        assert!(Mean::of(&first).unwrap().excludes_zero());
    }

    const SCIPY: [[f64; 3]; 3] = [
        [0.60400000000000, 0.57541474809013, 0.63258525190987],
        [0.01800000000000, -0.00240262141975, 0.03840262141975],
        [0.61000000000000, 0.53547586864749, 0.68452413135251],
    ];

    /// Protects: one or two replicates have no interval and never exclude 0; errors name invalid values.
    #[test]
    fn few_and_bad_replicates() {
        let one = Mean::of(&[0.3]).unwrap();
        assert_eq!((one.value, one.interval, one.excludes_zero()), (0.3, None, false));
        let two = Mean::of(&[0.25, 0.75]).unwrap();
        assert_eq!((two.value, two.replicates, two.interval), (0.5, 2, None));
        assert!(Mean::of(&[]).is_err());
        assert!(Mean::of(&[1.0, f64::NAN]).unwrap_err().to_string().contains("replicate 1"));
        assert!(Mean::of_differences(&[1.0], &[1.0, 2.0]).is_err());
    }
}
