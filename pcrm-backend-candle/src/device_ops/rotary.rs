//! Rotary positions: rotates every pair (x[i], x[i + dim/2]) by its row's angle, in f32.

use candle_core as ct;

use super::float::single;
use crate::ops::rotary::Turn;

/// Rotates x `[rows, heads, dim]` by the angles whose cos and sin are `[rows, dim / 2]`.
pub(crate) fn rotate(
    x: &ct::Tensor,
    cos: &ct::Tensor,
    sin: &ct::Tensor,
    turn: Turn,
) -> ct::Result<ct::Tensor> {
    let (rows, _, dim) = x.dims3()?;
    let half = dim / 2;
    let cos = single(cos)?.reshape((rows, 1, half))?;
    let sin = single(sin)?.reshape((rows, 1, half))?;
    let sin = match turn {
        Turn::Forward => sin,
        Turn::Back => sin.neg()?,
    };
    let whole = single(x)?;
    let (a, b) = (whole.narrow(2, 0, half)?, whole.narrow(2, half, half)?);
    let first = a.broadcast_mul(&cos)?.sub(&b.broadcast_mul(&sin)?)?;
    let second = b.broadcast_mul(&cos)?.add(&a.broadcast_mul(&sin)?)?;
    ct::Tensor::cat(&[first, second], 2)?.to_dtype(x.dtype())
}
