//! Answers as packed batches, prompt ← answer, prompt ← answer, …, with the rows that predict every answer's
//! tokens.

use std::ops::Range;

use pcrm_core::data::encode::{EncodedAnswer, EncodedSet};
#[cfg(doc)]
use pcrm_core::model::ModelConfig;
use pcrm_core::{Error, Packed, Result};

/// A packed batch of sets, with a query for every token of every answer. Row `rows[i]` predicts token
/// `targets[i]`.
///
/// The last row of a prompt predicts the first token of every answer, so rows repeat.
#[derive(Debug, Clone, Default)]
pub struct AnswerBatch {
    /// Tokens and their tree.
    pub packed: Packed,
    /// Queried rows.
    pub rows: Vec<usize>,
    /// Token to predict at each row.
    pub targets: Vec<u32>,
    /// Range of queries for every answer, by set.
    pub answers: Vec<Range<usize>>,
    /// Range of queries for the prompt before every answer; empty unless requested.
    pub prompts: Vec<Range<usize>>,
    /// Length of the longest sequence, the padded length of all.
    pub longest: usize,
}

/// Returns the predicted tokens of an answer: all from its start, except the first of a sequence.
pub fn predicted(answer: &EncodedAnswer) -> Range<usize> {
    answer.answer_start.max(1).min(answer.ids.len())..answer.ids.len()
}

impl AnswerBatch {
    /// Packs sets in order; every answer of a set is computed once, with a shared prompt. A set with a
    /// sequence longer than `shares_up_to` does not share its prompt, if the model requires that
    /// ([`ModelConfig::shares_up_to`]). `with_prompts` adds queries for the tokens of prompts.
    ///
    /// # Errors
    /// Fails if an answer of a set has no tokens of its own.
    pub fn new(sets: &[&EncodedSet], with_prompts: bool, shares_up_to: Option<usize>) -> Result<Self> {
        let mut batch = Self::default();
        sets.iter().try_for_each(|set| batch.push(set, with_prompts, shares_up_to))?;
        Ok(batch)
    }

    fn push(&mut self, set: &EncodedSet, with_prompts: bool, shares_up_to: Option<usize>) -> Result<()> {
        if set.answers.iter().any(|answer| set.own(answer).is_empty()) {
            return Err(Error::invalid("pair", format!("{}: an answer has no tokens", set.origin)));
        }
        let shares = shares_up_to.is_none_or(|limit| set.longest() <= limit);
        let (mut prompt, mut prompt_start) = (None, 0);
        for (number, answer) in set.answers.iter().enumerate() {
            if set.shared > 0 && (number == 0 || !shares) {
                prompt_start = self.packed.ids.len();
                prompt = Some(self.packed.push(set.prompt(), None)?);
            }
            let own_start = self.packed.ids.len();
            self.packed.push(set.own(answer), prompt)?;
            let row = |at: usize| match at < set.shared {
                true => prompt_start + at,
                false => own_start + at - set.shared,
            };
            let mut ask = |tokens: Range<usize>| {
                let first = self.rows.len();
                for at in tokens {
                    self.rows.push(row(at - 1)); // a token is predicted by the row before it
                    self.targets.push(answer.ids[at]);
                }
                first..self.rows.len()
            };
            let of_answer = predicted(answer);
            let of_prompt = if with_prompts { 1..of_answer.start } else { 1..1 };
            self.answers.push(ask(of_answer));
            self.prompts.push(ask(of_prompt));
        }
        self.longest = self.longest.max(set.longest());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use pcrm_core::data::preference::{Comparison, Origin};

    use super::*;

    /// Protects: the row that predicts each token, if answers share their beginning, and with queries for
    /// prompts.
    #[test]
    fn every_token_is_asked_of_the_row_before_it() -> Result<()> {
        let origin = Origin { file: Arc::from(Path::new("x")), line: 1, record: 1 };
        // The answers share their first token, which is therefore packed with the prompt.
        let answers = [vec![7, 8, 9], vec![7, 5]];
        let set = EncodedSet::of_tokens(origin, &[1, 2], &answers, &[Comparison::preferring(0, 1)])
            .ok_or_else(|| Error::invalid("set", "empty"))?;
        let batch = AnswerBatch::new(&[&set], false, None)?;
        assert_eq!(batch.packed.ids, [1, 2, 7, 8, 9, 5]);
        assert_eq!(batch.answers, [0..3, 3..5]);
        assert_eq!((batch.rows, batch.targets), (vec![1, 2, 3, 1, 2], vec![7, 8, 9, 7, 5]));
        let batch = AnswerBatch::new(&[&set], true, Some(2))?;
        assert_eq!(batch.packed.ids, [1, 2, 7, 8, 9, 1, 2, 7, 5]);
        assert_eq!(batch.prompts, [3..4, 6..7]);
        assert_eq!(batch.rows, [1, 2, 3, 0, 6, 7, 5]);
        assert_eq!(batch.targets, [7, 8, 9, 2, 7, 5, 2]);
        Ok(())
    }
}
