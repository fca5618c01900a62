//! The unit of preference data: a prompt, its answers, and the comparisons between them.

use serde::{Deserialize, Serialize};

use super::conversation::Content;
use super::report::Origin;

/// A prompt with its answers. A pair is a set of two answers: 0 is preferred to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerSet {
    /// The file and line of the record.
    pub origin: Origin,
    /// The prompt; `None` if every answer contains it.
    pub prompt: Option<Content>,
    /// The answers in file order; in a pair, the preferred answer comes first.
    pub answers: Vec<Content>,
    /// The comparisons, at most one per two answers, ordered by the smaller and then the larger index: 0 and
    /// 1, 0 and 2, .., 1 and 2, ..
    pub comparisons: Vec<Comparison>,
    /// The number of a ranked set within its file, from 0, counting sets that are left out; `None` for a
    /// record that is one pair.
    pub ranked: Option<u32>,
}

/// A comparison of two answers of a set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The index of the preferred answer, or of the first answer of a tie.
    pub chosen: u32,
    /// The index of the other answer.
    pub rejected: u32,
    /// The verdict in the data.
    pub verdict: Verdict,
    /// The margin of the preferred answer, if the data give one.
    pub margin: Option<f32>,
    /// The scores of both answers in the data, preferred first, on the data's own scale.
    pub scores: Option<(f64, f64)>,
}

impl Comparison {
    /// Creates a comparison that the first answer wins, without a margin or scores.
    pub fn preferring(chosen: u32, rejected: u32) -> Self {
        Self { chosen, rejected, verdict: Verdict::Preferred, margin: None, scores: None }
    }
}

/// The verdict in the data on two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The first answer is better.
    #[default]
    Preferred,
    /// Neither is better: equal scores or ranks, or a label that says so. The first answer in the file comes
    /// first.
    Tied,
}

/// The two answers of a ranked set that a pair compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InSet {
    /// The number of the set within its file, from 0, counting sets that yield no pair.
    pub set: u32,
    /// The index of the preferred answer, in file order.
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
    /// The file and line of the record.
    pub origin: &'a Origin,
    /// The prompt; `None` if both answers contain it.
    pub prompt: Option<&'a Content>,
    /// The preferred answer.
    pub chosen: &'a Content,
    /// The other answer.
    pub rejected: &'a Content,
    /// The margin of the preferred answer, if the data give one.
    pub margin: Option<f32>,
    /// The scores of both answers in the data, on the data's own scale.
    pub scores: Option<(f64, f64)>,
    /// The verdict in the data.
    pub verdict: Verdict,
    /// The position in a ranked set; `None` for a record that is one pair.
    pub in_set: Option<InSet>,
}

impl AnswerSet {
    /// Creates a pair whose first answer is preferred, without a margin or scores.
    pub fn pair(origin: Origin, prompt: Option<Content>, chosen: Content, rejected: Content) -> Self {
        let comparisons = vec![Comparison::preferring(0, 1)];
        Self { origin, prompt, answers: vec![chosen, rejected], comparisons, ranked: None }
    }

    /// Returns the best answer: the first that no other is preferred to.
    pub fn best(&self) -> Option<&Content> {
        let beats = |comparison: &Comparison, at: u32| {
            comparison.verdict == Verdict::Preferred && comparison.rejected == at
        };
        let is_best = |at: u32| !self.comparisons.iter().any(|comparison| beats(comparison, at));
        (0..).zip(&self.answers).find(|(at, _)| is_best(*at)).map(|(_, answer)| answer)
    }

    /// Returns a comparison of this set's answers as a pair.
    ///
    /// # Panics
    /// Panics if an index is beyond the answers; [`encode_sets`](super::encode::encode_sets) refuses such a
    /// set.
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

    /// Returns all comparisons as pairs, in order.
    pub fn pairs(&self) -> impl Iterator<Item = Preference<'_>> {
        self.comparisons.iter().map(|comparison| self.view(comparison))
    }

    pub(super) fn in_set(&self, comparison: &Comparison) -> Option<InSet> {
        let Comparison { chosen, rejected, .. } = *comparison;
        self.ranked.map(|set| InSet { set, chosen, rejected })
    }
}

/// Returns all comparisons of the sets as pairs, in order.
pub fn pairs(sets: &[AnswerSet]) -> impl Iterator<Item = Preference<'_>> {
    sets.iter().flat_map(AnswerSet::pairs)
}
