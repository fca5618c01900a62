//! The rewards of sampled answers: a row for every answer, a column for every reward function.

use super::Moments;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::options::refuse;

/// Rewards by answer and function. `None` stands for an answer that a function did not score; a row of nothing else is an
/// answer that teaches nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rewards {
    names: Vec<String>,
    weights: Vec<f64>,
    rows: Vec<Vec<Option<f64>>>,
}

impl Rewards {
    /// Rewards of these functions, each with a weight, by answer: `rows[answer][function]`.
    ///
    /// # Errors
    /// No function, weights or rows of another length, and numbers that are not finite, by function and answer.
    pub fn new(names: Vec<String>, weights: Vec<f64>, rows: Vec<Vec<Option<f64>>>) -> Result<Self> {
        let functions = names.len();
        if functions == 0 {
            refuse("reward", "none is given; expected at least one".into())?;
        }
        if weights.len() != functions || !weights.iter().all(|weight| weight.is_finite()) {
            refuse("reward-weights", format!("{weights:?}: expected {functions} finite numbers"))?;
        }
        for (at, row) in rows.iter().enumerate() {
            if row.len() != functions {
                let message = format!("answer {at} has {} rewards; expected {functions}", row.len());
                refuse("reward", message)?;
            }
            for (name, value) in names.iter().zip(row) {
                if let Some(value) = value.filter(|value| !value.is_finite()) {
                    let message =
                        format!("{name} gave answer {at} {value}; expected a finite number or null");
                    refuse("reward", message)?;
                }
            }
        }
        Ok(Self { names, weights, rows })
    }

    /// The number of answers.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns true if there is no answer.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rewards of every answer, by function.
    pub fn rows(&self) -> &[Vec<Option<f64>>] {
        &self.rows
    }

    /// The weights of the functions.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Σ weight·reward of every answer, over the functions that scored it; `None` where none did.
    pub fn totals(&self) -> Vec<Option<f64>> {
        self.rows.iter().map(|row| weighted(row, &self.weights)).collect()
    }

    /// Records `reward`, `reward_std`, `rewards/<function>/mean` and `rewards/<function>/std`, over the answers that have
    /// them. Standard deviations are unbiased.
    pub fn record(&self, metrics: &mut Metrics) {
        for (at, name) in self.names.iter().enumerate() {
            if let Some(found) = Moments::of(self.rows.iter().filter_map(|row| row[at])) {
                metrics.mean(format!("rewards/{name}/mean"), found.mean, 1.0);
                if let Some(std) = found.std {
                    metrics.mean(format!("rewards/{name}/std"), std, 1.0);
                }
            }
        }
        if let Some(found) = Moments::of(self.totals().iter().copied().flatten()) {
            metrics.mean("reward", found.mean, 1.0);
            if let Some(std) = found.std {
                metrics.mean("reward_std", std, 1.0);
            }
        }
    }
}

/// Σ weight·reward over the rewards that are there; `None` where none is. A function without weight, which is only watched,
/// makes no answer a scored one beside others that have some.
pub(super) fn weighted(row: &[Option<f64>], weights: &[f64]) -> Option<f64> {
    let watched = weights.iter().any(|weight| *weight != 0.0);
    let counted = row.iter().zip(weights).filter(|(_, weight)| !watched || **weight != 0.0);
    let mut there = counted.filter_map(|(value, weight)| value.map(|value| weight * value));
    there.next().map(|first| first + there.sum::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: rewards that are not there change neither sums nor figures, and faulty ones are named.
    #[test]
    fn missing_rewards_are_left_out() -> Result<()> {
        assert_eq!(weighted(&[None, Some(3.0)], &[1.0, 0.0]), None);
        assert_eq!(weighted(&[Some(2.0), Some(3.0)], &[1.0, 0.0]), Some(2.0));
        assert_eq!(weighted(&[None, Some(3.0)], &[0.0, 0.0]), Some(0.0));
        let names = || vec!["length".to_owned(), "exact".to_owned()];
        let rows = vec![vec![Some(1.0), Some(2.0)], vec![None, Some(4.0)], vec![None, None]];
        let rewards = Rewards::new(names(), vec![1.0, 0.5], rows)?;
        assert_eq!(rewards.totals(), [Some(2.0), Some(2.0), None]);
        let mut metrics = Metrics::default();
        rewards.record(&mut metrics);
        let summary = metrics.summary();
        assert_eq!(summary.get("rewards/exact/mean"), Some(3.0));
        assert_eq!(summary.get("rewards/exact/std"), Some(2.0_f64.sqrt()));
        assert_eq!(
            (summary.get("rewards/length/mean"), summary.get("rewards/length/std")),
            (Some(1.0), None)
        );
        assert_eq!((summary.get("reward"), summary.get("reward_std")), (Some(2.0), Some(0.0)));
        let refused = |weights: Vec<f64>, rows| {
            Rewards::new(names(), weights, rows).err().map(|error| error.to_string()).unwrap_or_default()
        };
        let message = refused(vec![1.0, 1.0], vec![vec![Some(0.0), Some(f64::NAN)]]);
        assert_eq!(message, "reward: exact gave answer 0 NaN; expected a finite number or null");
        assert!(refused(vec![1.0], Vec::new()).starts_with("reward-weights: [1.0]"));
        assert!(refused(vec![1.0, 1.0], vec![vec![None]]).starts_with("reward: answer 0 has 1 rewards"));
        Ok(())
    }
}
