//! Statistics of the language-model head at chosen tokens: the input and output of
//! [`super::Kernels::token_stats`].

use std::ops::Range;

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The requested statistics. Question i is about token `targets[i]` after hidden row `rows[i]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ask<'a> {
    /// Rows of `hidden`, in any order. A row may repeat: the last row of a prompt predicts the first token of
    /// every answer to it.
    pub rows: &'a [u32],
    /// One token id per row.
    pub targets: &'a [u32],
    /// The divisor of logits before the softmax (after `soft_cap`).
    pub temperature: f64,
    /// The soft cap c: logits l become c·tanh(l / c) (Gemma 2, arXiv 2408.00118).
    pub soft_cap: Option<f64>,
    /// True to compute entropies as well.
    pub entropy: bool,
}

impl<'a> Ask<'a> {
    /// Requests log-probabilities alone, at temperature 1 and without a cap.
    pub fn log_probs(rows: &'a [u32], targets: &'a [u32]) -> Self {
        Self { rows, targets, temperature: 1.0, soft_cap: None, entropy: false }
    }

    /// Checks the request against its operands: hidden `[rows, width]`, head `[vocabulary, width]`.
    ///
    /// # Errors
    /// Fails if shapes do not match, if a row or a target does not exist, or if the temperature or the cap is
    /// not positive.
    pub fn check(&self, hidden: &Tensor, head: &Tensor) -> Result<()> {
        let (hidden, head) = (hidden.shape(), head.shape());
        let refuse = |message: String| Err(Error::shape("token_stats", message, &[&hidden, &head]));
        let (rows, vocabulary) = match (&hidden[..], &head[..]) {
            ([rows, a], [vocabulary, b]) if a == b => (*rows, *vocabulary),
            _ => return refuse("hidden must be [rows, width], the head [vocabulary, width]".to_owned()),
        };
        if self.rows.len() != self.targets.len() {
            return refuse(format!("{} rows and {} targets", self.rows.len(), self.targets.len()));
        }
        if let Some(row) = self.rows.iter().find(|row| **row as usize >= rows) {
            return refuse(format!("row {row} is outside the hidden rows"));
        }
        if let Some(target) = self.targets.iter().find(|target| **target as usize >= vocabulary) {
            return refuse(format!("target {target} is outside the vocabulary"));
        }
        let positive = |x: f64| x > 0.0 && x.is_finite();
        match (positive(self.temperature), self.soft_cap.is_none_or(positive)) {
            (true, true) => Ok(()),
            (false, _) => {
                Err(Error::invalid("temperature", format!("{}, expected more than 0", self.temperature)))
            }
            (true, false) => {
                let cap = self.soft_cap.unwrap_or_default();
                Err(Error::invalid("final_logit_softcapping", format!("{cap}, expected more than 0")))
            }
        }
    }
}

/// Statistics of the requested tokens, in the order of the questions.
#[derive(Debug, Clone)]
pub struct TokenStats {
    /// ln p(target), f32 `[asked]`, with history.
    pub log_probs: Tensor,
    /// −Σ p ln p over the vocabulary, f32 `[asked]`, with history; present if requested.
    pub entropy: Option<Tensor>,
    /// 1 where no token is more likely than the target, 0 elsewhere; f32 `[asked]`, without history.
    pub correct: Tensor,
}

impl TokenStats {
    /// Splits the joint tensor that a fused operation returns, so that it is differentiated once: the
    /// log-probabilities `[asked]`, or `[2, asked]` followed by the entropies.
    ///
    /// # Errors
    /// Fails with the backend's error.
    pub fn of_joint(joint: &Tensor, correct: Tensor) -> Result<Self> {
        let [_, asked] = joint.shape()[..] else {
            return Ok(Self { log_probs: joint.clone(), entropy: None, correct });
        };
        let part = |at: usize| joint.narrow(0, at, 1)?.reshape([asked]);
        Ok(Self { log_probs: part(0)?, entropy: Some(part(1)?), correct })
    }
}

/// An empty entry of [`Asked::questions`].
pub const NO_QUESTION: u32 = u32::MAX;

/// An [`Ask`] grouped by hidden row, for implementations: each distinct row is multiplied with the head once,
/// whatever its number of questions, and its gradient is a sum in a fixed order.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The distinct rows, ascending.
    pub rows: Vec<u32>,
    /// The largest number of questions about one row.
    pub per_row: usize,
    /// The questions about every row, `[rows, per_row]`, padded with [`NO_QUESTION`].
    pub questions: Vec<u32>,
    /// Their targets, `[rows, per_row]`, padded with 0.
    pub targets: Vec<u32>,
    /// The position of each question in `questions`, `[asked]`.
    pub places: Vec<u32>,
    /// See [`Ask::temperature`].
    pub temperature: f64,
    /// See [`Ask::soft_cap`].
    pub soft_cap: Option<f64>,
    /// See [`Ask::entropy`].
    pub entropy: bool,
}

impl Asked {
    /// Groups the questions by row.
    pub fn new(ask: &Ask<'_>) -> Self {
        let mut order: Vec<usize> = (0..ask.rows.len()).collect();
        order.sort_by_key(|question| ask.rows[*question]); // stable: questions of a row keep their order
        let by_row: Vec<&[usize]> = order.chunk_by(|a, b| ask.rows[*a] == ask.rows[*b]).collect();
        let per_row = by_row.iter().map(|questions| questions.len()).max().unwrap_or(1);
        let mut asked = Self {
            rows: by_row.iter().map(|questions| ask.rows[questions[0]]).collect(),
            per_row,
            questions: vec![NO_QUESTION; by_row.len() * per_row],
            targets: vec![0; by_row.len() * per_row],
            places: vec![0; ask.rows.len()],
            temperature: ask.temperature,
            soft_cap: ask.soft_cap,
            entropy: ask.entropy,
        };
        for (row, questions) in by_row.into_iter().enumerate() {
            for (at, question) in questions.iter().enumerate() {
                let place = row * per_row + at;
                asked.questions[place] = *question as u32;
                asked.targets[place] = ask.targets[*question];
                asked.places[*question] = place as u32;
            }
        }
        asked
    }

    /// Returns the number of questions.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Returns whether there are no questions.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns the distinct rows in chunks of at most `size`.
    pub fn chunks(&self, size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let rows = self.rows.len();
        (0..rows).step_by(size.max(1)).map(move |start| start..rows.min(start + size.max(1)))
    }

    /// Returns the first hidden row of a chunk if its rows are contiguous.
    pub fn run(&self, chunk: &Range<usize>) -> Option<usize> {
        let rows = &self.rows[chunk.clone()];
        let (first, last) = (*rows.first()? as usize, *rows.last()? as usize);
        (last - first + 1 == rows.len()).then_some(first)
    }

    /// Returns the range of a chunk's rows in `questions` and `targets`.
    pub fn places_of(&self, chunk: &Range<usize>) -> Range<usize> {
        chunk.start * self.per_row..chunk.end * self.per_row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_ordered_by_row_and_find_their_answers() {
        let asked = Asked::new(&Ask::log_probs(&[7, 2, 7, 3], &[10, 11, 12, 13]));
        assert_eq!(asked.rows, [2, 3, 7]);
        assert_eq!(asked.per_row, 2);
        assert_eq!(asked.questions, [1, NO_QUESTION, 3, NO_QUESTION, 0, 2]);
        assert_eq!(asked.targets, [11, 0, 13, 0, 10, 12]);
        assert_eq!(asked.places, [4, 0, 5, 2]);
        assert_eq!(asked.chunks(2).collect::<Vec<_>>(), [0..2, 2..3]);
        assert_eq!((asked.run(&(0..2)), asked.run(&(0..3))), (Some(2), None));
        let nothing = Asked::new(&Ask::log_probs(&[], &[]));
        assert!(nothing.is_empty() && nothing.chunks(5).next().is_none());
    }
}
