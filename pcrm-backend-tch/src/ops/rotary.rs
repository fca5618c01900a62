//! Rotary positions: rotates pairs of elements half a head apart.

use tch::Tensor as Torch;

use super::Torched;
use crate::cuda::{self, Fused};
use crate::workers;

/// The direction of the rotation.
#[derive(Clone, Copy)]
pub(crate) enum Turn {
    /// Rotates by the angle: the forward operation.
    Forward,
    /// Rotates by minus the angle: the gradient.
    Back,
}

/// Rotates x `[rows, heads, dim]`, cos and sin `[rows, dim / 2]`: (a, b) → (a·cos − b·sin, b·cos + a·sin).
pub(crate) fn rotate(x: &Torch, cos: &Torch, sin: &Torch, turn: Turn) -> Torched {
    if let Some(kernels) = cuda::fused(x)
        && Fused::rotates(x, cos, sin)
    {
        return kernels.rotary(x, cos, sin, turn);
    }
    let turned = Torch::f_empty(x.size(), (x.kind(), x.device()))?;
    let mut pieces = Vec::new();
    for (start, rows) in workers::rows(x) {
        let cut = |x: &Torch| x.f_narrow(0, start, rows);
        pieces.push((cut(&turned)?, [cut(x)?, cut(cos)?, cut(sin)?]));
    }
    workers::each(x.device(), pieces, |(turned, [x, cos, sin])| {
        rotate_into(&turned, &x, [&cos, &sin], turn)
    })?;
    Ok(turned)
}

fn rotate_into(turned: &Torch, x: &Torch, [cos, sin]: [&Torch; 2], turn: Turn) -> Torched<()> {
    let half = x.size()[2] / 2;
    let (a, b) = (x.f_narrow(2, 0, half)?, x.f_narrow(2, half, half)?);
    let (cos, sin) = (cos.f_unsqueeze(1)?, sin.f_unsqueeze(1)?);
    let minus = sin.f_neg()?;
    let (for_a, for_b) = match turn {
        Turn::Forward => (&minus, &sin),
        Turn::Back => (&sin, &minus),
    };
    let _ = a.f_mul_out(&turned.f_narrow(2, 0, half)?, &cos)?.f_addcmul_(&b, for_a)?;
    let _ = b.f_mul_out(&turned.f_narrow(2, half, half)?, &cos)?.f_addcmul_(&a, for_b)?;
    Ok(())
}
