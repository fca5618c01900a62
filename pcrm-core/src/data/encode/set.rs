//! A set of answers as token ids: the common prefix, each sequence, and the comparisons.

use std::collections::HashMap;
use std::sync::Arc;

use super::padding::strip_padding;
use super::pair::EncodedPair;
use super::{TooLong, common_prefix};
use crate::data::answer_set::{Comparison, InSet, Verdict};
use crate::data::prompt_id::{PairId, PromptId};
use crate::data::report::Origin;

/// A prompt with its answers as token ids.
///
/// Every answer is in a comparison and no two answers have the same tokens; answers are numbered in the order
/// of the comparisons, preferred first.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedSet {
    /// The index of the set among the sets given.
    pub row: usize,
    /// The file and line of the record.
    pub origin: Origin,
    /// The identity of the prompt, the same in every schema.
    pub prompt_id: PromptId,
    /// The length of the common prefix of all sequences; may be 0. Each sequence has at least one more token.
    /// The prefix may extend into the answers; [`EncodedAnswer::answer_start`] is the beginning of an answer.
    pub shared: usize,
    /// The answers.
    pub answers: Vec<EncodedAnswer>,
    /// The comparisons, in the order of the data.
    pub comparisons: Vec<EncodedComparison>,
}

/// An answer as token ids, including its prompt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EncodedAnswer {
    /// The whole sequence: the prompt, the answer and its end token. Never empty.
    pub ids: Vec<u32>,
    /// The index of the answer's first token, the same for all answers of a set: the length of the longest
    /// common prefix of all sequences and the tokens of the prompt alone, as TRL masks prompts
    /// (`common_prefix_length`). A token that covers the end of the prompt and the beginning of an answer
    /// belongs to the answer.
    pub answer_start: usize,
}

/// A comparison of two answers of an encoded set.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedComparison {
    /// The index of the preferred answer.
    pub chosen: u32,
    /// The index of the other answer.
    pub rejected: u32,
    /// The length of the common prefix of the two sequences. Each has at least one more token.
    pub cut: usize,
    /// The index of the comparison among all comparisons given.
    pub row: usize,
    /// The identity of the content, the same in every schema.
    pub id: PairId,
    /// A hash of both rendered texts, independent of order, file and batch size.
    pub identity: u64,
    /// The verdict in the data.
    pub verdict: Verdict,
    /// The margin of the preferred answer, if the data give one.
    pub margin: Option<f32>,
    /// The scores of both answers in the data, on the data's own scale.
    pub scores: Option<(f64, f64)>,
    /// The position in a ranked set, with indices of the file.
    pub in_set: Option<InSet>,
    /// The prompt and answers for people and sentence encoders. Comparisons of a set share them.
    pub texts: Texts,
}

/// The texts of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Texts {
    /// The prompt, with templates applied.
    pub prompt: Arc<str>,
    /// The preferred answer.
    pub chosen: Arc<str>,
    /// The other answer.
    pub rejected: Arc<str>,
}

/// Counts of the comparisons that a step removed or changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Comparisons with a sequence longer than the limit.
    pub too_long: usize,
    /// Comparisons of two answers that have the same tokens.
    pub identical: usize,
    /// Comparisons kept with a cut prompt.
    pub cut: usize,
}

impl EncodedSet {
    /// Creates a set from token sequences without texts, such as data tokenised by another tool: `prompt`
    /// precedes every answer, and `comparisons` refer to answers by index. Returns `None` if no comparison of
    /// two different non-empty answers is left.
    pub fn of_tokens(
        origin: Origin,
        prompt: &[u32],
        answers: &[Vec<u32>],
        comparisons: &[Comparison],
    ) -> Option<Self> {
        let answer =
            |ids: &Vec<u32>| EncodedAnswer { ids: [prompt, ids].concat(), answer_start: prompt.len() };
        let compared = |(row, comparison): (usize, &Comparison)| EncodedComparison {
            chosen: comparison.chosen,
            rejected: comparison.rejected,
            cut: 0,
            row,
            id: PairId::default(),
            identity: row as u64,
            verdict: comparison.verdict,
            margin: comparison.margin,
            scores: comparison.scores,
            in_set: None,
            texts: Texts::default(),
        };
        let has_tokens = |comparison: &EncodedComparison| {
            [comparison.chosen, comparison.rejected]
                .iter()
                .all(|answer| answers.get(*answer as usize).is_some_and(|ids| !ids.is_empty()))
        };
        let set = Self {
            row: 0,
            origin,
            prompt_id: PromptId::default(),
            shared: 0,
            answers: answers.iter().map(answer).collect(),
            comparisons: comparisons.iter().enumerate().map(compared).filter(has_tokens).collect(),
        };
        set.tidied(&mut Removed::default())
    }

    /// Returns the common prefix of all sequences.
    pub fn prompt(&self) -> &[u32] {
        self.answers.first().map_or(&[], |answer| &answer.ids[..self.shared])
    }

    /// Returns the tokens of an answer after the common prefix of all sequences.
    pub fn own<'a>(&self, answer: &'a EncodedAnswer) -> &'a [u32] {
        answer.ids.get(self.shared..).unwrap_or_default()
    }

    /// Returns a comparison of this set as a pair.
    pub fn view<'a>(&'a self, comparison: &'a EncodedComparison) -> EncodedPair<'a> {
        EncodedPair::of(self, comparison)
    }

    /// Returns all comparisons as pairs, in order.
    pub fn pairs(&self) -> impl Iterator<Item = EncodedPair<'_>> {
        self.comparisons.iter().map(|comparison| self.view(comparison))
    }

    /// Returns the number of tokens in the longest sequence.
    pub fn longest(&self) -> usize {
        self.answers.iter().map(|answer| answer.ids.len()).max().unwrap_or(0)
    }

    /// Returns the tokens of all sequences, with the prompt counted in each.
    pub fn tokens(&self) -> usize {
        self.answers.iter().map(|answer| answer.ids.len()).sum()
    }

    /// Returns the number of tokens in a packed batch, which counts the common prefix once.
    pub fn unique_tokens(&self) -> usize {
        self.tokens() - self.shared * self.answers.len().saturating_sub(1)
    }

    /// Keeps some of the comparisons and the answers in them; returns `None` if no comparison is left.
    pub fn retained(mut self, keep: impl FnMut(&EncodedComparison) -> bool) -> Option<Self> {
        self.comparisons.retain(keep);
        self.tidied(&mut Removed::default())
    }

    /// Returns each comparison as a set with its two answers.
    pub fn apart(&self) -> impl Iterator<Item = Self> {
        self.comparisons.iter().map(|comparison| {
            let answers = [comparison.chosen, comparison.rejected];
            Self {
                answers: answers.map(|answer| self.answers[answer as usize].clone()).to_vec(),
                comparisons: vec![EncodedComparison { chosen: 0, rejected: 1, ..comparison.clone() }],
                shared: comparison.cut,
                origin: self.origin.clone(),
                ..*self
            }
        })
    }

    /// Applies a limit on the tokens of a sequence; returns `None` if no comparison is left.
    ///
    /// [`TooLong::Drop`] removes the comparisons of longer answers. [`TooLong::CutPrompt`] shortens the
    /// common prefix from the left by the excess of the longest sequence, and removes the comparisons of an
    /// answer that is still too long. A `bos` at the beginning stays.
    pub fn within(
        mut self,
        most: usize,
        rule: TooLong,
        bos: Option<u32>,
        removed: &mut Removed,
    ) -> Option<Self> {
        if self.longest() <= most {
            return Some(self);
        }
        loop {
            let kept = usize::from(bos.is_some() && self.prompt().first().copied() == bos);
            let room = if rule == TooLong::Drop { 0 } else { self.shared - kept };
            let excess = self.longest().saturating_sub(most);
            if excess <= room {
                self.cut(kept, excess);
                removed.cut += if excess > 0 { self.comparisons.len() } else { 0 };
                return Some(self);
            }
            // Without the longest answer, the others may have a longer common prefix.
            let longest = if rule == TooLong::Drop { most + 1 } else { self.longest() };
            let is_short = |answer: u32| self.answers[answer as usize].ids.len() < longest;
            let count = self.comparisons.len();
            let mut comparisons = std::mem::take(&mut self.comparisons);
            comparisons.retain(|comparison| is_short(comparison.chosen) && is_short(comparison.rejected));
            removed.too_long += count - comparisons.len();
            self.comparisons = comparisons;
            self = self.tidied(removed)?;
        }
    }

    /// Removes `count` tokens from all prompts after the first `kept`.
    fn cut(&mut self, kept: usize, count: usize) {
        for answer in &mut self.answers {
            answer.ids.drain(kept..kept + count);
            answer.answer_start = answer.answer_start.saturating_sub(count).max(kept);
        }
        self.shared -= count;
        self.comparisons.iter_mut().for_each(|comparison| comparison.cut -= count);
    }

    /// Removes padding from the end of all sequences, as models do before scoring; returns `None` if no
    /// comparison is left.
    pub fn without_padding(mut self, pad: u32, removed: &mut Removed) -> Option<Self> {
        if self.answers.iter().all(|answer| answer.ids.last() != Some(&pad)) {
            return Some(self);
        }
        for answer in &mut self.answers {
            strip_padding(&mut answer.ids, pad);
            answer.answer_start = answer.answer_start.min(answer.ids.len());
        }
        self.tidied(removed)
    }

    /// Merges answers with equal tokens, removes comparisons of an answer with itself and answers that no
    /// comparison names, and recomputes the common prefixes.
    pub(super) fn tidied(mut self, removed: &mut Removed) -> Option<Self> {
        let Self { answers, comparisons, .. } = &mut self;
        let mut numbers: HashMap<&[u32], u32> = HashMap::new();
        let mut order: Vec<usize> = Vec::new();
        let before = comparisons.len();
        comparisons.retain_mut(|comparison| {
            let pair = [comparison.chosen, comparison.rejected].map(|answer| answer as usize);
            if answers[pair[0]].ids == answers[pair[1]].ids {
                return false;
            }
            [comparison.chosen, comparison.rejected] = pair.map(|answer| {
                *numbers.entry(&answers[answer].ids).or_insert_with(|| {
                    order.push(answer);
                    order.len() as u32 - 1
                })
            });
            true
        });
        removed.identical += before - comparisons.len();
        drop(numbers);
        self.answers = order.into_iter().map(|answer| std::mem::take(&mut answers[answer])).collect();
        self.shared = shared(self.answers.iter().map(|answer| &answer.ids[..]));
        for comparison in &mut self.comparisons {
            let own = [comparison.chosen, comparison.rejected]
                .map(|answer| &self.answers[answer as usize].ids[self.shared..]);
            comparison.cut = self.shared + shared(own);
        }
        (!self.comparisons.is_empty()).then_some(self)
    }
}

/// Returns the length of the common prefix of all sequences, leaving each at least one token to score.
fn shared<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> usize {
    let mut sequences = sequences.into_iter();
    let Some(first) = sequences.next() else { return 0 };
    sequences.fold(first.len().saturating_sub(1), |most, ids| {
        most.min(common_prefix(first, ids)).min(ids.len().saturating_sub(1))
    })
}

/// Returns all comparisons of the sets as pairs, in order.
pub fn pairs<'a>(sets: impl IntoIterator<Item = &'a EncodedSet>) -> impl Iterator<Item = EncodedPair<'a>> {
    sets.into_iter().flat_map(EncodedSet::pairs)
}
