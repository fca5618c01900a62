//! Gradient checkpointing: a part of a model runs without history, and again in the backward pass.
//!
//! Between the passes a part keeps only its input (arXiv 1604.06174). Kernels are deterministic on a CPU and
//! random numbers are counter-based, so the second run has the same bits as the first, and gradients equal
//! those without checkpointing.

use std::num::NonZeroUsize;

use crate::error::Result;
use crate::params::Params;
use crate::tensor::Tensor;

/// The size of the segments that are recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checkpointing {
    /// No recomputation.
    #[default]
    Off,
    /// Segments of √layers layers, rounded up: the fewest activations at any time.
    Root,
    /// Segments of this many layers.
    Every(NonZeroUsize),
}

impl Checkpointing {
    /// Returns the number of layers of a segment in a model of `layers`, or `None` without recomputation.
    pub fn segment(self, layers: usize) -> Option<usize> {
        match self {
            Self::Off => None,
            Self::Root => Some(((layers as f64).sqrt().ceil() as usize).max(1)),
            Self::Every(segment) => Some(segment.get()),
        }
    }
}

/// Computes `run(x, params)`, keeping x instead of the history. `params` are all parameters that `run` uses;
/// it must be deterministic.
///
/// # Errors
/// Fails as `run` does, now or in the backward pass.
pub(super) fn recomputed(
    x: &Tensor,
    params: Params,
    run: impl Fn(&Tensor, &Params) -> Result<Tensor> + Send + 'static,
) -> Result<Tensor> {
    let value = run(&x.detach(), &params.detached())?;
    let mut operands = vec![x.clone()];
    operands.extend(params.iter_trained().map(|(_, param)| param.clone()));
    let input = x.detach();
    value.record(&operands.iter().collect::<Vec<_>>(), move |gradient, wanted| {
        let x = if wanted[0] { input.variable() } else { input };
        let params = params.variables();
        let value = run(&x, &params)?;
        let mut leaves = vec![&x];
        leaves.extend(params.iter_trained().map(|(_, param)| param));
        Tensor::pull(&[(&value, gradient)], &leaves)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_roots_or_as_long_as_asked() {
        let every = |layers| NonZeroUsize::new(layers).map(Checkpointing::Every);
        assert_eq!(Checkpointing::Off.segment(24), None);
        assert_eq!([1, 4, 12, 24].map(|layers| Checkpointing::Root.segment(layers)), [1, 2, 4, 5].map(Some));
        assert_eq!(every(3).and_then(|every| every.segment(24)), Some(3));
    }
}
