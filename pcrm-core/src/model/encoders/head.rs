//! The heads of encoders that score: one vector of a sequence, a layer with an activation, and a product.

use super::weights::EncoderWeights;
use crate::dtype::DType;
use crate::error::Result;
use crate::model::Rows;
use crate::model::layers::{Linear, Norm};
use crate::model::lora::Noise;
use crate::tensor::{Tensor, Unary};
use crate::tree::Packed;

/// The vector that stands for a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The hidden state of its first token.
    First,
    /// The mean of all of them.
    Mean,
}

/// A family's head: names of its parts and what they do.
#[derive(Debug, Clone)]
pub(super) struct HeadShape {
    pub pooling: Pooling,
    /// The dense layer.
    pub dense: &'static str,
    pub has_bias: bool,
    pub activation: Unary,
    /// The norm after the activation, and whether it has a bias.
    pub norm: Option<(&'static str, bool)>,
    /// The layer that gives the score, which always has a bias.
    pub output: &'static str,
}

/// A head, in f32.
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
    /// A weight that is missing or has another shape: several labels.
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

/// An activation, by the fused operation where there is one.
pub(super) fn activated(x: &Tensor, activation: Unary) -> Result<Tensor> {
    match activation {
        op @ (Unary::Gelu | Unary::GeluTanh) => x.kernels().gelu(x, op),
        other => x.unary(other),
    }
}
