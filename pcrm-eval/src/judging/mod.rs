//! Pairwise judgements of policies: win rates, the bias of a judge by position and by length, leagues, and
//! the agreement of judges.
//!
//! A [`Match`] is two answers to one prompt, with a judge's preference for each order that it saw them in.
//! Its [`value`](Match::value) is the mean over the orders: a judge that reverses its verdict with the order
//! gives a tie, as in MT-Bench (L. Zheng et al., 2023, §3.4). Intervals come from the bootstrap over prompts.
//!
//! Reading order: this file, [`mod@win_rate`], [`position`], [`length`] with [`logistic`], [`mod@league`],
//! [`kappa`].

pub mod kappa;
pub mod league;
pub mod length;
pub mod logistic;
pub mod position;
pub mod win_rate;

use serde::{Deserialize, Serialize};

use crate::bootstrap::Clusters;
use crate::error::{Error, Result};

pub use kappa::{Agreement, agreement};
pub use league::{League, Standing, league};
pub use length::{LengthControlled, length_controlled};
pub use position::{PositionBias, position_bias};
pub use win_rate::{WinRate, win_rate};

/// Two answers to one prompt, with a judge's preference.
///
/// A preference is the probability, from 0 to 1, that the answer of policy `a` is better: 1 and 0 are
/// verdicts, ½ is a tie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Match {
    /// Number of the prompt; matches with the same prompt are drawn together.
    pub prompt: usize,
    /// Number of the first policy.
    pub a: usize,
    /// Number of the second policy.
    pub b: usize,
    /// Preference for `a` with its answer shown first; absent if this order was not judged or the reply not
    /// understood.
    pub forward: Option<f64>,
    /// Preference for `a` with its answer shown second.
    pub backward: Option<f64>,
    /// Length of the answer of `a` in characters.
    pub length_a: usize,
    /// Length of the answer of `b` in characters.
    pub length_b: usize,
}

/// The result of a match for its first policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchOutcome {
    /// The first policy's answer is better.
    Win,
    /// Neither answer is better.
    Tie,
    /// The second policy's answer is better.
    Loss,
}

impl MatchOutcome {
    /// Returns the outcome for a preference.
    pub fn of(preference: f64) -> Self {
        match preference {
            p if p > 0.5 => Self::Win,
            p if p < 0.5 => Self::Loss,
            _ => Self::Tie,
        }
    }
}

impl Match {
    /// Returns the mean preference for `a` over the known orders; `None` if neither is known.
    pub fn value(&self) -> Option<f64> {
        match (self.forward, self.backward) {
            (Some(forward), Some(backward)) => Some(f64::midpoint(forward, backward)),
            (one, other) => one.or(other),
        }
    }

    /// Returns the outcome of the mean preference.
    pub fn outcome(&self) -> Option<MatchOutcome> {
        self.value().map(MatchOutcome::of)
    }

    /// Returns the same match with the policies swapped.
    #[must_use]
    pub fn reversed(&self) -> Self {
        let turned = |preference: Option<f64>| preference.map(|p| 1.0 - p);
        Self {
            prompt: self.prompt,
            a: self.b,
            b: self.a,
            forward: turned(self.backward),
            backward: turned(self.forward),
            length_a: self.length_b,
            length_b: self.length_a,
        }
    }
}

/// Returns an error if a preference is outside \[0, 1\].
fn check(matches: &[Match]) -> Result<()> {
    for (at, one) in matches.iter().enumerate() {
        for value in [one.forward, one.backward].into_iter().flatten() {
            if !(0.0..=1.0).contains(&value) {
                let what = format!("preference of match {at}");
                return Err(Error::Range { what, value, expected: "a number from 0 to 1" });
            }
        }
    }
    Ok(())
}

/// Groups matches by their prompts.
fn clusters(matches: &[Match]) -> Clusters {
    Clusters::of(&matches.iter().map(|one| one.prompt).collect::<Vec<_>>())
}

#[cfg(test)]
mod golden {
    use serde_json::Value;

    use super::Match;

    /// Reads the expected numbers, computed by alpaca_eval, scikit-learn, statsmodels and scipy
    /// (tests/golden/judging/make.py).
    pub fn golden() -> Value {
        serde_json::from_str(include_str!("../../../tests/golden/judging/expected.json")).unwrap()
    }

    /// Parses the matches of a case: `[prompt, a, b, forward, backward, length_a, length_b]`.
    pub fn matches(value: &Value) -> Vec<Match> {
        let whole = |value: &Value| value.as_u64().unwrap() as usize;
        let of = |row: &Value| Match {
            prompt: whole(&row[0]),
            a: whole(&row[1]),
            b: whole(&row[2]),
            forward: row[3].as_f64(),
            backward: row[4].as_f64(),
            length_a: whole(&row[5]),
            length_b: whole(&row[6]),
        };
        value.as_array().unwrap().iter().map(of).collect()
    }

    /// Asserts equality within a tolerance.
    #[track_caller]
    pub fn near(ours: f64, expected: &Value, tolerance: f64, what: &str) {
        let expected = expected.as_f64().unwrap();
        assert!((ours - expected).abs() <= tolerance, "{what}: {ours} where {expected} is expected");
    }
}
