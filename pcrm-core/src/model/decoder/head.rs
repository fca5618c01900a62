//! The language-model head: logits, and token statistics without materialised logits.

use super::Decoder;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernels::{Ask, TokenStats};
use crate::tensor::{Tensor, Unary};

impl Decoder {
    /// Returns the matrix whose product with hidden states gives logits, `[vocabulary, width]`.
    ///
    /// # Errors
    /// Fails if the model was loaded without a language-model head.
    pub fn language_head(&self) -> Result<&Tensor> {
        match &self.language_head {
            Some(head) => Ok(head.tensor()),
            None if self.config.tied => Ok(self.embed.table()),
            None => Err(Error::invalid(self.config.family.language_head, "the model was loaded without it")),
        }
    }

    /// Returns the matrix of logits in the type of the computation, with the adapter's change added.
    pub(super) fn effective_head(&self) -> Result<Tensor> {
        let head = self.language_head()?;
        match &self.head_adapter {
            Some(adapter) => head.cast(DType::F32)?.add(&adapter.change()?)?.cast(self.compute),
            None => head.cast(self.compute),
        }
    }

    /// Computes the logits of hidden states, `[rows, vocabulary]`, scaled and capped according to the config.
    ///
    /// # Errors
    /// Fails as [`Decoder::language_head`] does.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let hidden = self.scaled(hidden)?;
        let logits = hidden.kernels().linear(&hidden, &self.effective_head()?, None)?;
        match self.config.logit_cap {
            Some(cap) => logits.affine(1.0 / cap, 0.0)?.unary(Unary::Tanh)?.affine(cap, 0.0),
            None => Ok(logits),
        }
    }

    /// Multiplies hidden states by the factor on logits.
    pub(super) fn scaled(&self, hidden: &Tensor) -> Result<Tensor> {
        match self.config.logit_scale == 1.0 {
            true => Ok(hidden.clone()),
            false => hidden.affine(self.config.logit_scale, 0.0),
        }
    }

    /// Computes statistics of tokens from hidden states, without materialising the logits.
    ///
    /// # Errors
    /// Fails as [`Decoder::language_head`] does, and if the request does not match the hidden states.
    pub fn token_stats(&self, hidden: &Tensor, ask: &Ask<'_>) -> Result<TokenStats> {
        let hidden = self.scaled(hidden)?;
        hidden.kernels().token_stats(&hidden, &self.effective_head()?, ask)
    }
}
