//! The heads of scoring encoders: a pooled vector of the sequence, a dense layer with an activation, and the
//! output layer.

use super::weights::EncoderWeights;
use crate::dtype::DType;
use crate::error::Result;
use crate::model::Rows;
use crate::model::layers::{Linear, Norm};
use crate::model::lora::Noise;
use crate::tensor::{Tensor, Unary};
use crate::tree::Packed;

/// The pooling that gives the vector of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The hidden state of the first token.
    First,
    /// The mean of the hidden states of all tokens.
    Mean,
}

/// The head of a model family: names and settings of its parts.
#[derive(Debug, Clone)]
pub(super) struct HeadShape {
    pub pooling: Pooling,
    /// The name of the dense layer.
    pub dense: &'static str,
    pub has_bias: bool,
    pub activation: Unary,
    /// The name of the norm after the activation, and true if it has a bias.
    pub norm: Option<(&'static str, bool)>,
    /// The name of the layer that gives the score; it always has a bias.
    pub output: &'static str,
}

/// A scoring head, in f32.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pooling: Pooling,
    dense: Linear,
    activation: Unary,
    norm: Option<Norm>,
    output: Linear,
}

impl Head {
    /// Reads a head over hidden states of this width.
    ///
    /// # Errors
    /// Fails if a weight is missing or has another shape, as with several labels.
    pub fn read(shape: &HeadShape, width: usize, weights: &EncoderWeights<'_>) -> Result<Self> {
        let norm = |(name, has_bias): (&str, bool)| weights.norm(name, width, has_bias);
        Ok(Self {
            pooling: shape.pooling,
            dense: weights.linear(&[shape.dense.to_owned()], [width, width], shape.has_bias)?,
            activation: shape.activation,
            norm: shape.norm.map(norm).transpose()?,
            output: weights.linear(&[shape.output.to_owned()], [1, width], true)?,
        })
    }

    /// Computes the scores of whole sequences, f32 `[sequences]`; `states` gives hidden states of the batch.
    pub fn scores(
        &self,
        batch: &Packed,
        sequences: &[usize],
        states: impl FnOnce(Rows<'_>) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let segments = batch.tree.segments();
        let pooled = match self.pooling {
            Pooling::First => {
                let firsts: Vec<usize> = sequences.iter().map(|at| segments[*at].rows.start).collect();
                states(Rows::Only(&firsts))?.cast(DType::F32)?
            }
            Pooling::Mean => {
                let all = states(Rows::All)?.cast(DType::F32)?;
                let mean =
                    |at: &usize| all.narrow(0, segments[*at].rows.start, segments[*at].rows.len())?.mean(0);
                let means = sequences.iter().map(mean).collect::<Result<Vec<_>>>()?;
                Tensor::concat(&means.iter().collect::<Vec<_>>(), 0)?
            }
        };
        let dense = self.dense.forward(&pooled, Noise::NONE)?;
        let mut active = activated(&dense, self.activation)?;
        if let Some(norm) = &self.norm {
            active = norm.forward(&active)?;
        }
        self.output.forward(&active, Noise::NONE)?.reshape([sequences.len()])
    }
}

/// Applies an activation, with the fused operation if there is one.
pub(super) fn activated(x: &Tensor, activation: Unary) -> Result<Tensor> {
    match activation {
        op @ (Unary::Gelu | Unary::GeluTanh) => x.kernels().gelu(x, op),
        other => x.unary(other),
    }
}
