//! Rectangles of tokens with little padding: texts of like length together, as many as a budget of tokens holds.

use std::ops::Range;

/// Whether texts of different lengths may stand in one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lengths {
    /// The shorter ones are filled up; what reads them is told by a mask.
    Mixed,
    /// Nothing tells filling from text.
    Equal,
}

/// Divides texts, of which these are the lengths in tokens, into batches of at most `budget` places, padding
/// counted; a longer text is a batch of its own. Gives the order, longest first, and the batches as ranges of it.
///
/// Texts of one length keep their order, so that batches depend on the texts alone.
pub fn batches(lengths: &[usize], budget: usize, mix: Lengths) -> (Vec<usize>, Vec<Range<usize>>) {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(lengths[at]));
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < order.len() {
        let longest = lengths[order[start]];
        let fits = (budget / longest.max(1)).max(1);
        let like = |at: &&usize| mix == Lengths::Mixed || lengths[**at] == longest;
        let end = start + order[start..].iter().take(fits).take_while(like).count();
        ranges.push(start..end);
        start = end;
    }
    (order, ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: every text stands in one batch, longest first; no batch is beyond the budget but a text alone.
    #[test]
    fn batches_hold_what_the_budget_allows() {
        let lengths = [3, 9, 1, 30, 4, 4, 10, 2];
        let (order, ranges) = batches(&lengths, 20, Lengths::Mixed);
        assert_eq!(order, [3, 6, 1, 4, 5, 0, 7, 2]);
        assert_eq!(ranges, [0..1, 1..3, 3..8]);
        assert_eq!(batches(&lengths, 20, Lengths::Equal).1, [0..1, 1..2, 2..3, 3..5, 5..6, 6..7, 7..8]);
        assert_eq!(batches(&[], 20, Lengths::Mixed), (vec![], vec![]));
    }
}
