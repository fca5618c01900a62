//! Statistics of tokens under a language model: log-probabilities, entropies and hits.

use super::LanguageModel;
use crate::error::Result;
use crate::kernels::{Ask, TokenStats};
use crate::model::Rows;
use crate::tensor::Tensor;
use crate::tree::Packed;

/// The options of token statistics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenQuestions {
    /// The divisor of logits.
    pub temperature: f64,
    /// True to compute the entropy of the next token as well.
    pub entropy: bool,
}

impl Default for TokenQuestions {
    fn default() -> Self {
        Self { temperature: 1.0, entropy: false }
    }
}

impl LanguageModel {
    /// Computes statistics of each of `targets` as the token after the row of the same index in `rows`. Rows
    /// may be in any order and repeat: the last row of a prompt predicts the first token of every answer.
    /// Logits are capped if the config has a cap.
    ///
    /// # Errors
    /// Fails as [`Decoder::forward`](crate::model::Decoder::forward) does, if `targets` and `rows` differ in
    /// length, if a target is outside the vocabulary, and if the temperature is not positive.
    pub fn token_stats(
        &self,
        batch: &Packed,
        rows: &[usize],
        targets: &[u32],
        how: TokenQuestions,
    ) -> Result<TokenStats> {
        Ok(self.balanced_stats(batch, rows, targets, how, false)?.0)
    }

    /// Computes statistics of tokens like [`LanguageModel::token_stats`] and, if the config sets
    /// `output_router_logits`, the routers' loss of
    /// [`Decoder::forward_balanced`](crate::model::Decoder::forward_balanced) times its coefficient.
    ///
    /// # Errors
    /// Fails as [`LanguageModel::token_stats`] does.
    pub fn trained_stats(
        &self,
        batch: &Packed,
        rows: &[usize],
        targets: &[u32],
        how: TokenQuestions,
    ) -> Result<(TokenStats, Option<Tensor>)> {
        let factor = self.config().mixture.as_ref().map_or(0.0, |mixture| mixture.balance);
        let (stats, balance) = self.balanced_stats(batch, rows, targets, how, factor != 0.0)?;
        Ok((stats, balance.map(|balance| balance.affine(factor, 0.0)).transpose()?))
    }

    fn balanced_stats(
        &self,
        batch: &Packed,
        rows: &[usize],
        targets: &[u32],
        how: TokenQuestions,
        balanced: bool,
    ) -> Result<(TokenStats, Option<Tensor>)> {
        let (distinct, places) = distinct(rows);
        let (hidden, balance) = match balanced {
            true => self.decoder.forward_balanced(batch, Rows::Only(&distinct))?,
            false => (self.decoder.forward(batch, Rows::Only(&distinct))?, None),
        };
        let TokenQuestions { temperature, entropy } = how;
        let soft_cap = self.config().logit_cap;
        let ask = Ask { rows: &places, targets, temperature, soft_cap, entropy };
        Ok((self.decoder.token_stats(&hidden, &ask)?, balance))
    }

    /// Computes ln p of `targets`, f32 `[targets]`, like [`LanguageModel::token_stats`].
    ///
    /// # Errors
    /// Fails as [`LanguageModel::token_stats`] does.
    pub fn log_probs(&self, batch: &Packed, rows: &[usize], targets: &[u32]) -> Result<Tensor> {
        Ok(self.token_stats(batch, rows, targets, TokenQuestions::default())?.log_probs)
    }
}

/// Returns the distinct rows, ascending, and the index of each row among them.
fn distinct(rows: &[usize]) -> (Vec<usize>, Vec<u32>) {
    let mut distinct = rows.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let place = |row: &usize| distinct.partition_point(|other| other < row) as u32;
    let places = rows.iter().map(place).collect();
    (distinct, places)
}

#[cfg(test)]
mod tests;
