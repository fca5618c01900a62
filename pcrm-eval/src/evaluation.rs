//! What a model scored: pairs, and sets of answers with the pairs in them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::answers::AnswerSet;
use crate::error::Result;
use crate::reward::PairScore;
use crate::temperature;

/// What lengths are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthUnit {
    /// The model's tokens.
    #[default]
    Tokens,
    /// Words between blanks, where scores came without tokens.
    Words,
}

/// Everything that a report is made of, in the order of the data.
#[derive(Debug, Clone, Default)]
pub struct Evaluation {
    pairs: Vec<PairScore>,
    subsets: Vec<Option<String>>,
    prompts: Vec<usize>,
    sets: Vec<AnswerSet>,
    numbers: HashMap<String, usize>,
    next: usize,
    /// The folds of prompts, by their number, where they are known.
    folds: HashMap<usize, usize>,
    /// What lengths are counted in.
    pub unit: LengthUnit,
}

impl Evaluation {
    /// Nothing yet, with lengths to be counted in this unit.
    pub fn new(unit: LengthUnit) -> Self {
        Self { unit, ..Self::default() }
    }

    /// Pairs without subsets, each of a prompt of its own.
    pub fn of_pairs(pairs: Vec<PairScore>) -> Self {
        let mut evaluation = Self::default();
        for pair in pairs {
            evaluation.add_pair(pair, None, None);
        }
        evaluation
    }

    /// Adds a pair. Pairs of an equal prompt are drawn together in the bootstrap; a pair without one stands alone.
    pub fn add_pair(&mut self, pair: PairScore, subset: Option<&str>, prompt: Option<&str>) {
        let number = match prompt {
            Some(prompt) => *self.numbers.entry(prompt.to_owned()).or_insert(self.next),
            None => self.next,
        };
        self.next = self.next.max(number + 1);
        self.pairs.push(pair);
        self.subsets.push(subset.map(str::to_owned));
        self.prompts.push(number);
    }

    /// Adds a set of answers, and every pair of them that its labels tell apart.
    ///
    /// The similarity of such a pair is that of the lengths, shorter / longer.
    ///
    /// # Errors
    /// Those of [`AnswerSet::check`].
    pub fn add_set(&mut self, set: AnswerSet) -> Result<()> {
        set.check()?;
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
            self.prompts.push(self.next);
        }
        self.next += 1;
        self.sets.push(set);
        Ok(())
    }

    /// The pairs.
    pub fn pairs(&self) -> &[PairScore] {
        &self.pairs
    }

    /// Every pair's subset.
    pub fn subsets(&self) -> &[Option<String>] {
        &self.subsets
    }

    /// The number of every pair's prompt.
    pub fn prompts(&self) -> &[usize] {
        &self.prompts
    }

    /// Puts prompts into folds by their texts, for temperatures that are fitted across folds.
    pub fn fold_prompts(&mut self, of: impl Fn(&str) -> usize) {
        self.folds = self.numbers.iter().map(|(text, number)| (*number, of(text))).collect();
    }

    /// Every pair's fold: that of its prompt, or, where it is unknown, by the prompt's number.
    pub fn folds(&self) -> Vec<usize> {
        let of = |prompt: &usize| self.folds.get(prompt).copied().unwrap_or(prompt % temperature::FOLDS);
        self.prompts.iter().map(of).collect()
    }

    /// The sets of answers.
    pub fn sets(&self) -> &[AnswerSet] {
        &self.sets
    }

    /// Every pair's margin.
    pub fn margins(&self) -> Vec<f64> {
        self.pairs.iter().map(PairScore::margin).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::Labels;

    /// Protects: which pairs share a prompt, and what a set's pairs carry.
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
            scores: vec![1.0, 3.0, 2.0],
            lengths: vec![10, 5, 8],
            labels: Labels::Correct(vec![false, true, false]),
        };
        evaluation.add_set(set).unwrap();
        evaluation.add_pair(pair, None, None);
        assert_eq!(evaluation.prompts(), [0, 1, 2, 0, 3, 3, 4]);
        assert_eq!(evaluation.margins()[4..6], [2.0, 1.0]);
        let second = evaluation.pairs()[5];
        assert_eq!((second.chosen_tokens, second.rejected_tokens, second.similarity), (5, 8, Some(0.625)));
        assert_eq!(evaluation.subsets()[5].as_deref(), Some("t"));
    }
}
