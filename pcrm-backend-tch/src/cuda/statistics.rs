//! Statistics of tokens on CUDA: one pass over the logits of a chunk of rows, and one for their gradient.

#![allow(unsafe_code, reason = "a kernel gets bare addresses")]

use pcrm_core::cuda::Argument;
use tch::{Kind, Tensor as Torch};

use super::fused::{Fused, named};
use super::module::{Grid, address, address_or_null};
use crate::ops::Torched;

/// The cap and the temperature of logits: z = c·tanh(l / c) / T.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shaping {
    /// The soft cap c.
    pub(crate) cap: Option<f64>,
    /// The temperature T.
    pub(crate) temperature: f64,
}

impl Shaping {
    fn arguments(self) -> [Argument; 2] {
        [Argument::F32(self.cap.unwrap_or(0.0) as f32), Argument::F32((1.0 / self.temperature) as f32)]
    }
}

/// The statistics of a chunk of rows, f32 and contiguous, which the kernel writes.
pub(crate) struct Rows<'a> {
    /// ln p of every target, `[rows, per_row]`.
    pub(crate) picked: &'a Torch,
    /// 1 where no token is more likely than the target, `[rows, per_row]`.
    pub(crate) correct: &'a Torch,
    /// ln Σ eᶻ, `[rows, 1]`.
    pub(crate) totals: &'a Torch,
    /// −Σ p ln p, `[rows, 1]`, if wanted.
    pub(crate) entropies: Option<&'a Torch>,
}

/// The gradients of a chunk's statistics, f32 and contiguous.
pub(crate) struct Slopes<'a> {
    /// Of every target's ln p, `[rows, per_row]`.
    pub(crate) log_probs: &'a Torch,
    /// ln Σ eᶻ, `[rows, 1]`.
    pub(crate) totals: &'a Torch,
    /// The entropies and their gradients, `[rows, 1]`.
    pub(crate) entropies: Option<[&'a Torch; 2]>,
}

/// Returns whether the kernels serve these logits.
pub(crate) fn serves(logits: &Torch) -> bool {
    matches!(logits.kind(), Kind::Float | Kind::BFloat16) && logits.is_contiguous() && logits.numel() > 0
}

/// Computes the statistics of logits `[rows, vocabulary]` for targets, int64 `[rows, per_row]`.
pub(crate) fn token_stats(
    fused: &Fused,
    logits: &Torch,
    targets: &Torch,
    rows: &Rows<'_>,
    how: Shaping,
) -> Torched<()> {
    let (size, [cap, factor]) = (logits.size(), how.arguments());
    // SAFETY: the arguments match the kernel's parameters; `serves` holds, and targets are tokens of the vocabulary.
    unsafe {
        fused.0.launch(
            &named("token_stats", logits),
            Grid::new(size[0] as usize, 512),
            &[
                address(logits),
                address(targets),
                address(rows.picked),
                address(rows.correct),
                address(rows.totals),
                address_or_null(rows.entropies),
                Argument::I32(size[1] as i32),
                Argument::I32(targets.size()[1] as i32),
                cap,
                factor,
            ],
        )
    }
}

/// Computes the gradient of logits, in their type.
pub(crate) fn token_stats_backward(
    fused: &Fused,
    logits: &Torch,
    targets: &Torch,
    slopes: &Slopes<'_>,
    how: Shaping,
) -> Torched {
    let (size, [cap, factor]) = (logits.size(), how.arguments());
    let d_logits = logits.f_empty_like()?;
    // SAFETY: as above.
    unsafe {
        fused.0.launch(
            &named("token_stats_backward", logits),
            Grid::new(size[0] as usize, 512),
            &[
                address(logits),
                address(targets),
                address(slopes.log_probs),
                address(slopes.totals),
                address_or_null(slopes.entropies.map(|[entropies, _]| entropies)),
                address_or_null(slopes.entropies.map(|[_, slopes]| slopes)),
                address(&d_logits),
                Argument::I32(size[1] as i32),
                Argument::I32(targets.size()[1] as i32),
                cap,
                factor,
            ],
        )?;
    }
    Ok(d_logits)
}
