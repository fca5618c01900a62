//! Sampling of a sequence's next token from its logits.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The distribution to sample from. Filters apply in the order of `transformers`: repetition penalty,
/// temperature, top-k, top-p, min-p.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filters {
    /// The divisor of logits; 0 takes the most likely token.
    pub temperature: f64,
    /// The number of most likely tokens to keep; 0: all.
    pub top_k: usize,
    /// The probability mass of the most likely tokens to keep; 1: all.
    pub top_p: f64,
    /// The smallest probability to keep, relative to the most likely token's; 0: all.
    pub min_p: f64,
    /// The divisor of the logits of tokens that are already in the sequence, or the factor if they are
    /// negative (arXiv 1909.05858); 1: no penalty.
    pub repetition_penalty: f64,
}

impl Default for Filters {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 }
    }
}

impl Filters {
    /// The filters that take the most likely token.
    pub const GREEDY: Self =
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 };

    /// Returns whether the most likely token is taken.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Returns whether the distribution differs from softmax(logits / temperature).
    pub fn is_filtered(&self) -> bool {
        let Self { top_k, top_p, min_p, repetition_penalty, .. } = *self;
        top_k > 0 || top_p < 1.0 || min_p > 0.0 || repetition_penalty != 1.0
    }

    /// Returns the temperature of the log-probabilities that are returned with a token: 1 for greedy
    /// sampling.
    pub fn stated_temperature(&self) -> f64 {
        if self.is_greedy() { 1.0 } else { self.temperature }
    }

    /// Checks that values are in range.
    ///
    /// # Errors
    /// Fails with the name of a value that is out of range.
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

/// A sampling request for a batch of rows.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// The distribution.
    pub filters: Filters,
    /// The soft cap c of logits, c·tanh(l / c); `None`: no cap.
    pub soft_cap: Option<f64>,
    /// A random number in [0, 1) per row.
    pub uniforms: &'a [f64],
    /// The tokens of every row's sequence, for the repetition penalty; may be empty without one.
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

    /// Checks that the operands match.
    ///
    /// # Errors
    /// Fails if numbers of rows differ or a filter is out of range.
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
                "hidden must be [rows, width], the head [vocabulary, width], with one random number per row";
            return Err(Error::shape("sample", message, &[&rows, &shape]));
        }
        self.filters.check()
    }
}

/// A sampled token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// The token.
    pub id: u32,
    /// ln p under softmax(logits / temperature), unfiltered, as in
    /// [`token_stats`](super::Kernels::token_stats).
    pub log_prob: f32,
    /// ln p under the filtered distribution; equals `log_prob` without filters.
    pub filtered: f32,
}
