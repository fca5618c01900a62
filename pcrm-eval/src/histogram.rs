//! A histogram of margins over a fixed range, so that any two can be compared side by side.

use serde::{Deserialize, Serialize};

/// Counts of margins in equal bins from [`Histogram::LOW`] to [`Histogram::HIGH`].
///
/// The range is fixed because the scale is: σ(±6) is 0.25 % away from certainty, and PCRM's bounds are below
/// 6 too. Margins beyond the range count in the outermost bin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Pairs per bin, in ascending order of margins.
    pub counts: Vec<usize>,
}

impl Histogram {
    /// Lower end of the first bin.
    pub const LOW: f64 = -6.0;
    /// Upper end of the last bin.
    pub const HIGH: f64 = 6.0;
    /// Number of bins, each half a unit wide.
    pub const BINS: usize = 24;

    /// Counts these margins; NaN is skipped.
    pub fn of(margins: &[f64]) -> Self {
        let mut counts = vec![0; Self::BINS];
        let width = (Self::HIGH - Self::LOW) / Self::BINS as f64;
        for margin in margins.iter().filter(|margin| !margin.is_nan()) {
            // A float-to-integer cast saturates, so margins below the range fall into bin 0.
            let at = ((margin - Self::LOW) / width) as usize;
            counts[at.min(Self::BINS - 1)] += 1;
        }
        Self { counts }
    }

    /// Returns one line of `width` block characters, scaled to the fullest bin; `·` is an empty one.
    pub fn sparkline(&self, width: usize) -> String {
        const BLOCKS: [char; 9] = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let width = width.clamp(1, self.counts.len().max(1));
        let start = |place: usize| place * self.counts.len() / width;
        let places: Vec<usize> =
            (0..width).map(|place| self.counts[start(place)..start(place + 1)].iter().sum()).collect();
        let fullest = places.iter().copied().max().unwrap_or(0).max(1);
        places.iter().map(|count| BLOCKS[(count * 8).div_ceil(fullest)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: bins include their lower end, and margins out of range count in the outermost bins.
    #[test]
    fn margins_fall_into_their_bins() {
        let counts =
            Histogram::of(&[-100.0, -6.0, -5.5, -0.1, 0.0, 0.4, 0.5, 5.9, 6.0, 1e9, f64::NAN]).counts;
        let expected = [(0, 2), (1, 1), (11, 1), (12, 2), (13, 1), (23, 3)];
        for (at, count) in counts.iter().enumerate() {
            let expected = expected.iter().find(|(bin, _)| *bin == at).map_or(0, |(_, count)| *count);
            assert_eq!(*count, expected, "bin {at}");
        }
    }

    /// Protects: heights are relative to the fullest bin, and one pair is visible beside a thousand.
    #[test]
    fn sparklines_show_every_filled_place() {
        let mut margins = vec![0.1; 1000];
        margins.extend([-7.0, 1.2]);
        margins.extend(vec![2.1; 500]);
        let line = Histogram::of(&margins).sparkline(24);
        assert_eq!(line, "▁···········█·▁·▄·······");
        assert_eq!(Histogram::of(&margins).sparkline(12), "▁·····█▁▄···");
        assert_eq!(Histogram::of(&[]).sparkline(4), "····");
    }
}
