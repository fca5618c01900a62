//! One layer: attention and a feed-forward network around a residual stream.

use super::attention::Attention;
use super::cached::Memory;
use super::{Names, Pass};
use crate::error::Result;
use crate::model::config::Residual;
use crate::model::family::Mlp;
use crate::model::layers::{Linear, Norm};
use crate::model::lora::Noise;
use crate::model::{Rows, select};
use crate::params::Params;
use crate::tensor::{Tensor, Unary};

#[derive(Debug, Clone)]
pub(super) struct Layer {
    attention_norm: Norm,
    attention: Attention,
    feed_forward_norm: Norm,
    feed_forward: FeedForward,
    /// The norms after attention and after the feed-forward network.
    post_norms: Option<[Norm; 2]>,
    residual: Residual,
}

/// down(act(gate(x))·up(x)), or down(act(up(x))) without a gate.
#[derive(Debug, Clone)]
struct FeedForward {
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    activation: Unary,
}

impl Layer {
    /// Looks up the parameters of a layer; `rope` is its rotary positions' place in the pass.
    pub fn of(params: &Params, at: &Names<'_>, rope: Option<usize>) -> Result<Self> {
        let config = at.config;
        let family = config.family;
        let linear = |name: &str| Linear::of(params, &at.name(name), at.adapters);
        let norm = |name: &str| Norm::of(params, &at.name(name), family.norm, config.norm_eps);
        let (gate, up, down) = match &family.mlp {
            Mlp::Gated { gate, up, down } => (Some(linear(gate)?), up, down),
            Mlp::Plain { up, down } => (None, up, down),
        };
        Ok(Self {
            attention_norm: norm(family.attention_norm)?,
            attention: Attention::of(params, at, rope)?,
            feed_forward_norm: norm(family.mlp_norm)?,
            feed_forward: FeedForward {
                gate,
                up: linear(up)?,
                down: linear(down)?,
                activation: config.activation,
            },
            post_norms: match family.post_norms {
                Some([attention, feed_forward]) => Some([norm(attention)?, norm(feed_forward)?]),
                None => None,
            },
            residual: config.residual,
        })
    }

    /// Returns the same layer with those of `params` that it has in the place of its own.
    pub fn over(&self, params: &Params) -> Self {
        let FeedForward { gate, up, down, activation } = &self.feed_forward;
        Self {
            attention_norm: self.attention_norm.over(params),
            attention: self.attention.over(params),
            feed_forward_norm: self.feed_forward_norm.over(params),
            feed_forward: FeedForward {
                gate: gate.as_ref().map(|gate| gate.over(params)),
                up: up.over(params),
                down: down.over(params),
                activation: *activation,
            },
            post_norms: self.post_norms.as_ref().map(|norms| norms.each_ref().map(|norm| norm.over(params))),
            residual: self.residual,
        }
    }

    /// x `[rows, width]` → `[wanted rows, width]`.
    pub fn forward(&self, x: &Tensor, pass: &Pass, rows: Rows<'_>, memory: Memory<'_>) -> Result<Tensor> {
        let post = |at: usize, x: Tensor| match &self.post_norms {
            Some(norms) => norms[at].forward(&x),
            None => Ok(x),
        };
        let normed = self.attention_norm.forward(x)?;
        let attended = post(0, self.attention.forward(&normed, pass, rows, memory)?)?;
        let fed = |x: &Tensor| {
            post(1, self.feed_forward.forward(&self.feed_forward_norm.forward(x)?, pass.noise(rows))?)
        };
        let x = select(x, rows)?;
        match self.residual {
            Residual::Sequential => {
                let x = x.add(&attended)?;
                x.add(&fed(&x)?)
            }
            Residual::Parallel => fed(&x)?.add(&attended)?.add(&x),
        }
    }
}

impl FeedForward {
    /// x `[rows, width]`, normalised → `[rows, width]`.
    fn forward(&self, x: &Tensor, noise: Noise<'_>) -> Result<Tensor> {
        let activated = |x: &Tensor| match self.activation {
            op @ (Unary::Gelu | Unary::GeluTanh) => x.kernels().gelu(x, op),
            other => x.unary(other),
        };
        let hidden = match &self.gate {
            Some(gate) => {
                let (gate, up) = (gate.forward(x, noise)?, self.up.forward(x, noise)?);
                match self.activation {
                    Unary::Silu => gate.kernels().swiglu(&gate, &up)?,
                    _ => activated(&gate)?.mul(&up)?,
                }
            }
            None => activated(&self.up.forward(x, noise)?)?,
        };
        self.down.forward(&hidden, noise)
    }
}
