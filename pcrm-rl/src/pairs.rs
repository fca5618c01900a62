//! Training data: sets of answers with the bounds of their margins.

use std::ops::Range;

use pcrm_core::data::encode::{self, EncodedPair, EncodedSet};
use pcrm_core::data::preference::Verdict;

/// Sets of answers with a bound for the margin of every comparison.
///
/// A set is computed as one tree, every answer once, and has the weight of one item in the loss whatever its
/// number of comparisons (InstructGPT, arXiv 2203.02155, §3.5). Comparisons are numbered across all sets.
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    /// Sets of answers.
    pub sets: Vec<EncodedSet>,
    /// Δ* of every comparison, `f32::INFINITY` for none.
    pub bounds: Vec<f32>,
    ends: Vec<usize>,
    unique_tokens: Vec<usize>,
}

impl Pairs {
    /// Creates sets with the bounds of their comparisons, in order. Ties have no bound, whatever `bounds`
    /// says.
    pub fn new(sets: Vec<EncodedSet>, mut bounds: Vec<f32>) -> Self {
        for (pair, bound) in encode::pairs(&sets).zip(&mut bounds) {
            if pair.verdict == Verdict::Tied {
                *bound = f32::INFINITY;
            }
        }
        let ends = sets.iter().scan(0, |end, set| {
            *end += set.comparisons.len();
            Some(*end)
        });
        Self {
            ends: ends.collect(),
            unique_tokens: sets.iter().map(EncodedSet::unique_tokens).collect(),
            sets,
            bounds,
        }
    }

    /// Returns the same comparisons, each as a separate set.
    pub fn apart(&self) -> Self {
        Self::new(self.sets.iter().flat_map(EncodedSet::apart).collect(), self.bounds.clone())
    }

    /// Returns the numbers of a set's comparisons.
    pub fn range(&self, set: usize) -> Range<usize> {
        let start = set.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[set]
    }

    /// Returns the number of comparisons of all sets.
    pub fn count(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Returns the comparisons of all sets, in order.
    pub fn pairs(&self) -> impl Iterator<Item = EncodedPair<'_>> {
        encode::pairs(&self.sets)
    }

    /// Returns the number of computed tokens of each set: a common prefix of its sequences is counted once.
    pub fn unique_tokens(&self) -> &[usize] {
        &self.unique_tokens
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use pcrm_core::data::preference::{Comparison, Origin};

    use super::*;

    fn set(answers: &[u32], verdicts: &[(u32, u32, Verdict)]) -> EncodedSet {
        let origin = Origin { file: Arc::from(Path::new("x")), line: 1, record: 1 };
        let answers: Vec<Vec<u32>> = answers.iter().map(|id| vec![*id, 9]).collect();
        let comparison = |(chosen, rejected, verdict): &(u32, u32, Verdict)| Comparison {
            verdict: *verdict,
            ..Comparison::preferring(*chosen, *rejected)
        };
        let comparisons: Vec<Comparison> = verdicts.iter().map(comparison).collect();
        EncodedSet::of_tokens(origin, &[1, 2], &answers, &comparisons).unwrap()
    }

    /// Protects: the comparisons of each set, its tokens by hand, and that ties have no bound.
    #[test]
    fn comparisons_are_numbered_through_all_sets() {
        let better = Verdict::Preferred;
        let sets = vec![
            set(&[5, 6, 7], &[(0, 1, better), (0, 2, better), (1, 2, Verdict::Tied)]),
            set(&[5, 6], &[(0, 1, better)]),
        ];
        let data = Pairs::new(sets, vec![3.0; 4]);
        assert_eq!((data.range(0), data.range(1), data.count()), (0..3, 3..4, 4));
        assert_eq!(data.unique_tokens(), [2 + 3 * 2, 2 + 2 * 2]);
        assert_eq!(data.bounds, [3.0, 3.0, f32::INFINITY, 3.0]);
        let apart = data.apart();
        assert_eq!((apart.sets.len(), apart.count(), apart.unique_tokens()), (4, 4, &[6, 6, 6, 6][..]));
        assert_eq!(apart.bounds, data.bounds);
        assert_eq!(Pairs::default().count(), 0);
    }
}
