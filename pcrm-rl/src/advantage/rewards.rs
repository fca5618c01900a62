//! The rewards of sampled answers: one row per answer, one column per reward function.

use super::Moments;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::options::refuse;

/// Rewards by answer and function. `None` is an answer that a function did not score; a row of only `None` is
/// an answer without a training signal.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rewards {
    names: Vec<String>,
    weights: Vec<f64>,
    rows: Vec<Vec<Option<f64>>>,
    /// Rewards combined in another way than by their weighted sum.
    combined: Option<Vec<Option<f64>>>,
}

impl Rewards {
    /// Creates rewards of these functions, each with a weight, by answer: `rows[answer][function]`.
    ///
    /// # Errors
    /// Fails if there is no function, if weights or rows differ in length, or if a number is not finite; the
    /// error names function and answer.
    pub fn new(names: Vec<String>, weights: Vec<f64>, rows: Vec<Vec<Option<f64>>>) -> Result<Self> {
        let functions = names.len();
        if functions == 0 {
            refuse("reward", "expected at least one".into())?;
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
        Ok(Self { names, weights, rows, combined: None })
    }

    /// Sets the combined reward of every answer, in place of the weighted sum; `None` for an answer without
    /// one.
    ///
    /// # Errors
    /// Fails if the number of answers differs, or if a reward is not finite.
    pub fn combined(self, totals: Vec<Option<f64>>) -> Result<Self> {
        if totals.len() != self.rows.len() {
            let message = format!("{} combined rewards of {} answers", totals.len(), self.rows.len());
            refuse("reward", message)?;
        }
        let bad =
            totals.iter().enumerate().find_map(|(at, total)| Some((at, total.filter(|x| !x.is_finite())?)));
        if let Some((at, total)) = bad {
            let message = format!("the combined reward of answer {at} is {total}; expected a finite number");
            refuse("reward", message)?;
        }
        Ok(Self { combined: Some(totals), ..self })
    }

    /// Returns true if rewards are combined in another way than by their weighted sum.
    pub(super) fn is_combined(&self) -> bool {
        self.combined.is_some()
    }

    /// Returns the number of answers.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns true if there are no answers.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the rewards of every answer, by function.
    pub fn rows(&self) -> &[Vec<Option<f64>>] {
        &self.rows
    }

    /// Returns the weights of the functions.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Returns the reward of every answer: the combined one if it is set, else Σ weight·reward over the
    /// functions that scored it; `None` if none did.
    pub fn totals(&self) -> Vec<Option<f64>> {
        match &self.combined {
            Some(totals) => totals.clone(),
            None => self.rows.iter().map(|row| weighted(row, &self.weights)).collect(),
        }
    }

    /// Records `reward`, `reward_std`, `rewards/<function>/mean` and `rewards/<function>/std` over the scored
    /// answers. Standard deviations are unbiased.
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

/// Returns Σ weight·reward over the present rewards; `None` if there are none. A function with weight 0,
/// which is only monitored, does not make an answer scored if other functions have a weight.
pub(super) fn weighted(row: &[Option<f64>], weights: &[f64]) -> Option<f64> {
    let watched = weights.iter().any(|weight| *weight != 0.0);
    let counted = row.iter().zip(weights).filter(|(_, weight)| !watched || **weight != 0.0);
    let mut there = counted.filter_map(|(value, weight)| value.map(|value| weight * value));
    there.next().map(|first| first + there.sum::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: missing rewards change neither sums nor figures, and errors name invalid ones.
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
