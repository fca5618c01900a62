//! One layer: attention and a feed-forward network around a residual stream.

use super::attention::Attention;
use super::cached::Memory;
use super::feed_forward::FeedForward;
use super::{Names, Pass};
use crate::error::Result;
use crate::model::config::Residual;
use crate::model::layers::Norm;
use crate::model::{Rows, select};
use crate::params::Params;
use crate::tensor::Tensor;

#[derive(Debug, Clone)]
pub(super) struct Layer {
    attention_norm: Option<Norm>,
    attention: Attention,
    feed_forward_norm: Option<Norm>,
    feed_forward: FeedForward,
    /// The norms after attention and after the feed-forward network.
    post_norms: Option<[Norm; 2]>,
    residual: Residual,
    /// The factor on outputs before they are added to the residual stream.
    scale: f64,
}

/// The residual stream `[rows, width]` as a sum of two terms: the norm that reads it adds a sublayer's output.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    x: Tensor,
    addend: Option<Tensor>,
}

impl From<Tensor> for Stream {
    fn from(x: Tensor) -> Self {
        Self { x, addend: None }
    }
}

impl Stream {
    /// Returns the sum.
    pub fn sum(&self) -> Result<Tensor> {
        match &self.addend {
            Some(addend) => self.x.add(addend),
            None => Ok(self.x.clone()),
        }
    }

    /// Returns the sum and its norm; without a norm, the sum twice.
    pub fn normed(&self, norm: Option<&Norm>) -> Result<[Tensor; 2]> {
        match (norm, &self.addend) {
            (Some(norm), Some(addend)) => norm.forward_sum(&self.x, addend),
            (Some(norm), None) => Ok([self.x.clone(), norm.forward(&self.x)?]),
            (None, _) => {
                let sum = self.sum()?;
                Ok([sum.clone(), sum])
            }
        }
    }
}

impl Layer {
    /// Looks up the parameters of a layer; `rope` is the index of its rotary positions in the pass.
    pub fn of(params: &Params, at: &Names<'_>, rope: Option<usize>) -> Result<Self> {
        let config = at.config;
        let family = config.family;
        let norm = |name: &str| Norm::of(params, &at.name(name), family.norm, config.norm_eps);
        Ok(Self {
            attention_norm: family.attention_norm.map(norm).transpose()?,
            attention: Attention::of(params, at, rope)?,
            feed_forward_norm: family.mlp_norm.map(norm).transpose()?,
            feed_forward: FeedForward::of(params, at)?,
            post_norms: match family.post_norms {
                Some([attention, feed_forward]) => Some([norm(attention)?, norm(feed_forward)?]),
                None => None,
            },
            residual: config.residual,
            scale: config.residual_scale,
        })
    }

    /// Returns the same layer with its parameters replaced by those of `params`, where present.
    pub fn over(&self, params: &Params) -> Self {
        let over = |norm: &Norm| norm.over(params);
        Self {
            attention_norm: self.attention_norm.as_ref().map(over),
            attention: self.attention.over(params),
            feed_forward_norm: self.feed_forward_norm.as_ref().map(over),
            feed_forward: self.feed_forward.over(params),
            post_norms: self.post_norms.as_ref().map(|norms| norms.each_ref().map(over)),
            ..*self
        }
    }

    /// Computes the stream of all rows → that of the wanted rows.
    pub fn forward(
        &self,
        stream: &Stream,
        pass: &Pass,
        rows: Rows<'_>,
        memory: Memory<'_>,
    ) -> Result<Stream> {
        let before = self.attention_norm.as_ref().filter(|_| self.residual != Residual::Normed);
        let [x, read] = stream.normed(before)?;
        let attended = self.added(0, self.attention.forward(&read, pass, rows, memory)?)?;
        let x = select(&x, rows)?;
        match self.residual {
            Residual::Sequential => {
                let [x, read] =
                    Stream { x, addend: Some(attended) }.normed(self.feed_forward_norm.as_ref())?;
                let fed = self.added(1, self.feed_forward.forward(&read, pass, rows)?)?;
                Ok(Stream { x, addend: Some(fed) })
            }
            Residual::Parallel => {
                let read = match &self.feed_forward_norm {
                    Some(norm) => norm.forward(&x)?,
                    None => select(&read, rows)?,
                };
                let fed = self.added(1, self.feed_forward.forward(&read, pass, rows)?)?;
                Ok(fed.add(&attended)?.add(&x)?.into())
            }
            Residual::Normed => {
                let [_, x] = Stream { x, addend: Some(attended) }.normed(self.attention_norm.as_ref())?;
                let fed = self.added(1, self.feed_forward.forward(&x, pass, rows)?)?;
                let [_, x] = Stream { x, addend: Some(fed) }.normed(self.feed_forward_norm.as_ref())?;
                Ok(x.into())
            }
        }
    }

    /// Prepares the output of attention (0) or of the network (1) for addition to the residual stream.
    fn added(&self, at: usize, x: Tensor) -> Result<Tensor> {
        let x = match &self.post_norms {
            Some(norms) => norms[at].forward(&x)?,
            None => x,
        };
        if self.scale == 1.0 { Ok(x) } else { x.affine(self.scale, 0.0) }
    }
}
