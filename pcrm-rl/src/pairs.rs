//! Pairs with the bounds of their margins, and which of them are answers to one prompt.

use std::ops::Range;

use pcrm_core::data::encode::EncodedPair;
use pcrm_core::data::preference::Verdict;

use crate::answers::Answers;

/// Pairs with the bounds of their margins.
///
/// Pairs of one ranked set form a set, a pair that stands alone forms one too. A set is computed as one tree, every
/// distinct answer once, and counts in the loss as one whatever its number of pairs (InstructGPT, arXiv 2203.02155,
/// §3.5).
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    /// The pairs.
    pub pairs: Vec<EncodedPair>,
    /// Δ* of every pair, `f32::INFINITY` for none.
    pub bounds: Vec<f32>,
    sets: Vec<Range<usize>>,
    unique_tokens: Vec<usize>,
}

impl Pairs {
    /// Pairs that follow each other and come from one ranked set belong together. Ties have no bound, whatever
    /// `bounds` says of them.
    pub fn new(pairs: Vec<EncodedPair>, bounds: Vec<f32>) -> Self {
        let together = |left: &EncodedPair, right: &EncodedPair| {
            left.origin.file == right.origin.file
                && left.in_set.is_some()
                && left.in_set.map(|place| place.set) == right.in_set.map(|place| place.set)
        };
        let lengths: Vec<usize> = pairs.chunk_by(together).map(<[_]>::len).collect();
        Self::cut(pairs, bounds, &lengths)
    }

    /// Every pair is a set of its own: the same comparisons, each computed apart.
    pub fn apart(pairs: Vec<EncodedPair>, bounds: Vec<f32>) -> Self {
        let lengths = vec![1; pairs.len()];
        Self::cut(pairs, bounds, &lengths)
    }

    fn cut(pairs: Vec<EncodedPair>, mut bounds: Vec<f32>, lengths: &[usize]) -> Self {
        for (pair, bound) in pairs.iter().zip(&mut bounds) {
            if pair.verdict == Verdict::Tied {
                *bound = f32::INFINITY;
            }
        }
        let ends = lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        let sets: Vec<Range<usize>> = ends.zip(lengths).map(|(end, length)| end - length..end).collect();
        let tokens = |set: &Range<usize>| Answers::of(&pairs[set.clone()]).unique_tokens();
        let unique_tokens = sets.iter().map(tokens).collect();
        Self { pairs, bounds, sets, unique_tokens }
    }

    /// The number of sets.
    pub fn sets(&self) -> usize {
        self.sets.len()
    }

    /// Which pairs a set has.
    pub fn range(&self, set: usize) -> Range<usize> {
        self.sets[set].clone()
    }

    /// The pairs of a set.
    pub fn set(&self, set: usize) -> &[EncodedPair] {
        &self.pairs[self.range(set)]
    }

    /// How many distinct answers a set's pairs compare.
    pub fn answers(&self, set: usize) -> usize {
        Answers::of(self.set(set)).own.len()
    }

    /// Tokens that each set takes: what its answers share is counted once, and so is every answer.
    pub fn unique_tokens(&self) -> &[usize] {
        &self.unique_tokens
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use pcrm_core::data::preference::{InSet, Origin};
    use pcrm_core::data::prompt_id::PairId;

    use super::*;

    fn pair(line: u64, set: Option<u32>, answers: [u32; 2], verdict: Verdict) -> EncodedPair {
        EncodedPair {
            row: 0,
            origin: Origin { file: Arc::from(Path::new("x")), line },
            id: PairId::default(),
            prompt: vec![1, 2],
            chosen: vec![answers[0], 9],
            rejected: vec![answers[1], 9],
            margin: None,
            verdict,
            in_set: set.map(|set| InSet { set, chosen: answers[0], rejected: answers[1] }),
            identity: 0,
            prompt_text: String::new(),
            chosen_text: String::new(),
            rejected_text: String::new(),
        }
    }

    /// Protects: what is one set, also where two sets stand in one record, and how many tokens it takes, by hand.
    #[test]
    fn pairs_of_one_ranked_set_belong_together() {
        let better = Verdict::Preferred;
        let pairs = vec![
            pair(1, Some(0), [5, 6], better),
            pair(1, Some(0), [5, 7], better),
            pair(1, Some(0), [6, 7], Verdict::Tied),
            pair(1, Some(1), [5, 6], better),
            pair(2, None, [5, 6], better),
            pair(2, None, [5, 6], better),
        ];
        let data = Pairs::new(pairs.clone(), vec![3.0; 6]);
        let ranges: Vec<_> = (0..data.sets()).map(|set| data.range(set)).collect();
        assert_eq!(ranges, [0..3, 3..4, 4..5, 5..6]);
        assert_eq!(data.unique_tokens()[..2], [2 + 3 * 2, 2 + 2 * 2]);
        assert_eq!(data.bounds, [3.0, 3.0, f32::INFINITY, 3.0, 3.0, 3.0]);
        assert_eq!(Pairs::apart(pairs, vec![3.0; 6]).sets(), 6);
    }
}
