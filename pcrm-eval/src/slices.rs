//! The pairs in slices: by subset, by difference of length, and by similarity of the answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::accuracy::{LEVEL, Share, accuracy};
use crate::calibration::log_loss;
use crate::error::{Result, check_finite, check_lengths};
use crate::quantiles::{mean, quantiles};

/// Measures of the margins of some pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Number of pairs.
    pub pairs: usize,
    /// Number of pairs with equal scores.
    pub ties: usize,
    /// Share ordered as labelled, ties one half, with its Wilson interval.
    pub accuracy: Share,
    /// Share ordered as labelled, ties counting as wrong.
    pub strict_accuracy: f64,
    /// Mean margin.
    pub mean_margin: f64,
    /// Log loss of σ(Δ), in nats.
    pub log_loss: f64,
}

/// The slice of a named subset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subset {
    /// Name in the data.
    pub name: String,
    /// Measures of its pairs.
    #[serde(flatten)]
    pub slice: Slice,
}

/// The slice of pairs whose value is in \[low, high\].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Decile {
    /// Smallest value in the decile.
    pub low: f64,
    /// Largest value in the decile.
    pub high: f64,
    /// Measures of its pairs.
    #[serde(flatten)]
    pub slice: Slice,
}

impl Slice {
    /// Computes the measures of these margins.
    ///
    /// # Errors
    /// Fails if there are no margins or a margin is not finite.
    pub fn of(margins: &[f64]) -> Result<Self> {
        let right = margins.iter().filter(|margin| **margin > 0.0).count();
        Ok(Self {
            pairs: margins.len(),
            ties: margins.iter().filter(|margin| **margin == 0.0).count(),
            accuracy: accuracy(margins, LEVEL)?,
            strict_accuracy: right as f64 / margins.len() as f64,
            mean_margin: mean(margins),
            log_loss: log_loss(margins)?,
        })
    }
}

/// Returns the slices by subset, in order of their names; pairs without a name are in none.
///
/// # Errors
/// Fails if the numbers of margins and names differ or a margin is not finite.
pub fn by_subset(margins: &[f64], names: &[Option<String>]) -> Result<Vec<Subset>> {
    check_lengths("margins and subsets", margins.len(), names.len())?;
    let mut parts: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (margin, name) in margins.iter().zip(names) {
        if let Some(name) = name {
            parts.entry(name).or_default().push(*margin);
        }
    }
    let subset =
        |(name, margins): (&str, Vec<f64>)| Ok(Subset { name: name.to_owned(), slice: Slice::of(&margins)? });
    parts.into_iter().map(subset).collect()
}

/// Returns the slices by the deciles of a value that each pair has. Pair i is in the first decile whose upper
/// quantile is at least its value, so equal values stay together; empty deciles are left out. Returns nothing
/// if all values are equal.
///
/// # Errors
/// Fails if the numbers of margins and values differ or one of them is not finite.
pub fn by_decile(margins: &[f64], values: &[f64]) -> Result<Vec<Decile>> {
    check_lengths("margins and values", margins.len(), values.len())?;
    check_finite("value of pair", values)?;
    if values.iter().all(|value| *value == values[0]) {
        return Ok(Vec::new());
    }
    let shares: Vec<f64> = (1..10).map(|tenth| f64::from(tenth) / 10.0).collect();
    let edges = quantiles(values, &shares)?;
    let mut parts = vec![(f64::INFINITY, f64::NEG_INFINITY, Vec::new()); 10];
    for (margin, value) in margins.iter().zip(values) {
        let (low, high, members) = &mut parts[edges.partition_point(|edge| edge < value)];
        *low = low.min(*value);
        *high = high.max(*value);
        members.push(*margin);
    }
    let filled = parts.into_iter().filter(|(_, _, margins)| !margins.is_empty());
    filled.map(|(low, high, margins)| Ok(Decile { low, high, slice: Slice::of(&margins)? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the numbers of a subset by hand: 2 right, 1 tie, 1 wrong are 2.5 of 4, strictly 2 of 4.
    #[test]
    fn subsets_are_counted_by_hand() {
        let names = ["b", "a", "b", "b", "b"].map(|name| Some(name.to_owned()));
        let mut names = names.to_vec();
        names.push(None);
        let subsets = by_subset(&[1.0, -1.0, 2.0, 0.0, -3.0, 9.0], &names).unwrap();
        let seen: Vec<_> = subsets.iter().map(|s| (s.name.as_str(), s.slice.pairs, s.slice.ties)).collect();
        assert_eq!(seen, [("a", 1, 0), ("b", 4, 1)]);
        assert_eq!((subsets[1].slice.accuracy.value, subsets[1].slice.strict_accuracy), (0.625, 0.5));
        assert_eq!(subsets[1].slice.mean_margin, 0.0);
    }

    /// Protects: a hundred distinct values make ten deciles of ten; equal values are never split.
    #[test]
    fn deciles_hold_a_tenth_each_and_keep_ties_together() {
        let values: Vec<f64> = (0..100).rev().map(f64::from).collect();
        let margins: Vec<f64> = values.iter().map(|value| value - 49.5).collect();
        let deciles = by_decile(&margins, &values).unwrap();
        assert!(deciles.len() == 10 && deciles.iter().all(|decile| decile.slice.pairs == 10));
        assert_eq!((deciles[3].low, deciles[3].high), (30.0, 39.0));
        assert_eq!((deciles[4].slice.accuracy.value, deciles[5].slice.accuracy.value), (0.0, 1.0));
        let mut tied = vec![1.0; 50];
        tied.extend((0..50).map(|at| 2.0 + f64::from(at)));
        let deciles = by_decile(&margins, &tied).unwrap();
        assert_eq!(deciles[0].slice.pairs, 50);
        assert_eq!(deciles.iter().map(|decile| decile.slice.pairs).sum::<usize>(), 100);
        assert!(by_decile(&margins, &[3.0; 100]).unwrap().is_empty());
    }
}
