//! A pair as token ids: what is shared, what is each answer's own, and how much that is.

use crate::constraint::PairView;
use crate::data::preference::{InSet, Origin, Verdict};
use crate::data::prompt_id::PairId;

/// A pair as token ids: a prompt that both sequences share, then what each has of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedPair {
    /// The pair's index among those that were given.
    pub row: usize,
    /// Its place.
    pub origin: Origin,
    /// The identity of its content, the same in every schema.
    pub id: PairId,
    /// The tokens that both sequences begin with; may be empty.
    pub prompt: Vec<u32>,
    /// The rest of the preferred sequence: never empty.
    pub chosen: Vec<u32>,
    /// The rest of the dispreferred sequence: never empty.
    pub rejected: Vec<u32>,
    /// By how much the data says that one is better.
    pub margin: Option<f32>,
    /// Whether one answer is better.
    pub verdict: Verdict,
    /// The ranked set that the pair comes from.
    pub in_set: Option<InSet>,
    /// A hash of both rendered texts: the same in any order, in any file and at any batch size.
    pub identity: u64,
    /// The prompt's text, templates applied.
    pub prompt_text: String,
    /// The preferred answer's text.
    pub chosen_text: String,
    /// The dispreferred answer's text.
    pub rejected_text: String,
}

impl EncodedPair {
    /// What a constraint may look at.
    pub fn view(&self) -> PairView<'_> {
        PairView {
            identity: self.identity,
            prompt_id: self.id.prompt,
            prompt: &self.prompt_text,
            chosen: &self.chosen_text,
            rejected: &self.rejected_text,
            chosen_ids: &self.chosen,
            rejected_ids: &self.rejected,
            margin: self.margin,
        }
    }

    /// Tokens of the longer sequence, as padding would have both.
    pub fn longest(&self) -> usize {
        self.prompt.len() + self.chosen.len().max(self.rejected.len())
    }

    /// Tokens of both sequences, the prompt counted twice.
    pub fn tokens(&self) -> usize {
        self.prompt.len() + self.unique_tokens()
    }

    /// Tokens that it takes in a packed batch, where the prompt is computed once.
    pub fn unique_tokens(&self) -> usize {
        self.prompt.len() + self.chosen.len() + self.rejected.len()
    }

    /// Takes padding ids off the ends of both sequences and cuts them anew.
    pub fn strip_padding(&mut self, pad: u32) {
        if self.chosen.last() != Some(&pad) && self.rejected.last() != Some(&pad) {
            return;
        }
        let full = |answer: &[u32]| {
            let mut ids = [&self.prompt, answer].concat();
            strip_padding(&mut ids, pad);
            ids
        };
        let (chosen, rejected) = (full(&self.chosen), full(&self.rejected));
        let cut = shared(&chosen, &rejected);
        self.prompt = chosen[..cut].to_vec();
        self.chosen = chosen[cut..].to_vec();
        self.rejected = rejected[cut..].to_vec();
    }
}

/// Takes padding ids off the end of a sequence; one token always stays.
///
/// `transformers` scores a sequence at its last token that is not padding; where a tokenizer pads with its
/// EOS that is the token before the EOS, and nothing after it counts.
pub fn strip_padding(ids: &mut Vec<u32>, pad: u32) {
    while ids.len() > 1 && ids.last() == Some(&pad) {
        ids.pop();
    }
}

/// How many tokens of two sequences are their common prompt. One may be the beginning of the other; each
/// still needs a last token of its own to be scored.
pub(super) fn shared(chosen: &[u32], rejected: &[u32]) -> usize {
    let common = chosen.iter().zip(rejected).take_while(|(left, right)| left == right).count();
    common.min(chosen.len() - 1).min(rejected.len() - 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;

    fn pair(prompt: &[u32], chosen: &[u32], rejected: &[u32]) -> EncodedPair {
        EncodedPair {
            row: 0,
            origin: Origin { file: Arc::from(Path::new("pairs.jsonl")), line: 1 },
            id: PairId::default(),
            prompt: prompt.to_vec(),
            chosen: chosen.to_vec(),
            rejected: rejected.to_vec(),
            margin: None,
            verdict: Verdict::Preferred,
            in_set: None,
            identity: 0,
            prompt_text: String::new(),
            chosen_text: String::new(),
            rejected_text: String::new(),
        }
    }

    /// Protects: a sequence is scored before its padding, wherever that leaves the end of the prompt.
    #[test]
    fn padding_goes_from_the_ends_alone() {
        for (before, after) in [
            (pair(&[1, 9], &[2, 9, 9], &[3, 9]), pair(&[1, 9], &[2], &[3])),
            (pair(&[1, 2], &[9], &[3, 9]), pair(&[1], &[2], &[2, 3])),
            (pair(&[9], &[9], &[3]), pair(&[], &[9], &[9, 3])),
            (pair(&[1], &[9, 2], &[3]), pair(&[1], &[9, 2], &[3])),
        ] {
            let mut stripped = before;
            stripped.strip_padding(9);
            assert_eq!(stripped, after);
        }
    }

    /// Protects: the counts by which batches are cut, against sums by hand.
    #[test]
    fn tokens_are_counted_with_prompts_once_and_twice() {
        let pair = pair(&[1, 2], &[3, 4, 5], &[6]);
        assert_eq!((pair.longest(), pair.tokens(), pair.unique_tokens()), (5, 8, 6));
    }
}
