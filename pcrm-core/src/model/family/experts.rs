//! Mixtures of experts as data.

use super::Gated;

/// A mixture of experts: gated networks; every token uses a few of them.
#[derive(Debug)]
pub struct Experts {
    /// The router, `[experts, width]`, without bias.
    pub router: &'static str,
    /// The prefix of the names of expert N, before N.
    pub prefix: &'static str,
    /// The matrices of an expert.
    pub expert: Gated,
    /// The key of the number of experts.
    pub count: &'static str,
    /// The key of an expert's width.
    pub width: &'static str,
    /// The normalisation of the shares of a token's experts.
    pub normalised: Normalised,
    /// The keys of the layers that have experts; `None`: all layers.
    pub layers: Option<ExpertLayers>,
    /// An additional network that every token uses; `None`: there is none.
    pub shared: Option<SharedExpert>,
    /// True if the experts can have adapters. `transformers` holds the experts of a layer as one tensor; PEFT
    /// adapts it only in families that it has a mapping of names for, and ignores adapters of experts in others.
    pub adapted: bool,
}

impl Experts {
    /// Returns whether a module belongs to one of the experts, between which the router chooses.
    pub fn has_expert(&self, module: &str) -> bool {
        module.contains(&format!(".{}", self.prefix))
    }

    /// Returns whether a module is a router.
    pub fn is_router(&self, module: &str) -> bool {
        module.ends_with(&format!(".{}", self.router))
    }

    /// Returns whether a module is the gate of the network that every token uses.
    pub fn is_gate(&self, module: &str) -> bool {
        self.shared.is_some_and(|shared| module.ends_with(&format!(".{}", shared.gate)))
    }
}

/// The normalisation of the shares of a token's experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalised {
    /// They are divided by their sum.
    Always,
    /// They are divided by their sum if this config flag is true.
    Flag(&'static str),
}

/// The keys that select the layers with experts.
#[derive(Debug, Clone, Copy)]
pub struct ExpertLayers {
    /// The key of n: only every n-th layer has experts.
    pub every: &'static str,
    /// The key of a list of layers without experts, from 0.
    pub but: &'static str,
}

/// A network that every token uses, weighted by a gate.
#[derive(Debug, Clone, Copy)]
pub struct SharedExpert {
    /// The gate, `[1, width]`: the network's output is multiplied by σ(gate·x).
    pub gate: &'static str,
    /// The network.
    pub network: Gated,
    /// The key of its width.
    pub width: &'static str,
}
