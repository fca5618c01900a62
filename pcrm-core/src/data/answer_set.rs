//! The unit of preference data: a prompt, its answers, and comparisons of them.

use serde::{Deserialize, Serialize};

use super::conversation::Content;
use super::report::Origin;

/// A prompt with its answers. A pair is a set of two: answer 0 is preferred, answer 1 is not.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerSet {
    /// The place of the record.
    pub origin: Origin,
    /// The prompt; `None` if every answer contains it.
    pub prompt: Option<Content>,
    /// The answers, in the order of the file; those of a pair, preferred first.
    pub answers: Vec<Content>,
    /// The comparisons, at most one for any two answers, ordered by the smaller and then the larger of their
    /// numbers: 0 and 1, 0 and 2, .., 1 and 2, ..
    pub comparisons: Vec<Comparison>,
    /// The number of a ranked set among those of its file, from 0; sets that are left out have numbers too.
    /// `None` for a record that is one pair.
    pub ranked: Option<u32>,
}

/// A comparison of two answers of a set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The index of the preferred answer; of a tie, of the first.
    pub chosen: u32,
    /// The index of the other answer.
    pub rejected: u32,
    /// The verdict of the data.
    pub verdict: Verdict,
    /// How much better the preferred answer is, where the data say so.
    pub margin: Option<f32>,
    /// The scores of both answers in the data, preferred first, on a scale of the data's own.
    pub scores: Option<(f64, f64)>,
}

impl Comparison {
    /// A comparison that the first answer wins, without a margin and scores.
    pub fn preferring(chosen: u32, rejected: u32) -> Self {
        Self { chosen, rejected, verdict: Verdict::Preferred, margin: None, scores: None }
    }
}

/// The verdict of the data on two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The first answer is better.
    #[default]
    Preferred,
    /// Neither is better: a margin of 0, or equal scores or ranks. The file's first answer comes first.
    Tied,
}

/// The answers of a ranked set that a pair compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InSet {
    /// The number of the set within its file, from 0. Sets that yield no pair have numbers too.
    pub set: u32,
    /// The index of the preferred answer, in the order of the file.
    pub chosen: u32,
    /// The index of the other answer.
    pub rejected: u32,
}

/// The treatment of comparisons that prefer neither answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ties {
    /// Leave them out and count them.
    #[default]
    Drop,
    /// Keep them as comparisons with [`Verdict::Tied`].
    Keep,
}

/// One comparison of a set as a pair: a view that copies no text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preference<'a> {
    /// The place of the record.
    pub origin: &'a Origin,
    /// The prompt; `None` if both answers contain it.
    pub prompt: Option<&'a Content>,
    /// The preferred answer.
    pub chosen: &'a Content,
    /// The other answer.
    pub rejected: &'a Content,
    /// How much better the preferred answer is, where the data say so.
    pub margin: Option<f32>,
    /// The scores of both answers in the data, on a scale of the data's own.
    pub scores: Option<(f64, f64)>,
    /// The verdict of the data.
    pub verdict: Verdict,
    /// The place in a ranked set; `None` for a record that is one pair.
    pub in_set: Option<InSet>,
}

impl AnswerSet {
    /// A pair whose first answer is preferred, without a margin and scores.
    pub fn pair(origin: Origin, prompt: Option<Content>, chosen: Content, rejected: Content) -> Self {
        let comparisons = vec![Comparison::preferring(0, 1)];
        Self { origin, prompt, answers: vec![chosen, rejected], comparisons, ranked: None }
    }

    /// The view of a comparison of this set's answers.
    ///
    /// # Panics
    /// An index beyond the answers; [`encode_sets`](super::encode::encode_sets) refuses such a set.
    pub fn view(&self, comparison: &Comparison) -> Preference<'_> {
        let Comparison { chosen, rejected, verdict, margin, scores } = *comparison;
        Preference {
            origin: &self.origin,
            prompt: self.prompt.as_ref(),
            chosen: &self.answers[chosen as usize],
            rejected: &self.answers[rejected as usize],
            margin,
            scores,
            verdict,
            in_set: self.in_set(comparison),
        }
    }

    /// The views of all comparisons, in order.
    pub fn pairs(&self) -> impl Iterator<Item = Preference<'_>> {
        self.comparisons.iter().map(|comparison| self.view(comparison))
    }

    pub(super) fn in_set(&self, comparison: &Comparison) -> Option<InSet> {
        let Comparison { chosen, rejected, .. } = *comparison;
        self.ranked.map(|set| InSet { set, chosen, rejected })
    }
}

/// The views of all comparisons of some sets, in order.
pub fn pairs(sets: &[AnswerSet]) -> impl Iterator<Item = Preference<'_>> {
    sets.iter().flat_map(AnswerSet::pairs)
}
