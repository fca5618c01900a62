//! The training curve of a policy: true reward against KL divergence from the initial policy, and figures
//! read off it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An evaluation of a policy on held-out prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PolicyPoint {
    /// Number of updates made.
    pub step: u64,
    /// KL divergence from the reference, Σ ln π − ln π_ref over an answer, in nats.
    pub kl: f64,
    /// Reward that the policy is trained on.
    pub proxy: f64,
    /// True reward.
    pub truth: f64,
    /// Mean tokens per answer.
    pub length: f64,
}

/// Returns the value where the curve first passes a KL divergence, interpolated linearly between the
/// evaluations before and after; `None` if the policy never passes it, including one that starts beyond it.
/// Nothing is extrapolated.
pub fn at_kl(points: &[PolicyPoint], kl: f64, value: impl Fn(&PolicyPoint) -> f64) -> Option<f64> {
    let passes = |pair: &&[PolicyPoint]| pair[0].kl <= kl && kl < pair[1].kl;
    match points.windows(2).find(passes) {
        Some(pair) => {
            let share = (kl - pair[0].kl) / (pair[1].kl - pair[0].kl);
            Some(value(&pair[0]) + share * (value(&pair[1]) - value(&pair[0])))
        }
        None => points.iter().find(|point| point.kl == kl).map(value),
    }
}

/// Returns the figures of a curve: `truth@KL` for every KL divergence that it reaches, and `truth`, `proxy`,
/// `kl` and `length` at its end.
pub fn figures(points: &[PolicyPoint], grid: &[f64]) -> BTreeMap<String, f64> {
    let at = |kl: &f64| Some((format!("truth@{kl}"), at_kl(points, *kl, |point| point.truth)?));
    let mut found: BTreeMap<String, f64> = grid.iter().filter_map(at).collect();
    if let Some(last) = points.last() {
        let end = [("truth", last.truth), ("proxy", last.proxy), ("kl", last.kl), ("length", last.length)];
        found.extend(end.map(|(name, value)| (name.to_owned(), value)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(kls: &[f64]) -> Vec<PolicyPoint> {
        let point = |(at, kl): (usize, &f64)| PolicyPoint {
            step: at as u64,
            kl: *kl,
            proxy: 0.0,
            truth: 10.0 * at as f64,
            length: 5.0,
        };
        kls.iter().enumerate().map(point).collect()
    }

    /// Protects: values are interpolated between evaluations at the first passage and never extrapolated.
    #[test]
    fn nothing_is_extrapolated() {
        let truth = |kls: &[f64], kl| at_kl(&course(kls), kl, |point| point.truth);
        assert_eq!(truth(&[0.0, 2.0, 6.0], 1.0), Some(5.0));
        assert_eq!(truth(&[0.0, 2.0, 6.0], 2.0), Some(10.0));
        assert_eq!(truth(&[0.0, 2.0, 6.0], 6.0), Some(20.0));
        assert_eq!(truth(&[0.0, 2.0, 6.0], 6.1), None);
        assert_eq!(truth(&[1.0, 2.0], 0.5), None);
        assert_eq!(truth(&[0.0, 4.0, 1.0, 4.0], 2.0), Some(5.0));
        assert_eq!(truth(&[], 1.0), None);
        let found = figures(&course(&[0.0, 3.0]), &[1.5, 4.0]);
        assert_eq!(found.get("truth@1.5"), Some(&5.0));
        assert_eq!((found.get("truth@4"), found["truth"], found["kl"]), (None, 10.0, 3.0));
    }
}
