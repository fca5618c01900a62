//! One comparison of an encoded set as a pair: a view that copies no tokens and no text.

use super::set::{EncodedComparison, EncodedSet};
use crate::constraint::PairView;
use crate::data::answer_set::{InSet, Verdict};
use crate::data::prompt_id::PairId;
use crate::data::report::Origin;

/// A pair as token ids: the common prefix of both sequences, then the rest of each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EncodedPair<'a> {
    /// The index of the comparison among all comparisons given.
    pub row: usize,
    /// The file and line of the record.
    pub origin: &'a Origin,
    /// The identity of the content, the same in every schema.
    pub id: PairId,
    /// The common prefix of both sequences; may be empty.
    pub prompt: &'a [u32],
    /// The rest of the preferred sequence; never empty.
    pub chosen: &'a [u32],
    /// The rest of the other sequence; never empty.
    pub rejected: &'a [u32],
    /// The margin of the preferred answer, if the data give one.
    pub margin: Option<f32>,
    /// The scores of both answers in the data, on the data's own scale.
    pub scores: Option<(f64, f64)>,
    /// The verdict in the data.
    pub verdict: Verdict,
    /// The position in a ranked set.
    pub in_set: Option<InSet>,
    /// A hash of both rendered texts, independent of order, file and batch size.
    pub identity: u64,
    /// The prompt's text with templates applied.
    pub prompt_text: &'a str,
    /// The preferred answer's text.
    pub chosen_text: &'a str,
    /// The other answer's text.
    pub rejected_text: &'a str,
}

impl<'a> EncodedPair<'a> {
    /// Returns a comparison of this set's answers as a pair.
    pub(super) fn of(set: &'a EncodedSet, comparison: &'a EncodedComparison) -> Self {
        let ids = |answer: u32| set.answers[answer as usize].ids.split_at(comparison.cut);
        let ((prompt, chosen), (_, rejected)) = (ids(comparison.chosen), ids(comparison.rejected));
        Self {
            row: comparison.row,
            origin: &set.origin,
            id: comparison.id,
            prompt,
            chosen,
            rejected,
            margin: comparison.margin,
            scores: comparison.scores,
            verdict: comparison.verdict,
            in_set: comparison.in_set,
            identity: comparison.identity,
            prompt_text: &comparison.texts.prompt,
            chosen_text: &comparison.texts.chosen,
            rejected_text: &comparison.texts.rejected,
        }
    }

    /// Returns the part that constraints may read.
    pub fn view(&self) -> PairView<'a> {
        PairView {
            identity: self.identity,
            prompt_id: self.id.prompt,
            prompt: self.prompt_text,
            chosen: self.chosen_text,
            rejected: self.rejected_text,
            chosen_ids: self.chosen,
            rejected_ids: self.rejected,
            margin: self.margin,
        }
    }

    /// Returns the number of tokens in the longer sequence.
    pub fn longest(&self) -> usize {
        self.prompt.len() + self.chosen.len().max(self.rejected.len())
    }

    /// Returns the tokens of both sequences, with the prompt counted twice.
    pub fn tokens(&self) -> usize {
        self.prompt.len() + self.unique_tokens()
    }

    /// Returns the tokens of both sequences, with the prompt counted once.
    pub fn unique_tokens(&self) -> usize {
        self.prompt.len() + self.chosen.len() + self.rejected.len()
    }
}
