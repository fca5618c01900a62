//! The option that recomputes activations, shared by training and benchmarks.

use std::num::NonZeroUsize;

use clap::Args;
use pcrm_core::model::Checkpointing;

use crate::numbers::whole;

/// The layers that the backward pass recomputes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct RecomputeArgs {
    /// Keep the activations of every N-th layer only and recompute the others in the backward pass, with the
    /// same result; without N, or with 0, of every √layers-th layer
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "0", value_parser = whole::<usize>)]
    gradient_checkpointing: Option<usize>,
}

impl RecomputeArgs {
    /// Returns the layers in the trainer's form.
    pub fn checkpointing(self) -> Checkpointing {
        match self.gradient_checkpointing.map(NonZeroUsize::new) {
            None => Checkpointing::Off,
            Some(None) => Checkpointing::Root,
            Some(Some(layers)) => Checkpointing::Every(layers),
        }
    }
}
