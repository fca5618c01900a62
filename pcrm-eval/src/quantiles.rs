//! Quantiles, and a summary of a list of numbers.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, check_finite};

/// A summary of a list of numbers, in their own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QuantileSummary {
    /// Number of values.
    pub count: usize,
    /// Mean.
    pub mean: f64,
    /// Standard deviation, dividing by `count` (numpy's default).
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// The 1 % quantile.
    pub p1: f64,
    /// The 5 % quantile.
    pub p5: f64,
    /// The 25 % quantile.
    pub p25: f64,
    /// Median.
    pub p50: f64,
    /// The 75 % quantile.
    pub p75: f64,
    /// The 95 % quantile.
    pub p95: f64,
    /// The 99 % quantile.
    pub p99: f64,
    /// Largest value.
    pub max: f64,
}

impl QuantileSummary {
    /// Summarises `values`; `what` names one value in errors (`margin of pair`).
    ///
    /// # Errors
    /// Fails if there are no values or a value is not finite (the error has its position).
    pub fn of(what: &'static str, values: &[f64]) -> Result<Self> {
        check_finite(what, values)?;
        let sorted = sorted(values);
        let at = |q: f64| interpolate(&sorted, q);
        let mean = mean(values);
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        Ok(Self {
            count: values.len(),
            mean,
            std: variance.sqrt(),
            min: at(0.0),
            p1: at(0.01),
            p5: at(0.05),
            p25: at(0.25),
            p50: at(0.5),
            p75: at(0.75),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
        })
    }
}

/// Returns the quantiles of `values` at the given shares in \[0, 1\], by numpy's default method `linear`:
/// position q (n − 1) in the sorted values, interpolated between neighbours.
///
/// # Errors
/// Fails if there are no values, if a value is not finite, or if a share is outside \[0, 1\].
pub fn quantiles(values: &[f64], shares: &[f64]) -> Result<Vec<f64>> {
    check_finite("value", values)?;
    if let Some(&value) = shares.iter().find(|share| !(0.0..=1.0).contains(*share)) {
        return Err(Error::Range {
            what: "share of a quantile".to_owned(),
            value,
            expected: "a number from 0 to 1",
        });
    }
    let sorted = sorted(values);
    Ok(shares.iter().map(|&share| interpolate(&sorted, share)).collect())
}

/// Returns the arithmetic mean; NaN for an empty slice.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

fn interpolate(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = position as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
    let t = position - below as f64;
    // Interpolate from the nearer neighbour, as numpy does: exact at both ends and monotone in t.
    if t < 0.5 { low + (high - low) * t } else { high - (high - low) * (1.0 - t) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{close, golden, numbers};

    /// Protects: mean, deviation and all quantiles equal numpy's.
    #[test]
    fn the_summary_equals_numpy() {
        for case in golden()["margins"].as_array().unwrap() {
            let margins = numbers(&case["margins"]);
            let summary = QuantileSummary::of("margin of pair", &margins).unwrap();
            let expected = case["summary"].as_object().unwrap();
            let ours = serde_json::to_value(summary).unwrap();
            assert_eq!(ours.as_object().unwrap().len(), expected.len());
            for (name, value) in expected {
                close(ours[name].as_f64().unwrap(), value.as_f64().unwrap(), name);
            }
        }
    }

    /// Protects: the extreme quantiles are the smallest and largest value, and a single value is each of its
    /// quantiles.
    #[test]
    fn ends_are_exact() {
        assert_eq!(quantiles(&[3.0, 0.1, 2.0], &[0.0, 0.5, 1.0]).unwrap(), [0.1, 2.0, 3.0]);
        assert_eq!(quantiles(&[0.1], &[0.0, 0.3, 1.0]).unwrap(), [0.1; 3]);
    }

    /// Protects: invalid inputs are refused instead of summarised as NaN.
    #[test]
    fn impossible_inputs_are_refused() {
        assert_eq!(QuantileSummary::of("score", &[]).unwrap_err(), Error::Empty { what: "score" });
        let error = QuantileSummary::of("score", &[0.0, f64::INFINITY]).unwrap_err();
        assert_eq!(error.to_string(), "score 1: found inf, expected a finite number");
        let error = quantiles(&[1.0], &[1.5]).unwrap_err();
        assert_eq!(error.to_string(), "share of a quantile: found 1.5, expected a number from 0 to 1");
    }
}
