//! Confidence intervals that record how they were computed.
//!
//! An [`Interval`] cannot be built from two numbers: it is computed from draws, from replicates, or from
//! counts by a formula, and records the method and the sample size. Too little data gives `None`.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::error::{Error, Result, check_finite};
use crate::quantiles::quantiles;

/// The usual confidence level: 95 %.
pub const LEVEL: f64 = 0.95;

/// The fewest replicates that get an interval. With two, Student's t needs 12.7 standard errors on either
/// side.
pub const FEWEST_REPLICATES: usize = 3;

/// A method of computing an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Quantiles of bootstrap draws; `n` counts the draws.
    Bootstrap,
    /// Wilson's score interval of a share; `n` counts the trials.
    Wilson,
    /// Student's t around a mean; `n` counts the values.
    StudentT,
}

/// A confidence interval with its level, method and sample size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    low: f64,
    high: f64,
    level: f64,
    method: Method,
    n: usize,
}

impl Interval {
    /// Returns the lower end.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// Returns the upper end.
    pub fn high(&self) -> f64 {
        self.high
    }

    /// Returns the confidence level, such as 0.95.
    pub fn level(&self) -> f64 {
        self.level
    }

    /// Returns the method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Returns the number of draws, trials or values behind the interval.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Returns true if `value` is in the interval, ends included.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Clips the interval to \[`low`, `high`\], the range of the quantity.
    #[must_use]
    pub fn within(self, low: f64, high: f64) -> Self {
        Self { low: self.low.clamp(low, high), high: self.high.clamp(low, high), ..self }
    }

    /// Returns the percentile interval of bootstrap draws; `None` with fewer draws than [`fewest_draws`], or
    /// if all draws are equal: they show nothing of the statistic's variation.
    ///
    /// # Errors
    /// Fails if `level` is outside (0, 1) or a draw is not finite.
    pub fn of_draws(draws: &[f64], level: f64) -> Result<Option<Self>> {
        check_level(level)?;
        if draws.len() < fewest_draws(level) {
            return Ok(None);
        }
        let tail = (1.0 - level) / 2.0;
        let ends = quantiles(draws, &[0.0, tail, 1.0 - tail, 1.0])?;
        let [least, low, high, most] = ends[..] else { return Ok(None) };
        // Equal sums in a different order can differ by rounding.
        let rounding = 1e-12 * least.abs().max(most.abs()).max(1.0);
        Ok((most - least > rounding).then_some(Self {
            low,
            high,
            level,
            method: Method::Bootstrap,
            n: draws.len(),
        }))
    }

    /// Returns Wilson's score interval (E. B. Wilson, JASA 1927) of `successes` out of `trials`: (p + z²/2n ±
    /// z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), z the normal quantile of (1 + level)/2.
    ///
    /// Successes may be fractional, to count ties; the interval is then slightly too wide.
    ///
    /// # Errors
    /// Fails if there are no trials, if `successes` is outside \[0, trials\], or if `level` is outside (0,
    /// 1).
    pub fn wilson(successes: f64, trials: usize, level: f64) -> Result<Self> {
        if trials == 0 {
            return Err(Error::Empty { what: "trials" });
        }
        let n = trials as f64;
        if !(0.0..=n).contains(&successes) {
            return Err(Error::Range {
                what: "successes".to_owned(),
                value: successes,
                expected: "a number from 0 to the number of trials",
            });
        }
        check_level(level)?;
        let value = successes / n;
        let z = Normal::standard().inverse_cdf(f64::midpoint(1.0, level));
        let centre = value + z * z / (2.0 * n);
        let half = z * (value * (1.0 - value) / n + z * z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + z * z / n;
        // At the extremes the formula gives exactly 0 or 1, but rounding would be off by 1e-17.
        let low = if successes == 0.0 { 0.0 } else { ((centre - half) / scale).max(0.0) };
        let high = if successes == n { 1.0 } else { ((centre + half) / scale).min(1.0) };
        Ok(Self { low, high, level, method: Method::Wilson, n: trials })
    }

    /// Returns the interval x̄ ± t·s/√n of the mean of normally distributed values, with Student's t of n − 1
    /// degrees of freedom; `None` with fewer than [`FEWEST_REPLICATES`] values or if all are equal.
    ///
    /// # Errors
    /// Fails if there are no values, if a value is not finite, or if `level` is outside (0, 1).
    pub fn student_t(values: &[f64], level: f64) -> Result<Option<Self>> {
        check_finite("value", values)?;
        check_level(level)?;
        if values.len() < FEWEST_REPLICATES || values.iter().all(|value| *value == values[0]) {
            return Ok(None);
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let t = StudentsT::new(0.0, 1.0, n - 1.0).map_err(|_| Error::Range {
            what: "degrees of freedom".to_owned(),
            value: n - 1.0,
            expected: "a positive number",
        })?;
        let half = t.inverse_cdf(f64::midpoint(1.0, level)) * (variance / n).sqrt();
        Ok(Some(Self {
            low: mean - half,
            high: mean + half,
            level,
            method: Method::StudentT,
            n: values.len(),
        }))
    }
}

/// Returns the fewest draws whose extremes span a percentile interval of this level: 2/(1 − level) − 1, which
/// is 39 at 95 %.
pub fn fewest_draws(level: f64) -> usize {
    // 2/(1 − 0.95) is 39.999… in floating point.
    ((2.0 / (1.0 - level)).round() as usize).saturating_sub(1)
}

/// Returns the fewest independent prompts that can support an interval of this level. Under the hypothesis of
/// no effect, k differences all have the same sign with probability 2^(1 − k): at 95 %, five prompts that
/// agree can still be chance, and six cannot.
pub fn fewest_prompts(level: f64) -> usize {
    1 + (1.0 / (1.0 - level)).log2().ceil() as usize
}

fn check_level(level: f64) -> Result<()> {
    if level > 0.0 && level < 1.0 {
        return Ok(());
    }
    Err(Error::Range {
        what: "level of confidence".to_owned(),
        value: level,
        expected: "a number between 0 and 1",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: too few draws, equal draws and too few values give no interval, instead of one of width
    /// zero.
    #[test]
    fn what_was_not_drawn_has_no_interval() {
        assert_eq!([0.5, 0.9, 0.95, 0.99].map(fewest_draws), [3, 19, 39, 199]);
        assert_eq!([0.5, 0.9, 0.95, 0.99].map(fewest_prompts), [2, 5, 6, 8]);
        let draws: Vec<f64> = (0..39).map(f64::from).collect();
        for count in 0..39 {
            assert_eq!(Interval::of_draws(&draws[..count], LEVEL).unwrap(), None, "{count} draws");
        }
        let found = Interval::of_draws(&draws, LEVEL).unwrap().unwrap();
        assert_eq!((found.method(), found.n(), found.level()), (Method::Bootstrap, 39, 0.95));
        assert!(found.low() < found.high() && found.contains(19.0));
        assert_eq!(Interval::of_draws(&[0.25; 1000], LEVEL).unwrap(), None);
        let rounding: Vec<f64> = (0..1000).map(|at| 0.5 + f64::from(at % 3) * 1e-16).collect();
        assert_eq!(Interval::of_draws(&rounding, LEVEL).unwrap(), None);
        for values in [&[1.0][..], &[1.0, 2.0], &[2.0; 5]] {
            assert_eq!(Interval::student_t(values, LEVEL).unwrap(), None, "{values:?}");
        }
        assert!(Interval::student_t(&[1.0, 2.0, 4.0], LEVEL).unwrap().is_some());
    }

    /// Protects: every formula refuses levels outside (0, 1).
    #[test]
    fn impossible_levels_are_refused() {
        for level in [0.0, 1.0, -1.0, f64::NAN] {
            assert!(Interval::of_draws(&[0.0, 1.0], level).is_err(), "{level}");
            assert!(Interval::wilson(1.0, 2, level).is_err(), "{level}");
            assert!(Interval::student_t(&[0.0, 1.0, 2.0], level).is_err(), "{level}");
        }
        assert!(Interval::wilson(0.0, 0, LEVEL).is_err() && Interval::wilson(3.0, 2, LEVEL).is_err());
    }

    /// Protects: an interval is clipped to the range of the quantity.
    #[test]
    fn intervals_are_cut_to_the_possible() {
        let wide = Interval::student_t(&[0.1, 0.9, 0.5], LEVEL).unwrap().unwrap();
        assert!(wide.low() < 0.0 && wide.high() > 1.0);
        let cut = wide.within(0.0, 1.0);
        assert_eq!((cut.low(), cut.high(), cut.n()), (0.0, 1.0, 3));
    }
}
