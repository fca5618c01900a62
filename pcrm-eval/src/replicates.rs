//! The same measurement made several times: over seeds, folds, worlds.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::accuracy::LEVEL;
use crate::error::{Error, Result, check_finite, check_lengths};

/// A mean over replicates and its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// The interval's ends, x̄ ± t·s/√n with Student's t of n − 1 degrees of freedom; none of a single replicate.
    pub interval: Option<(f64, f64)>,
    /// How often such an interval holds the mean of ever more replicates, if these are normally distributed.
    pub level: f64,
    /// n.
    pub replicates: usize,
}

impl Mean {
    /// The mean of these replicates, with an interval of [`LEVEL`].
    ///
    /// # Errors
    /// No value, and values that are not finite.
    pub fn of(values: &[f64]) -> Result<Self> {
        check_finite("replicate", values)?;
        let n = values.len() as f64;
        let value = values.iter().sum::<f64>() / n;
        let interval = if values.len() > 1 {
            let variance = values.iter().map(|x| (x - value).powi(2)).sum::<f64>() / (n - 1.0);
            let half = t_quantile(n - 1.0)? * (variance / n).sqrt();
            Some((value - half, value + half))
        } else {
            None
        };
        Ok(Self { value, interval, level: LEVEL, replicates: values.len() })
    }

    /// The mean of second − first, replicate by replicate: what two treatments of the same seeds differ by, without
    /// what the seeds differ by.
    ///
    /// # Errors
    /// Different numbers of replicates, none, and values that are not finite.
    pub fn of_differences(first: &[f64], second: &[f64]) -> Result<Self> {
        check_lengths("replicates", first.len(), second.len())?;
        Self::of(&first.iter().zip(second).map(|(first, second)| second - first).collect::<Vec<_>>())
    }

    /// Whether the interval leaves out 0; not of a single replicate.
    pub fn excludes_zero(&self) -> bool {
        self.interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0)
    }
}

/// The quantile that [`LEVEL`] needs on either side.
fn t_quantile(freedom: f64) -> Result<f64> {
    let t = StudentsT::new(0.0, 1.0, freedom).map_err(|_| Error::Range {
        what: "degrees of freedom".to_owned(),
        value: freedom,
        expected: "a positive number",
    })?;
    Ok(t.inverse_cdf(0.5 + LEVEL / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: means and intervals are those of scipy.stats.t.interval(0.95, n − 1, mean, sem).
    #[test]
    fn intervals_are_those_of_scipy() {
        let first = [0.61, 0.58, 0.64, 0.6, 0.59];
        let second = [0.62, 0.61, 0.65, 0.6, 0.63];
        for (mean, value, low, high) in [
            (Mean::of(&first).unwrap(), SCIPY[0][0], SCIPY[0][1], SCIPY[0][2]),
            (Mean::of_differences(&first, &second).unwrap(), SCIPY[1][0], SCIPY[1][1], SCIPY[1][2]),
            (Mean::of(&first[..2]).unwrap(), SCIPY[2][0], SCIPY[2][1], SCIPY[2][2]),
        ] {
            let (found_low, found_high) = mean.interval.unwrap();
            for (found, expected) in [(mean.value, value), (found_low, low), (found_high, high)] {
                assert!((found - expected).abs() < 1e-9, "{found} {expected}");
            }
        }
        assert!(!Mean::of_differences(&first, &second).unwrap().excludes_zero());
        assert!(Mean::of(&first).unwrap().excludes_zero());
    }

    const SCIPY: [[f64; 3]; 3] = [
        [0.60400000000000, 0.57541474809013, 0.63258525190987],
        [0.01800000000000, -0.00240262141975, 0.03840262141975],
        [0.59500000000000, 0.40440692895738, 0.78559307104262],
    ];

    /// Protects: one replicate has no interval, and so says nothing of 0; wrong input is named.
    #[test]
    fn few_and_bad_replicates() {
        let one = Mean::of(&[0.3]).unwrap();
        assert_eq!((one.value, one.interval, one.excludes_zero()), (0.3, None, false));
        assert!(Mean::of(&[]).is_err());
        assert!(Mean::of(&[1.0, f64::NAN]).unwrap_err().to_string().contains("replicate 1"));
        assert!(Mean::of_differences(&[1.0], &[1.0, 2.0]).is_err());
    }
}
