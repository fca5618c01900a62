//! A penalty for repeated n-grams.

use std::collections::HashSet;
use std::hash::Hash;

use serde::Deserialize;

use super::{Answer, Rule, Unit, plugin};

/// (1 − distinct n-grams / n-grams)·penalty, 0 for answers of fewer than n tokens (arXiv 2502.03373, appendix
/// C.2; TRL's `get_repetition_penalty_reward`).
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Repetition {
    /// Length of the n-grams.
    ngram: usize,
    /// Reward that an answer of a single repeated n-gram approaches.
    penalty: f64,
    unit: Unit,
}

impl Default for Repetition {
    fn default() -> Self {
        Self { ngram: 3, penalty: -1.0, unit: Unit::Tokens }
    }
}

plugin!(Repetition, "minus the share of n-grams (ngram 3) that repeat an earlier one, times penalty");

impl Rule for Repetition {
    const NAME: &'static str = "repetition";

    fn check(&mut self) -> Result<(), String> {
        match (self.ngram, self.penalty) {
            (0, _) => Err("ngram is 0; expected 1 or more".to_owned()),
            (_, penalty) if !penalty.is_finite() || penalty > 0.0 => {
                Err(format!("penalty is {penalty}; expected 0 or less"))
            }
            _ => Ok(()),
        }
    }

    fn reward(&self, answer: &Answer<'_>) -> Result<Option<f64>, String> {
        let text = answer.completion();
        let share = match self.unit {
            Unit::Tokens => self.repeated(answer.completion_ids),
            Unit::Words => self.repeated(&text.split_whitespace().collect::<Vec<_>>()),
            Unit::Characters => self.repeated(&text.chars().collect::<Vec<_>>()),
        };
        Ok(Some(if share == 0.0 { 0.0 } else { share * self.penalty }))
    }
}

impl Repetition {
    /// Returns the share of n-grams that repeat an earlier one.
    fn repeated<T: Eq + Hash>(&self, items: &[T]) -> f64 {
        let all = items.windows(self.ngram);
        let count = all.len();
        if count == 0 {
            return 0.0;
        }
        let distinct: HashSet<&[T]> = all.collect();
        1.0 - distinct.len() as f64 / count as f64
    }
}
