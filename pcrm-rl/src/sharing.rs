//! Scores of sequences from unrelated requests, with common prefixes computed once.

use std::collections::BTreeSet;

use pcrm_core::Packed;
use pcrm_core::data::encode::common_prefix;
use pcrm_core::model::Scores;

use crate::error::Result;

/// The shortest common prefix that gets its own segment.
const LEAST_SHARED: usize = 16;
/// The maximum depth of the tree. Sequences that branch further are computed separately from there on.
const DEEPEST: usize = 8;

/// Scores, with the number of computed rows.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedScores {
    /// Score of every sequence at its last token, in the given order.
    pub scores: Vec<f32>,
    /// Number of computed rows.
    pub rows: usize,
}

/// Computes the score of every sequence at its last token in one pass, as a tree of common prefixes: equal
/// sequences are computed once, and so is a common prefix of 16 tokens or more. The scores have the bits of
/// [`score_sequences`](crate::score::score_sequences).
///
/// # Errors
/// Fails if the model fails or a sequence is empty.
pub fn score_shared(model: &impl Scores, sequences: &[&[u32]]) -> Result<SharedScores> {
    if sequences.is_empty() {
        return Ok(SharedScores { scores: Vec::new(), rows: 0 });
    }
    let model = model.detached();
    let tree = Tree::of(sequences, model.outline().shares_up_to)?;
    let asked: BTreeSet<usize> = tree.rows.iter().copied().collect();
    let asked: Vec<usize> = asked.into_iter().collect();
    let values = model.scores(&tree.packed, &asked)?.read()?.into_f32();
    let score = |row: &usize| asked.binary_search(row).map_or(f32::NAN, |at| values[at]);
    Ok(SharedScores { scores: tree.rows.iter().map(score).collect(), rows: tree.packed.ids.len() })
}

/// Sequences as a packed tree.
struct Tree {
    packed: Packed,
    /// Row of every sequence's last token.
    rows: Vec<usize>,
}

/// A position in the tree for adding segments.
#[derive(Clone, Copy)]
struct Place {
    parent: Option<usize>,
    /// Number of tokens above it.
    tokens: usize,
    /// Number of segments above it.
    segments: usize,
}

impl Tree {
    /// Builds the tree of these sequences. Sequences longer than `limit` share nothing, since their length
    /// changes their position encoding.
    fn of(sequences: &[&[u32]], limit: Option<usize>) -> Result<Self> {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by(|left, right| sequences[*left].cmp(sequences[*right]));
        let (short, long): (Vec<usize>, Vec<usize>) =
            order.into_iter().partition(|at| limit.is_none_or(|limit| sequences[*at].len() <= limit));
        let mut tree = Self { packed: Packed::default(), rows: vec![0; sequences.len()] };
        let root = Place { parent: None, tokens: 0, segments: 0 };
        tree.branches(sequences, &short, root)?;
        for run in long.chunk_by(|left, right| sequences[*left] == sequences[*right]) {
            tree.leaf(sequences, run, root)?;
        }
        Ok(tree)
    }

    /// Adds sorted sequences below a position, grouped by their next token.
    fn branches(&mut self, sequences: &[&[u32]], sorted: &[usize], place: Place) -> Result<()> {
        let next = |at: &usize| sequences[*at].get(place.tokens);
        sorted
            .chunk_by(|left, right| next(left) == next(right))
            .try_for_each(|run| self.branch(sequences, run, place))
    }

    /// Adds sorted sequences that have at least one more token in common.
    fn branch(&mut self, sequences: &[&[u32]], run: &[usize], place: Place) -> Result<()> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let (first, last) = (sequences[*first], sequences[*last]);
        // The first and the last of sorted sequences differ earliest.
        let shared = common_prefix(first, last);
        if shared == first.len() && shared == last.len() {
            return self.leaf(sequences, run, place);
        }
        let place = match shared - place.tokens >= LEAST_SHARED && place.segments < DEEPEST {
            false => place,
            true => {
                let segment = self.packed.push(&first[place.tokens..shared], place.parent)?;
                Place { parent: Some(segment), tokens: shared, segments: place.segments + 1 }
            }
        };
        let next = |at: &usize| sequences[*at].get(shared);
        for part in run.chunk_by(|left, right| next(left) == next(right)) {
            match sequences[part[0]].len() == place.tokens {
                // The sequences that end where the segment does.
                true => part.iter().for_each(|at| self.rows[*at] = self.packed.ids.len() - 1),
                false => self.branch(sequences, part, place)?,
            }
        }
        Ok(())
    }

    /// Adds equal sequences.
    fn leaf(&mut self, sequences: &[&[u32]], run: &[usize], place: Place) -> Result<()> {
        let Some(first) = run.first() else { return Ok(()) };
        self.packed.push(&sequences[*first][place.tokens..], place.parent)?;
        run.iter().for_each(|at| self.rows[*at] = self.packed.ids.len() - 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows the chain of a row back to its tokens.
    fn tokens(tree: &Tree, row: usize) -> Vec<u32> {
        let segments = tree.packed.tree.segments();
        let segment = segments.iter().position(|segment| segment.rows.contains(&row)).unwrap();
        let mut rows: Vec<usize> = tree.packed.tree.chain(segment).into_iter().flatten().collect();
        rows.retain(|at| *at <= row || !segments[segment].rows.contains(at));
        rows.into_iter().map(|row| tree.packed.ids[row]).collect()
    }

    fn checked(sequences: &[Vec<u32>], limit: Option<usize>) -> usize {
        let views: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let tree = Tree::of(&views, limit).unwrap();
        for (sequence, row) in sequences.iter().zip(&tree.rows) {
            assert_eq!(&tokens(&tree, *row), sequence);
        }
        tree.packed.ids.len()
    }

    /// Protects: every row of the tree sees exactly the tokens of its sequence, and common prefixes are
    /// computed once.
    #[test]
    fn what_sequences_begin_with_is_there_once() {
        let prompt: Vec<u32> = (0..40).collect();
        let with = |answer: &[u32]| [prompt.as_slice(), answer].concat();
        let answers = [with(&[1]), with(&[2, 3]), with(&[1]), prompt.clone(), vec![7; 5]];
        assert_eq!(checked(&answers, None), 40 + 1 + 2 + 5);
        // Two answers to each of two prompts under one system message.
        let deep = [[0, 1], [0, 2], [9, 1], [9, 2]].map(|[prompt, answer]| {
            [(0..20).collect::<Vec<u32>>(), vec![prompt; 30], vec![answer; 3]].concat()
        });
        assert_eq!(checked(&deep, None), 20 + 2 * 30 + 4 * 3);
        // A common prefix too short for a segment.
        assert_eq!(checked(&[vec![1, 2, 3], vec![1, 2, 4]], None), 6);
        // Sequences whose length changes their position encoding share only with equal ones.
        assert_eq!(checked(&answers, Some(40)), 40 + 5 + 41 + 42);
    }

    /// Protects: nested sequences cause no deep recursion and stay correct.
    #[test]
    fn nested_sequences_are_cut_off() {
        let nested: Vec<Vec<u32>> = (1..400).map(|length| vec![3; length * 17]).collect();
        checked(&nested[..40], None);
        assert!(checked(&nested, None) > 400 * 17);
    }

    /// Protects: random sets of overlapping sequences over a small alphabet are correct.
    #[test]
    fn random_sets_stay_right() {
        use rand::{RngExt, SeedableRng};
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for _ in 0..200 {
            let count = random.random_range(1..30);
            let mut sets: Vec<Vec<u32>> = Vec::new();
            for _ in 0..count {
                let base = match sets.is_empty() || random.random_bool(0.2) {
                    true => Vec::new(),
                    false => {
                        let from = &sets[random.random_range(0..sets.len())];
                        from[..random.random_range(0..=from.len())].to_vec()
                    }
                };
                let more = random.random_range(1..60);
                let tail = (0..more).map(|_| random.random_range(0..2u32));
                sets.push(base.into_iter().chain(tail).collect());
            }
            checked(&sets, random.random_bool(0.3).then_some(50));
        }
    }
}
