//! The feed-forward network of a layer.

use super::experts::Experts;
use super::{Names, Pass};
use crate::error::Result;
use crate::model::Rows;
use crate::model::family::{Gated, Mlp};
use crate::model::layers::Linear;
use crate::model::lora::Noise;
use crate::params::Params;
use crate::tensor::{Tensor, Unary};

/// A single network or a mixture of them.
#[derive(Debug, Clone)]
pub(super) enum FeedForward {
    Dense(Box<Network>),
    Mixture(Box<Experts>),
}

/// A feed-forward network.
#[derive(Debug, Clone)]
pub(super) struct Network {
    inner: Inner,
    down: Linear,
    activation: Unary,
}

/// The map from the model's width to the network's.
#[derive(Debug, Clone)]
enum Inner {
    /// act(gate(x))·up(x)
    Gated { gate: Linear, up: Linear },
    /// As `Gated`, with a single matrix.
    GatedByOne(Linear),
    /// act(up(x))
    Plain(Linear),
}

impl FeedForward {
    pub fn of(params: &Params, at: &Names<'_>) -> Result<Self> {
        if let Some(experts) = Experts::find(params, at)? {
            return Ok(Self::Mixture(Box::new(experts)));
        }
        let linear = |name: &str| Linear::of(params, &at.name(name), at.adapters);
        let (inner, down) = match &at.config.family.mlp {
            Mlp::Gated(names) => {
                return Ok(Self::Dense(Box::new(Network::gated(params, at, &at.name(""), *names)?)));
            }
            Mlp::GatedByOne { gate_up, down } => (Inner::GatedByOne(linear(gate_up)?), down),
            Mlp::Plain { up, down } => (Inner::Plain(linear(up)?), down),
        };
        let network = Network { inner, down: linear(down)?, activation: at.config.activation };
        Ok(Self::Dense(Box::new(network)))
    }

    pub fn over(&self, params: &Params) -> Self {
        match self {
            Self::Dense(network) => Self::Dense(Box::new(network.over(params))),
            Self::Mixture(experts) => Self::Mixture(Box::new(experts.over(params))),
        }
    }

    /// Computes x `[wanted rows, width]` → `[wanted rows, width]`.
    pub fn forward(&self, x: &Tensor, pass: &Pass, rows: Rows<'_>) -> Result<Tensor> {
        match self {
            Self::Dense(network) => network.forward(x, pass.noise(rows)),
            Self::Mixture(experts) => experts.forward(x, pass, rows),
        }
    }
}

impl Network {
    /// Looks up a gated network whose names begin with `lead`.
    pub fn gated(params: &Params, at: &Names<'_>, lead: &str, names: Gated) -> Result<Self> {
        let linear = |name: &str| Linear::of(params, &format!("{lead}{name}"), at.adapters);
        let inner = Inner::Gated { gate: linear(names.gate)?, up: linear(names.up)? };
        Ok(Self { inner, down: linear(names.down)?, activation: at.config.activation })
    }

    pub fn over(&self, params: &Params) -> Self {
        let inner = match &self.inner {
            Inner::Gated { gate, up } => Inner::Gated { gate: gate.over(params), up: up.over(params) },
            Inner::GatedByOne(gate_up) => Inner::GatedByOne(gate_up.over(params)),
            Inner::Plain(up) => Inner::Plain(up.over(params)),
        };
        Self { inner, down: self.down.over(params), activation: self.activation }
    }

    /// Adds the weights that want gradients.
    pub fn trained(&self, all: &mut Vec<Tensor>) {
        match &self.inner {
            Inner::Gated { gate, up } => [gate, up].iter().for_each(|linear| linear.trained(all)),
            Inner::GatedByOne(one) | Inner::Plain(one) => one.trained(all),
        }
        self.down.trained(all);
    }

    /// Computes normalised x `[rows, width]` → `[rows, width]`.
    pub fn forward(&self, x: &Tensor, noise: Noise<'_>) -> Result<Tensor> {
        let hidden = match &self.inner {
            Inner::Gated { gate, up } => self.gate(&gate.forward(x, noise)?, &up.forward(x, noise)?)?,
            Inner::GatedByOne(gate_up) => {
                let both = gate_up.forward(x, noise)?;
                let ffn = both.shape()[1] / 2;
                self.gate(&both.narrow(1, 0, ffn)?, &both.narrow(1, ffn, ffn)?)?
            }
            Inner::Plain(up) => self.activate(&up.forward(x, noise)?)?,
        };
        self.down.forward(&hidden, noise)
    }

    fn gate(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        match self.activation {
            Unary::Silu => gate.kernels().swiglu(gate, up),
            _ => self.activate(gate)?.mul(up),
        }
    }

    fn activate(&self, x: &Tensor) -> Result<Tensor> {
        match self.activation {
            op @ (Unary::Gelu | Unary::GeluTanh) => x.kernels().gelu(x, op),
            other => x.unary(other),
        }
    }
}
