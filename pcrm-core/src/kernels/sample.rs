//! Drawing the next token of a sequence from its logits.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The distribution that tokens are drawn from, in the order of `transformers`: the repetition penalty, the temperature,
/// top-k, top-p, min-p.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filters {
    /// Logits are divided by this number; 0 takes the most likely token.
    pub temperature: f64,
    /// Only so many of the most likely tokens; 0: all.
    pub top_k: usize,
    /// Only the most likely tokens whose probabilities reach this sum; 1: all.
    pub top_p: f64,
    /// Only tokens at least this share as likely as the most likely one; 0: all.
    pub min_p: f64,
    /// Logits of tokens that the sequence has already are divided by this number, or multiplied where they are negative
    /// (arXiv 1909.05858); 1 leaves them alone.
    pub repetition_penalty: f64,
}

impl Default for Filters {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 }
    }
}

impl Filters {
    /// Takes the most likely token.
    pub const GREEDY: Self =
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 };

    /// Returns true if the most likely token is taken.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Returns true if tokens are drawn from another distribution than softmax(logits / temperature).
    pub fn is_filtered(&self) -> bool {
        let Self { top_k, top_p, min_p, repetition_penalty, .. } = *self;
        top_k > 0 || top_p < 1.0 || min_p > 0.0 || repetition_penalty != 1.0
    }

    /// Returns the temperature of the log-probabilities that are given with a token: 1 where the most likely is taken.
    pub fn stated_temperature(&self) -> f64 {
        if self.is_greedy() { 1.0 } else { self.temperature }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// A value out of its range, by name.
    pub fn check(&self) -> Result<()> {
        let Self { temperature, top_p, min_p, repetition_penalty, .. } = *self;
        let wrong = |name: &str, value: f64, expected: &str| {
            Err(Error::invalid(name, format!("{value}, expected {expected}")))
        };
        if !(temperature.is_finite() && temperature >= 0.0) {
            return wrong("temperature", temperature, "0 (greedy) or more");
        }
        if temperature > 0.0 && temperature < 1e-3 {
            return wrong("temperature", temperature, "0 (greedy) or at least 0.001");
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return wrong("top_p", top_p, "more than 0, at most 1");
        }
        if !(0.0..=1.0).contains(&min_p) {
            return wrong("min_p", min_p, "0 to 1");
        }
        if !(repetition_penalty.is_finite() && repetition_penalty > 0.0) {
            return wrong("repetition_penalty", repetition_penalty, "more than 0");
        }
        Ok(())
    }
}

/// The rows to draw for.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// The distribution.
    pub filters: Filters,
    /// The bound c of logits, c·tanh(l / c); `None`: none.
    pub soft_cap: Option<f64>,
    /// A number of [0, 1) for every row.
    pub uniforms: &'a [f64],
    /// The tokens of every row's sequence, which the repetition penalty reads; may be empty where there is none.
    pub tokens: &'a [&'a [u32]],
}

impl<'a> Draw<'a> {
    /// Returns the tokens that are penalised in a row.
    pub fn penalised(&self, row: usize) -> &'a [u32] {
        match self.filters.repetition_penalty == 1.0 {
            true => &[],
            false => self.tokens.get(row).copied().unwrap_or_default(),
        }
    }

    /// Checks that the rows fit.
    ///
    /// # Errors
    /// Other numbers of rows, filters out of range.
    pub fn check(&self, hidden: &Tensor, head: &Tensor) -> Result<()> {
        let (rows, shape) = (hidden.shape(), head.shape());
        let penalised = self.filters.repetition_penalty != 1.0;
        let fits = rows.len() == 2
            && shape.len() == 2
            && rows[1] == shape[1]
            && rows[0] == self.uniforms.len()
            && (!penalised || self.tokens.len() == rows[0]);
        if !fits {
            let message =
                "hidden must be [rows, width], the head [vocabulary, width], with a number for every row";
            return Err(Error::shape("sample", message, &[&rows, &shape]));
        }
        self.filters.check()
    }
}

/// A token that was drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// The token.
    pub id: u32,
    /// ln p under softmax(logits / temperature), unfiltered: what [`token_stats`](super::Kernels::token_stats) gives.
    pub log_prob: f32,
    /// ln p under the filtered distribution; `log_prob` where nothing is filtered.
    pub filtered: f32,
}
