//! Similarity of two answers, and whether it predicts how clear a preference between them is.
//!
//! A bound derived from similarity can beat a single bound for all pairs only if similarity carries
//! preference strength: similar answers are close to a coin toss and dissimilar ones are clear. [`Carried`]
//! measures this on any set of pairs with known preference probabilities.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::world::Pair;
use crate::bootstrap::{Bootstrap, Clusters, Estimate};
use crate::error::{Error, Result};
use crate::quantiles::mean;

/// Dependence of the labellers' certainty on the similarity of two answers: a factor of their log-odds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// No dependence.
    Even,
    /// Answers of similar length are close to a coin toss.
    Length,
    /// Answers with the same words are close to a coin toss.
    Words,
}

impl Strength {
    /// Returns the factor of the log-odds between two answers.
    pub fn factor(self, first: &str, second: &str) -> f64 {
        match self {
            Self::Even => 1.0,
            Self::Length => (0.1 + 3.8 * (1.0 - Likeness::Length.of(first, second))).min(2.0),
            Self::Words => (0.1 + 2.5 * (1.0 - Likeness::Words.of(first, second))).min(2.0),
        }
    }
}

/// A measure of the similarity of two texts, in \[0, 1\].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Likeness {
    /// Shorter length divided by the longer, in words.
    Length,
    /// Words in both divided by the words in either (Jaccard).
    Words,
}

impl Likeness {
    /// Both measures.
    pub const ALL: [Self; 2] = [Self::Length, Self::Words];

    /// Returns the similarity of two texts.
    pub fn of(self, first: &str, second: &str) -> f64 {
        let words = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>();
        let (first, second) = (words(first), words(second));
        match self {
            Self::Length => {
                let (a, b) = (first.len(), second.len());
                if a == b { 1.0 } else { a.min(b) as f64 / a.max(b) as f64 }
            }
            Self::Words => {
                let [first, second]: [HashSet<&String>; 2] =
                    [first.iter().collect(), second.iter().collect()];
                let either = first.union(&second).count();
                if either == 0 { 1.0 } else { first.intersection(&second).count() as f64 / either as f64 }
            }
        }
    }
}

/// The share of the variance of preference strength explained by similarity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// Measure of similarity.
    pub likeness: Likeness,
    /// 1 − Σ(y − ȳ(s))² / Σ(y − ȳ)², y = |ln p/(1 − p)|, where ȳ(s) is the mean over the pair's decile of
    /// similarity, computed on other prompts; with an interval over prompts. Below 0 if similarity predicts
    /// nothing.
    pub explained: Estimate,
}

/// The verdict on [`Carried`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Similarity carries strength: the whole interval is above [`ENOUGH`].
    Carries,
    /// Similarity does not carry strength: the whole interval is below [`ENOUGH`].
    DoesNot,
    /// Undecided: the interval contains [`ENOUGH`], or there is none.
    Open,
}

/// The minimum share of the variance of strength that counts as carried by similarity.
pub const ENOUGH: f64 = 0.1;
/// The number of groups of pairs by similarity, and of folds of prompts.
const TENTHS: usize = 10;
const FOLDS: usize = 5;

impl Carried {
    /// Measures the share on pairs.
    ///
    /// # Errors
    /// Fails with fewer than 50 pairs, or if a probability is 0, 1 or NaN.
    pub fn of(likeness: Likeness, pairs: &[Pair]) -> Result<Self> {
        if pairs.len() < 50 {
            let (what, value) = ("pairs to measure likeness on".to_owned(), pairs.len() as f64);
            return Err(Error::Range { what, value, expected: "at least 50" });
        }
        let strengths: Vec<f64> = pairs.iter().map(strength).collect();
        crate::error::check_finite("log-odds of pair", &strengths)?;
        let likes: Vec<f64> = pairs.iter().map(|pair| likeness.of(&pair.chosen, &pair.rejected)).collect();
        let groups = tenths(&likes);
        let mut numbers = std::collections::HashMap::new();
        let mut prompts = Vec::new();
        for pair in pairs {
            let next = numbers.len();
            prompts.push(*numbers.entry(pair.prompt.as_str()).or_insert(next));
        }
        // Squared errors of the two predictions, each computed from the prompts of other folds.
        let errors: Vec<(f64, f64)> = (0..pairs.len())
            .map(|at| {
                let fold = prompts[at] % FOLDS;
                let others = (0..pairs.len()).filter(|other| prompts[*other] % FOLDS != fold);
                let (mut all, mut alike) = (Vec::new(), Vec::new());
                for other in others {
                    all.push(strengths[other]);
                    if groups[other] == groups[at] {
                        alike.push(strengths[other]);
                    }
                }
                let plain = if all.is_empty() { 0.0 } else { mean(&all) };
                let by_likeness = if alike.is_empty() { plain } else { mean(&alike) };
                ((strengths[at] - by_likeness).powi(2), (strengths[at] - plain).powi(2))
            })
            .collect();
        let explained = Bootstrap::default().estimate(&Clusters::of(&prompts), |positions| {
            let sum = |of: fn(&(f64, f64)) -> f64| positions.iter().map(|at| of(&errors[*at])).sum::<f64>();
            let whole = sum(|error| error.1);
            Ok((whole > 0.0).then(|| 1.0 - sum(|error| error.0) / whole))
        })?;
        let explained = explained.unwrap_or(Estimate { value: 0.0, interval: None });
        Ok(Self { likeness, explained })
    }

    /// Returns the verdict by the interval.
    pub fn verdict(&self) -> Verdict {
        match self.explained.interval {
            Some(interval) if interval.low() > ENOUGH => Verdict::Carries,
            Some(interval) if interval.high() < ENOUGH => Verdict::DoesNot,
            _ => Verdict::Open,
        }
    }
}

fn strength(pair: &Pair) -> f64 {
    let p = pair.preference_probability;
    (p / (1.0 - p)).ln().abs()
}

/// Returns the decile of every value by rank; equal values share one.
fn tenths(values: &[f64]) -> Vec<usize> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = |value: f64| sorted.partition_point(|other| *other < value);
    values.iter().map(|value| rank(*value) * TENTHS / values.len()).collect()
}
