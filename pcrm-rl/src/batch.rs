//! Sets of answers as packed batches, prompt ← answer, prompt ← answer, …, with the scores that a loss
//! compares.

use std::ops::Range;

use pcrm_core::data::encode::{EncodedPair, EncodedSet};
use pcrm_core::data::preference::Verdict;
#[cfg(doc)]
use pcrm_core::model::ModelConfig;
use pcrm_core::{Error, Packed, Result};
use serde::{Deserialize, Serialize};

/// The tokens whose scores a loss compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoreAt {
    /// At each sequence's last token (InstructGPT, TRL).
    #[default]
    Last,
    /// At every token from the first difference, up to the shorter length; the loss is their mean
    /// (DeepSpeed-Chat and the paper's code).
    DivergentMean,
}

/// One comparison of two scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// Index of the pair in the batch.
    pub pair: usize,
    /// Index of the preferred score among the requested scores.
    pub chosen: u32,
    /// Index of the dispreferred score.
    pub rejected: u32,
    /// Share of the comparison in the loss of its set.
    pub weight: f32,
}

/// An answer of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranked {
    /// Index of its last score among the requested scores.
    pub score: u32,
    /// Number of better answers in the set. Tied answers have the same number.
    pub losses: usize,
}

/// A packed batch of sets.
#[derive(Debug, Clone, Default)]
pub struct PairBatch {
    /// Tokens and their tree.
    pub packed: Packed,
    /// Rows of the requested scores, ascending.
    pub rows: Vec<usize>,
    /// Comparisons, by pair.
    pub terms: Vec<Term>,
    /// Last two scores of every pair: (preferred, dispreferred) indices among the requested scores.
    pub last: Vec<(u32, u32)>,
    /// Answers of every set.
    pub sets: Vec<Vec<Ranked>>,
    /// Length of the longest sequence, the padded length of all.
    pub longest: usize,
}

impl PairBatch {
    /// Packs sets in order; every answer of a set is computed once. A set with a sequence longer than
    /// `shares_up_to` does not share its prompt, if the model requires that ([`ModelConfig::shares_up_to`]).
    ///
    /// # Errors
    /// Fails if an answer has no tokens.
    pub fn new(sets: &[&EncodedSet], score_at: ScoreAt, shares_up_to: Option<usize>) -> Result<Self> {
        let mut batch = Self::default();
        for set in sets {
            batch.push(set, score_at, shares_up_to)?;
        }
        Ok(batch)
    }

    fn push(&mut self, set: &EncodedSet, score_at: ScoreAt, shares_up_to: Option<usize>) -> Result<()> {
        if set.answers.iter().any(|answer| set.own(answer).is_empty()) {
            return Err(Error::invalid("pair", format!("{}: an answer has no tokens", set.origin)));
        }
        let read: Vec<Range<usize>> = set.pairs().map(|pair| read(pair, set, score_at)).collect();
        let asked = self.tree(set, &read, shares_up_to)?;
        let share = 1.0 / set.comparisons.len() as f32;
        let mut losses = vec![0; set.answers.len()];
        for (comparison, read) in set.comparisons.iter().zip(read) {
            let [chosen, rejected] = [comparison.chosen, comparison.rejected].map(|answer| answer as usize);
            losses[rejected] += usize::from(comparison.verdict == Verdict::Preferred);
            let (chosen, rejected) = (&asked[chosen], &asked[rejected]);
            let (pair, last) = (self.last.len(), (chosen.last(), rejected.last()));
            match score_at {
                ScoreAt::Last => {
                    self.terms.push(Term { pair, chosen: last.0, rejected: last.1, weight: share });
                }
                ScoreAt::DivergentMean => {
                    let weight = share / read.len() as f32;
                    let term =
                        |row| Term { pair, chosen: chosen.at(row), rejected: rejected.at(row), weight };
                    self.terms.extend(read.map(term));
                }
            }
            self.last.push(last);
        }
        self.longest = self.longest.max(set.longest());
        let ranked = asked.iter().zip(losses).map(|(asked, losses)| Ranked { score: asked.last(), losses });
        self.sets.push(ranked.collect());
        Ok(())
    }

    /// Appends a set's answers. The requested rows are each answer's last one and those in `read`, of every
    /// comparison, counted from the end of the common prefix of the set's answers.
    fn tree(
        &mut self,
        set: &EncodedSet,
        read: &[Range<usize>],
        shares_up_to: Option<usize>,
    ) -> Result<Vec<Asked>> {
        let mut rows: Vec<Vec<usize>> =
            set.answers.iter().map(|answer| vec![set.own(answer).len() - 1]).collect();
        for (comparison, read) in set.comparisons.iter().zip(read) {
            rows[comparison.chosen as usize].extend(read.clone());
            rows[comparison.rejected as usize].extend(read.clone());
        }
        let shares = shares_up_to.is_none_or(|limit| set.longest() <= limit);
        let mut prompt = None;
        let mut asked = Vec::with_capacity(set.answers.len());
        for (number, (answer, mut rows)) in set.answers.iter().zip(rows).enumerate() {
            if set.shared > 0 && (number == 0 || !shares) {
                prompt = Some(self.packed.push(set.prompt(), None)?);
            }
            rows.sort_unstable();
            rows.dedup();
            let (start, first) = (self.packed.ids.len(), self.rows.len() as u32);
            self.packed.push(set.own(answer), prompt)?;
            self.rows.extend(rows.iter().map(|row| start + row));
            asked.push(Asked { first, rows });
        }
        Ok(asked)
    }

    /// Returns the number of pairs.
    pub fn pairs(&self) -> usize {
        self.last.len()
    }

    /// Returns the number of computed tokens: every answer, and every prompt once unless its answers may not
    /// share it.
    pub fn unique_tokens(&self) -> usize {
        self.packed.ids.len()
    }

    /// Returns the number of tokens of separate sequences: every answer with its own prompt, without padding
    /// (TRL's `num_tokens`).
    pub fn tokens(&self) -> usize {
        self.packed.tree.unshared_rows()
    }

    /// Returns the number of sequences.
    pub fn sequences(&self) -> usize {
        self.sets.iter().map(Vec::len).sum()
    }
}

/// Returns the rows that compare a pair token by token, counted from the end of the common prefix of the
/// set's answers.
fn read(pair: EncodedPair<'_>, set: &EncodedSet, score_at: ScoreAt) -> Range<usize> {
    match score_at {
        ScoreAt::Last => 0..0,
        ScoreAt::DivergentMean => {
            let start = pair.prompt.len() - set.shared;
            start..start + pair.chosen.len().min(pair.rejected.len())
        }
    }
}

/// The requested scores of one answer.
struct Asked {
    /// Index of the first one.
    first: u32,
    /// Rows, ascending.
    rows: Vec<usize>,
}

impl Asked {
    fn at(&self, row: usize) -> u32 {
        self.first + self.rows.partition_point(|asked| *asked < row) as u32
    }

    fn last(&self) -> u32 {
        self.first + self.rows.len().saturating_sub(1) as u32
    }
}
