//! Points and bins for plots: few enough to draw, and deterministic.

use serde::{Deserialize, Serialize};

/// An answer as a point of length and score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Length of the answer.
    pub length: usize,
    /// Score of the model.
    pub score: f64,
    /// True for the chosen answer of a pair.
    pub chosen: bool,
}

/// Counts in equal bins from the smallest value to the largest; the last bin includes its upper end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bins {
    /// Smallest value.
    pub low: f64,
    /// Largest value.
    pub high: f64,
    /// Values per bin.
    pub counts: Vec<usize>,
}

/// The maximum number of points that [`thinned`] keeps.
pub const MOST: usize = 2000;

/// Returns every k-th item, with the smallest k that keeps at most [`MOST`].
pub fn thinned<T: Copy>(items: &[T]) -> Vec<T> {
    items.iter().step_by(items.len().div_ceil(MOST).max(1)).copied().collect()
}

impl Bins {
    /// The number of bins that [`RewardReport`](crate::RewardReport) uses.
    pub const USUAL: usize = 40;

    /// Counts these values in `bins` equal bins; NaN is skipped. Equal values give one bin.
    pub fn of(values: &[f64], bins: usize) -> Self {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let bins = if high > low { bins.max(1) } else { 1 };
        let mut counts = vec![0; bins];
        for value in values.iter().filter(|value| !value.is_nan()) {
            // The cast turns a quotient of 0/0 into bin 0.
            let at = ((value - low) / (high - low) * bins as f64) as usize;
            counts[at.min(bins - 1)] += 1;
        }
        Self { low, high, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: bins exclude their upper end except the last, and a single value has one bin.
    #[test]
    fn values_fall_into_their_bins() {
        let bins = Bins::of(&[0.0, 0.9, 1.0, 2.5, 4.0, f64::NAN], 4);
        assert_eq!(bins, Bins { low: 0.0, high: 4.0, counts: vec![2, 1, 1, 1] });
        assert_eq!(Bins::of(&[3.0, 3.0], 4).counts, [2]);
    }

    /// Protects: thinning keeps the limit, the first item and the order.
    #[test]
    fn thinning_keeps_order_and_measure() {
        let items: Vec<usize> = (0..5001).collect();
        let kept = thinned(&items);
        assert_eq!((kept.len(), kept[0], kept[1]), (1667, 0, 3));
        assert_eq!(thinned(&items[..MOST]).len(), MOST);
        assert!(thinned::<u8>(&[]).is_empty());
    }
}
