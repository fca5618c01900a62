//! Rectangular batches without padding: texts of equal length, as many as a token budget allows.

use std::ops::Range;

/// Divides texts with these lengths in tokens into batches of equal length and at most `budget` tokens; a
/// longer text is a batch of its own. Returns the order of the texts, longest first, and the batches as
/// ranges of it.
///
/// Texts of equal length keep their order, so that batches depend on the texts alone.
pub fn batches(lengths: &[usize], budget: usize) -> (Vec<usize>, Vec<Range<usize>>) {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(lengths[at]));
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < order.len() {
        let length = lengths[order[start]];
        let fits = (budget / length.max(1)).max(1);
        let end = start + order[start..].iter().take(fits).take_while(|&&at| lengths[at] == length).count();
        ranges.push(start..end);
        start = end;
    }
    (order, ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: every text is in exactly one batch, longest first, with texts of its length; only a single
    /// text may exceed the budget.
    #[test]
    fn batches_hold_what_the_budget_allows() {
        let lengths = [3, 9, 1, 30, 4, 4, 9, 1, 4, 4, 4];
        let (order, ranges) = batches(&lengths, 16);
        assert_eq!(order, [3, 1, 6, 4, 5, 8, 9, 10, 0, 2, 7]);
        assert_eq!(ranges, [0..1, 1..2, 2..3, 3..7, 7..8, 8..9, 9..11]);
        assert_eq!(batches(&[], 16), (vec![], vec![]));
    }
}
