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

    /// Computes x `[rows, width]` → `[wanted rows, width]`.
    pub fn forward(&self, x: &Tensor, pass: &Pass, rows: Rows<'_>, memory: Memory<'_>) -> Result<Tensor> {
        let read = match &self.attention_norm {
            Some(norm) => norm.forward(x)?,
            None => x.clone(),
        };
        let attended = self.added(0, self.attention.forward(&read, pass, rows, memory)?)?;
        let x = select(x, rows)?;
        match self.residual {
            Residual::Sequential => {
                let x = x.add(&attended)?;
                x.add(&self.fed(&x, &x, pass, rows)?)
            }
            Residual::Parallel => {
                let fed = match &self.feed_forward_norm {
                    Some(_) => self.fed(&x, &x, pass, rows)?,
                    None => self.fed(&x, &select(&read, rows)?, pass, rows)?,
                };
                fed.add(&attended)?.add(&x)
            }
        }
    }

    /// Computes the network's output; `otherwise` is its input if it has no norm.
    fn fed(&self, x: &Tensor, otherwise: &Tensor, pass: &Pass, rows: Rows<'_>) -> Result<Tensor> {
        let input = match &self.feed_forward_norm {
            Some(norm) => norm.forward(x)?,
            None => otherwise.clone(),
        };
        self.added(1, self.feed_forward.forward(&input, pass, rows)?)
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
