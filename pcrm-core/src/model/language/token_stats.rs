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

/// The routers' loss of a mixture of experts, which training adds to its own.
#[derive(Debug, Clone)]
pub struct RouterLoss {
    /// The loss of [`Decoder::forward_balanced`](crate::model::Decoder::forward_balanced), without its
    /// coefficient: a scalar with history.
    pub value: Tensor,
    /// The factor of the loss: `router_aux_loss_coef` of the config.
    pub coefficient: f64,
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
        let (distinct, places) = distinct(rows);
        let hidden = self.decoder.forward(batch, Rows::Only(&distinct))?;
        self.stats_of(&hidden, &places, targets, how)
    }

    /// Computes statistics of tokens like [`LanguageModel::token_stats`], and the routers' loss of
    /// [`LanguageModel::trained_states`].
    ///
    /// # Errors
    /// Fails as [`LanguageModel::token_stats`] does.
    pub fn trained_stats(
        &self,
        batch: &Packed,
        rows: &[usize],
        targets: &[u32],
        how: TokenQuestions,
    ) -> Result<(TokenStats, Option<RouterLoss>)> {
        let (distinct, places) = distinct(rows);
        let (hidden, routers) = self.trained_states(batch, Rows::Only(&distinct))?;
        Ok((self.stats_of(&hidden, &places, targets, how)?, routers))
    }

    /// Computes what the head reads like [`Decoder::forward`](crate::model::Decoder::forward). If the model is a
    /// mixture of experts whose config sets `output_router_logits`, with a coefficient other than 0, also
    /// computes its routers' loss.
    ///
    /// # Errors
    /// Fails as [`Decoder::forward`](crate::model::Decoder::forward) does.
    pub fn trained_states(&self, batch: &Packed, rows: Rows<'_>) -> Result<(Tensor, Option<RouterLoss>)> {
        let coefficient = self.config().mixture.as_ref().map_or(0.0, |mixture| mixture.balance);
        if coefficient == 0.0 {
            return Ok((self.decoder.forward(batch, rows)?, None));
        }
        let (hidden, value) = self.decoder.forward_balanced(batch, rows)?;
        Ok((hidden, value.map(|value| RouterLoss { value, coefficient })))
    }

    fn stats_of(
        &self,
        hidden: &Tensor,
        places: &[u32],
        targets: &[u32],
        how: TokenQuestions,
    ) -> Result<TokenStats> {
        let TokenQuestions { temperature, entropy } = how;
        let soft_cap = self.config().logit_cap;
        let ask = Ask { rows: places, targets, temperature, soft_cap, entropy };
        self.decoder.token_stats(hidden, &ask)
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
