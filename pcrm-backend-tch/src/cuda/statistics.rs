//! Statistics of tokens on CUDA: one pass over the logits of a chunk of rows, and one for their gradient.

#![allow(unsafe_code, reason = "a kernel gets bare addresses")]

use tch::{Kind, Tensor as Torch};

use super::fused::{Fused, named};
use super::module::{Argument, Grid};
use crate::ops::Torched;

/// How logits become z = c·tanh(l / c) / T.
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
    // SAFETY: the kernel's parameters; `serves` holds, and targets are tokens of the vocabulary.
    unsafe {
        fused.0.launch(
            &named("token_stats", logits),
            Grid::new(size[0] as usize, 512),
            &[
                logits.into(),
                targets.into(),
                rows.picked.into(),
                rows.correct.into(),
                rows.totals.into(),
                rows.entropies.into(),
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
                logits.into(),
                targets.into(),
                slopes.log_probs.into(),
                slopes.totals.into(),
                slopes.entropies.map(|[entropies, _]| entropies).into(),
                slopes.entropies.map(|[_, slopes]| slopes).into(),
                (&d_logits).into(),
                Argument::I32(size[1] as i32),
                Argument::I32(targets.size()[1] as i32),
                cap,
                factor,
            ],
        )?;
    }
    Ok(d_logits)
}
