//! A sample being decoded, with its tokens so far.

use pcrm_core::kernels::{Drawn, Filters};

use super::{Finish, Sample};

/// A sample being decoded.
#[derive(Debug)]
pub(super) struct Active {
    /// Index of its prompt.
    pub prompt: usize,
    /// Number among the prompt's samples.
    pub sample: usize,
    /// Number of tokens of the prompt.
    pub prompt_tokens: usize,
    /// Blocks of its sequence; the first ones may be shared.
    pub blocks: Vec<u32>,
    /// Tokens so far.
    pub made: Made,
}

/// The tokens of a sample so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Made {
    pub ids: Vec<u32>,
    pub log_probs: Vec<f32>,
    pub filtered: Vec<f32>,
}

impl Active {
    /// Returns the position of the last token, whose keys are not cached yet.
    pub fn position(&self) -> usize {
        self.prompt_tokens + self.made.ids.len() - 1
    }
}

impl Made {
    /// Appends a token.
    pub fn push(&mut self, drawn: Drawn, filters: Filters) {
        self.ids.push(drawn.id);
        self.log_probs.push(drawn.log_prob);
        if filters.is_filtered() || filters.is_greedy() {
            self.filtered.push(drawn.filtered);
        }
    }

    /// Returns the finished sample.
    pub fn into_sample(self, finish: Finish) -> Sample {
        let Self { ids, log_probs, filtered } = self;
        let filtered = (!filtered.is_empty()).then_some(filtered);
        Sample { ids, log_probs, filtered, finish }
    }
}
