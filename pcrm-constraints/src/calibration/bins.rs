//! Bins of pairs by similarity, shown beside a curve.

use serde::{Deserialize, Serialize};

use super::Observation;
use super::logistic::sigmoid;

/// The approximate number of bins.
const BINS: usize = 10;

/// A bin of pairs with similar s; all probabilities are means over its pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// The smallest similarity.
    pub low: f64,
    /// The largest similarity.
    pub high: f64,
    /// The mean similarity.
    pub s: f64,
    /// The number of pairs.
    pub pairs: usize,
    /// The share of pairs whose preferred answer wins.
    pub win: f64,
    /// The fitted σ(Δ*/2).
    pub fitted: f64,
    /// σ(Δ*/2) before calibration.
    pub given: f64,
}

/// Returns deciles of similarity in increasing order. Pairs of equal similarity stay together, so there may
/// be fewer.
pub(super) fn bins(observations: &[Observation], fitted: impl Fn(f64) -> f64) -> Vec<Bin> {
    let mut sorted: Vec<&Observation> = observations.iter().collect();
    sorted.sort_by(|a, b| a.s.total_cmp(&b.s));
    let mut bins = Vec::new();
    let mut start = 0;
    for decile in 1..=BINS {
        let mut end = (sorted.len() * decile / BINS).max(start);
        while end > start && end < sorted.len() && sorted[end].s == sorted[end - 1].s {
            end += 1;
        }
        if end > start {
            bins.push(bin(&sorted[start..end], &fitted));
        }
        start = end;
    }
    bins
}

fn bin(sorted: &[&Observation], fitted: impl Fn(f64) -> f64) -> Bin {
    let mean = |of: &dyn Fn(&Observation) -> f64| {
        sorted.iter().map(|seen| of(seen)).sum::<f64>() / sorted.len() as f64
    };
    Bin {
        low: sorted[0].s,
        high: sorted[sorted.len() - 1].s,
        s: mean(&|seen| seen.s),
        pairs: sorted.len(),
        win: mean(&|seen| seen.win),
        fitted: mean(&|seen| sigmoid(fitted(seen.s) / 2.0)),
        given: mean(&|seen| sigmoid(seen.given / 2.0)),
    }
}
