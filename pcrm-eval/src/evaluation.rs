//! Scored pairs, and scored sets of answers with the pairs they form.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::answers::AnswerSet;
use crate::error::Result;
use crate::reward::PairScore;
use crate::temperature;

/// The unit of answer lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthUnit {
    /// Tokens of the model.
    #[default]
    Tokens,
    /// Words separated by whitespace, for scores that came without tokens.
    Words,
}

/// The input of a report, in the order of the data.
#[derive(Debug, Clone, Default)]
pub struct Evaluation {
    pairs: Vec<PairScore>,
    subsets: Vec<Option<String>>,
    prompts: Vec<usize>,
    sets: Vec<AnswerSet>,
    numbers: HashMap<String, usize>,
    next: usize,
    /// Folds by prompt number, where known.
    folds: HashMap<usize, usize>,
    /// Unit of the answer lengths.
    pub unit: LengthUnit,
}

impl Evaluation {
    /// Creates an empty evaluation with lengths in this unit.
    pub fn new(unit: LengthUnit) -> Self {
        Self { unit, ..Self::default() }
    }

    /// Creates an evaluation of pairs without subsets, each with its own prompt.
    pub fn of_pairs(pairs: Vec<PairScore>) -> Self {
        let mut evaluation = Self::default();
        for pair in pairs {
            evaluation.add_pair(pair, None, None);
        }
        evaluation
    }

    /// Adds a pair. Pairs with equal prompts are drawn together in the bootstrap; a pair without a prompt is
    /// drawn by itself.
    pub fn add_pair(&mut self, pair: PairScore, subset: Option<&str>, prompt: Option<&str>) {
        let number = self.number(prompt);
        self.pairs.push(pair);
        self.subsets.push(subset.map(str::to_owned));
        self.prompts.push(number);
    }

    /// Returns the number of a prompt: its own if it is known already.
    fn number(&mut self, prompt: Option<&str>) -> usize {
        let number = match prompt {
            Some(prompt) => *self.numbers.entry(prompt.to_owned()).or_insert(self.next),
            None => self.next,
        };
        self.next = self.next.max(number + 1);
        number
    }

    /// Adds a set of answers, and every pair of them with different labels. Pairs of sets with equal prompts are
    /// drawn together in the bootstrap.
    ///
    /// The similarity of such a pair is the ratio of its lengths, shorter / longer.
    ///
    /// # Errors
    /// Same as [`AnswerSet::check`].
    pub fn add_set(&mut self, set: AnswerSet) -> Result<()> {
        set.check()?;
        let number = self.number(set.prompt.as_deref());
        let length = |at: usize| set.lengths.get(at).copied().unwrap_or(0);
        for (better, worse) in set.pairs() {
            let (chosen_tokens, rejected_tokens) = (length(better), length(worse));
            let longer = chosen_tokens.max(rejected_tokens);
            self.pairs.push(PairScore {
                chosen: set.scores[better],
                rejected: set.scores[worse],
                chosen_tokens,
                rejected_tokens,
                similarity: (longer > 0).then(|| chosen_tokens.min(rejected_tokens) as f64 / longer as f64),
                ..PairScore::default()
            });
            self.subsets.push(set.subset.clone());
            self.prompts.push(number);
        }
        self.sets.push(set);
        Ok(())
    }

    /// Returns the pairs.
    pub fn pairs(&self) -> &[PairScore] {
        &self.pairs
    }

    /// Returns the subset of every pair.
    pub fn subsets(&self) -> &[Option<String>] {
        &self.subsets
    }

    /// Returns the prompt number of every pair.
    pub fn prompts(&self) -> &[usize] {
        &self.prompts
    }

    /// Assigns prompts to folds by their texts, for cross-fitted temperatures.
    pub fn fold_prompts(&mut self, of: impl Fn(&str) -> usize) {
        self.folds = self.numbers.iter().map(|(text, number)| (*number, of(text))).collect();
    }

    /// Returns the fold of every pair: its prompt's if known, else one derived from the prompt's number.
    pub fn folds(&self) -> Vec<usize> {
        let of = |prompt: &usize| self.folds.get(prompt).copied().unwrap_or(prompt % temperature::FOLDS);
        self.prompts.iter().map(of).collect()
    }

    /// Returns the sets of answers.
    pub fn sets(&self) -> &[AnswerSet] {
        &self.sets
    }

    /// Returns the margin of every pair.
    pub fn margins(&self) -> Vec<f64> {
        self.pairs.iter().map(PairScore::margin).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::Labels;

    /// Protects: the numbering of prompts, and the fields of pairs that come from a set.
    #[test]
    fn prompts_are_numbered() {
        let mut evaluation = Evaluation::default();
        let pair = PairScore::default();
        for prompt in [Some("a"), None, Some("b"), Some("a")] {
            evaluation.add_pair(pair, Some("s"), prompt);
        }
        let set = AnswerSet {
            id: "x".to_owned(),
            subset: Some("t".to_owned()),
            prompt: Some("b".to_owned()),
            scores: vec![1.0, 3.0, 2.0],
            lengths: vec![10, 5, 8],
            labels: Labels::Correct(vec![false, true, false]),
        };
        evaluation.add_set(set.clone()).unwrap();
        evaluation.add_set(AnswerSet { prompt: None, ..set }).unwrap();
        evaluation.add_pair(pair, None, None);
        assert_eq!(evaluation.prompts(), [0, 1, 2, 0, 2, 2, 3, 3, 4]);
        assert_eq!(evaluation.margins()[4..6], [2.0, 1.0]);
        let second = evaluation.pairs()[5];
        assert_eq!((second.chosen_tokens, second.rejected_tokens, second.similarity), (5, 8, Some(0.625)));
        assert_eq!(evaluation.subsets()[5].as_deref(), Some("t"));
    }
}
