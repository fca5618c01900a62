//! Histograms as bars of text.

use serde::Serialize;

/// The largest number of bars in a histogram.
const BARS: usize = 10;

/// Blocks from one to eight eighths of a character.
const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// The number of values from `from` to `to`, inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// The smallest value in the bar.
    pub from: usize,
    /// The largest value in the bar.
    pub to: usize,
    /// The number of values.
    pub count: usize,
}

impl Bar {
    /// Returns at most ten bars of a round width each; the last one also holds the longest 1 % of all
    /// lengths.
    pub fn of_lengths(lengths: &[usize]) -> Vec<Self> {
        let mut sorted = lengths.to_vec();
        sorted.sort_unstable();
        let Some(longest) = sorted.last().copied() else { return Vec::new() };
        let most = sorted[(sorted.len() * 99).div_ceil(100).saturating_sub(1)];
        let width = round_up(most / BARS + 1);
        let bars = most / width + 1;
        (0..bars)
            .map(|bar| {
                let from = bar * width;
                let to = if bar + 1 == bars { longest } else { from + width - 1 };
                let count = lengths.iter().filter(|length| (from..=to).contains(*length)).count();
                Self { from, to, count }
            })
            .collect()
    }

    /// Draws the bar; the fullest bar is `width` characters long, and a bar that is not empty is always
    /// visible.
    pub fn drawn(&self, fullest: usize, width: usize) -> String {
        let eighths = (self.count * width * 8).div_ceil(fullest.max(1));
        let mut bar = "█".repeat(eighths / 8);
        bar.extend((eighths % 8).checked_sub(1).map(|rest| EIGHTHS[rest]));
        bar
    }
}

/// Rounds up to the next of 1, 2, 5, 10, 20, 50, ..
fn round_up(value: usize) -> usize {
    let mut ten = 1;
    loop {
        match [1, 2, 5].iter().map(|step| step * ten).find(|round| *round >= value) {
            Some(round) => return round,
            None => ten *= 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: every value is in one bar, widths are round, and one huge value does not flatten the other
    /// bars.
    #[test]
    fn every_length_has_a_bar() {
        let mut lengths: Vec<usize> = (1..=300).collect();
        lengths.push(100_000);
        let bars = Bar::of_lengths(&lengths);
        assert_eq!(bars.iter().map(|bar| bar.count).sum::<usize>(), lengths.len());
        assert_eq!((bars[0].from, bars[0].to, bars[0].count), (0, 49, 49));
        assert_eq!(bars.last().map(|bar| (bar.from, bar.to)), Some((250, 100_000)));
        assert_eq!(Bar::of_lengths(&[]), []);
        let one = Bar::of_lengths(&[7]);
        assert_eq!(one.iter().map(|bar| bar.count).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 0, 1]);
    }

    /// Protects: bars are to scale, and a single value beside a thousand is visible.
    #[test]
    fn bars_are_to_scale() {
        let drawn = |count| Bar { from: 0, to: 0, count }.drawn(1000, 4);
        assert_eq!([drawn(1000), drawn(500), drawn(1), drawn(0)], ["████", "██", "▏", ""]);
        assert_eq!(drawn(375), "█▌");
    }
}
