//! Alignment by optimal transport: losses of the sorted log-ratios of a step (AOT, arXiv 2406.05882).

use super::batch::Sums;
use super::config::PreferenceConfig;
use super::margin::smoothed;
use super::names::PreferenceLoss;

/// The value of a pair's term, with its derivatives by the two log-probabilities. A pair has the term of its
/// rank.
pub(super) struct Ranked {
    pub value: f64,
    pub d_chosen: f64,
    pub d_rejected: f64,
}

impl PreferenceConfig {
    /// Returns the terms of the pairs of a step, in their order.
    ///
    /// `aot`: δ = sort(ln π_w − ln π_l) − sort(ln π_ref,w − ln π_ref,l); `aot_unpaired`: δ = sort(lr_w) −
    /// sort(lr_l); the k-th term is −(1−ε)·ln σ(βδ_k) − ε·ln σ(−βδ_k).
    pub(super) fn sorted(&self, loss: PreferenceLoss, pairs: &[(Sums, Sums)]) -> Vec<Ranked> {
        let paired = loss == PreferenceLoss::Aot;
        let (above, below): (Vec<f64>, Vec<f64>) = pairs
            .iter()
            .map(|(chosen, rejected)| match paired {
                true => (chosen.policy - rejected.policy, chosen.reference - rejected.reference),
                false => (chosen.log_ratio(), rejected.log_ratio()),
            })
            .unzip();
        let (first, second) = (order(&above), order(&below));
        let mut terms: Vec<Ranked> =
            pairs.iter().map(|_| Ranked { value: 0.0, d_chosen: 0.0, d_rejected: 0.0 }).collect();
        for (a, b) in first.into_iter().zip(second) {
            let term = smoothed(self.beta * (above[a] - below[b]), self.label_smoothing.value());
            let slope = self.beta * term.slope;
            terms[a].value = term.value;
            terms[a].d_chosen += slope;
            match paired {
                true => terms[a].d_rejected -= slope,
                false => terms[b].d_rejected -= slope,
            }
        }
        terms
    }
}

/// Returns the indices of numbers in ascending order, stable for equal ones.
fn order(numbers: &[f64]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..numbers.len()).collect();
    places.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
    places
}
