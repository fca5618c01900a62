//! Mixtures of experts as data.

use super::Gated;

/// A mixture of experts: gated networks of which every token takes few.
#[derive(Debug)]
pub struct Experts {
    /// The router, `[experts, width]`, without bias.
    pub router: &'static str,
    /// What the names of expert N begin with, before N.
    pub prefix: &'static str,
    /// The matrices of an expert.
    pub expert: Gated,
    /// The key of the number of experts.
    pub count: &'static str,
    /// The key of an expert's width.
    pub width: &'static str,
    /// Whether the shares of a token's experts are divided by their sum.
    pub normalised: Normalised,
    /// Keys of the layers that have experts; `None`: all have.
    pub layers: Option<ExpertLayers>,
    /// A network that every token takes besides; `None`: there is none.
    pub shared: Option<SharedExpert>,
}

/// Whether the shares of a token's experts add up to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalised {
    /// They do.
    Always,
    /// They do where this flag of the config is true.
    Flag(&'static str),
}

/// Keys of the layers that have experts.
#[derive(Debug, Clone, Copy)]
pub struct ExpertLayers {
    /// n: only every n-th layer has experts.
    pub every: &'static str,
    /// A list of layers that have none, from 0.
    pub but: &'static str,
}

/// A network that every token takes, weighed by a gate.
#[derive(Debug, Clone, Copy)]
pub struct SharedExpert {
    /// The gate, `[1, width]`: the network's output is multiplied by σ(gate·x).
    pub gate: &'static str,
    /// The network.
    pub network: Gated,
    /// The key of its width.
    pub width: &'static str,
}
