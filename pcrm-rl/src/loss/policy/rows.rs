//! The inputs of a policy loss: numbers of sampled answers, and the counts of the step that it divides by.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::options::refuse;

/// The advantage of an answer, or of each of its tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Advantage<'a> {
    /// One value for all tokens.
    OfRow(f64),
    /// One value per token.
    OfTokens(&'a [f64]),
}

impl Default for Advantage<'_> {
    fn default() -> Self {
        Self::OfRow(0.0)
    }
}

impl Advantage<'_> {
    pub(super) fn at(&self, token: usize) -> f64 {
        match self {
            Self::OfRow(advantage) => *advantage,
            Self::OfTokens(advantages) => advantages[token],
        }
    }
}

/// A sampled answer: numbers of the tokens that the policy chose, including the end of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AnswerRow<'a> {
    /// ln π of the tokens; the gradient is with respect to it.
    pub log_probs: &'a [f64],
    /// ln π at the time of sampling; `None` if the policy has not moved since, so that every ratio is 1.
    pub old_log_probs: Option<&'a [f64]>,
    /// ln π_ref of the tokens.
    pub reference: Option<&'a [f64]>,
    /// The entropies of the distributions that the tokens were drawn from.
    pub entropy: Option<&'a [f64]>,
    /// ln π from another engine while it sampled, NaN for tokens that it did not score; `None` for the
    /// trainer's own samples.
    pub sampling: Option<&'a [f64]>,
    /// Advantage of the answer, or of each token.
    pub advantage: Advantage<'a>,
    /// True if sampling was cut off before the answer ended.
    pub truncated: bool,
    /// True for an answer without a score, which is masked regardless of the options.
    pub unscored: bool,
}

impl AnswerRow<'_> {
    /// Returns ln π at the time of sampling.
    pub(super) fn old(&self) -> &[f64] {
        self.old_log_probs.unwrap_or(self.log_probs)
    }
}

/// Counts over all answers of a step. A part of the step is divided by them, so that parts sum to the step.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Number of answers, including masked ones.
    pub rows: f64,
    /// Number of tokens of unmasked answers.
    pub tokens: f64,
    /// Number of these tokens with entropy in the upper share; all without `top_entropy_quantile`.
    pub active: f64,
    /// Number of tokens that `dapo`, `cispo` and `vespo` divide by: the whole rollout's, divided by its
    /// number of steps.
    pub generated: f64,
    /// Lowest entropy of the upper share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

impl Totals {
    /// Returns these counts for a step that is one of `steps` steps of a rollout with `tokens` unmasked
    /// tokens.
    pub fn of_rollout(self, tokens: f64, steps: f64) -> Self {
        Self { generated: tokens / steps, ..self }
    }
}

/// The columns that a loss needs besides log-probabilities and advantages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs {
    pub reference: bool,
    pub entropy: bool,
}

/// Refuses rows whose columns differ in length from their log-probabilities, lack a column that the loss
/// needs, or have numbers that are not finite; the error names the row and the token.
pub(super) fn check(rows: &[AnswerRow<'_>], needs: Needs) -> Result<()> {
    for (at, row) in rows.iter().enumerate() {
        let advantages = match &row.advantage {
            Advantage::OfRow(advantage) => std::slice::from_ref(advantage),
            Advantage::OfTokens(advantages) => advantages,
        };
        if let Advantage::OfTokens(advantages) = row.advantage {
            same_length("advantage", at, advantages, row.log_probs)?;
        }
        let columns = [
            ("log_probs", Some(row.log_probs), false),
            ("old_log_probs", row.old_log_probs, false),
            ("reference", row.reference, needs.reference),
            ("entropy", row.entropy, needs.entropy),
            ("sampling", row.sampling, false),
        ];
        for (name, numbers, needed) in columns {
            match numbers {
                Some(numbers) => same_length(name, at, numbers, row.log_probs)?,
                None if needed => refuse(name, format!("answer {at} has none, and the loss reads them"))?,
                None => {}
            }
        }
        let columns = columns.map(|(name, numbers, _)| (name, numbers.unwrap_or_default()));
        for (name, numbers) in columns.into_iter().chain([("advantage", advantages)]) {
            // An engine may leave single tokens unscored; these have no correction.
            let fits = |number: &f64| number.is_finite() || (name == "sampling" && number.is_nan());
            if let Some(token) = numbers.iter().position(|number| !fits(number)) {
                let message =
                    format!("answer {at}, token {token}: {}; expected a finite number", numbers[token]);
                refuse(name, message)?;
            }
        }
    }
    Ok(())
}

fn same_length(name: &'static str, row: usize, numbers: &[f64], log_probs: &[f64]) -> Result<()> {
    match numbers.len() == log_probs.len() {
        true => Ok(()),
        false => {
            let message = format!("answer {row} has {}; expected {}", numbers.len(), log_probs.len());
            refuse(name, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: errors name an invalid number, a missing column and a column of the wrong length.
    #[test]
    fn faulty_rows_are_named() {
        let usual = AnswerRow { log_probs: &[-1.0, -2.0], ..AnswerRow::default() };
        let said = |row, needs| check(&[usual, row], needs).err().map(|e| e.to_string()).unwrap_or_default();
        let none = Needs::default();
        let nan = AnswerRow { log_probs: &[-1.0, f64::NAN], ..usual };
        assert_eq!(said(nan, none), "log_probs: answer 1, token 1: NaN; expected a finite number");
        let short = AnswerRow { reference: Some(&[-1.0]), ..usual };
        assert_eq!(said(short, none), "reference: answer 1 has 1; expected 2");
        let needs = Needs { reference: true, ..none };
        assert_eq!(said(usual, needs), "reference: answer 0 has none, and the loss reads them");
        let endless = AnswerRow { advantage: Advantage::OfRow(f64::INFINITY), ..usual };
        assert!(said(endless, none).starts_with("advantage: answer 1, token 0: inf"));
        let unscored = AnswerRow { sampling: Some(&[f64::NAN, -2.0]), ..usual };
        assert_eq!(said(unscored, none) + &said(usual, none), "");
    }
}
