//! Root-mean-square and layer normalisation over the last dimension, in f32.

use candle_core as ct;
use ct::D;

use super::float::{column_sums, single};
use crate::ops::norm::Norm;

/// Normalises the rows, in the type of x.
pub(crate) fn forward(
    norm: Norm,
    x: &ct::Tensor,
    weight: &ct::Tensor,
    bias: Option<&ct::Tensor>,
    eps: f64,
) -> ct::Result<ct::Tensor> {
    if x.elem_count() == 0 {
        return Ok(x.clone()); // candle's sums divide by the number of rows
    }
    let (normal, _) = normalise(norm, x, eps)?;
    let value = normal.broadcast_mul(&single(weight)?)?;
    let value = match bias {
        Some(bias) => value.broadcast_add(&single(bias)?)?,
        None => value,
    };
    value.to_dtype(x.dtype())
}

/// Computes (x − mean) / √(var + eps), and 1 / √(var + eps) `[.., 1]`.
fn normalise(norm: Norm, x: &ct::Tensor, eps: f64) -> ct::Result<(ct::Tensor, ct::Tensor)> {
    let x = single(x)?;
    let centred = match norm {
        Norm::Rms => x,
        Norm::Layer => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
    };
    let width = centred.dim(D::Minus1)? as f64;
    let variance = centred.sqr()?.sum_keepdim(D::Minus1)?.affine(1.0 / width, eps)?;
    let inverse = variance.sqrt()?.recip()?;
    Ok((centred.broadcast_mul(&inverse)?, inverse))
}

/// Computes the gradients of x, weight and bias (the last only for a layer norm): with n the normal rows and
/// s = g·w, dx = (s − mean(s) − n·mean(s·n)) / √(var + eps), without mean(s) in a root-mean-square norm.
pub(crate) fn backward(
    norm: Norm,
    x: &ct::Tensor,
    weight: &ct::Tensor,
    gradient: &ct::Tensor,
    eps: f64,
) -> ct::Result<[ct::Tensor; 3]> {
    if x.elem_count() == 0 {
        return Ok([gradient.clone(), weight.zeros_like()?, weight.zeros_like()?]);
    }
    let (normal, inverse) = normalise(norm, x, eps)?;
    let gradient = single(gradient)?;
    let width = weight.elem_count();
    let by_rows = |t: &ct::Tensor| column_sums(&t.reshape(((), width))?)?.to_dtype(weight.dtype());
    let d_weight = by_rows(&gradient.mul(&normal)?)?;
    let d_bias = match norm {
        Norm::Rms => d_weight.clone(),
        Norm::Layer => by_rows(&gradient)?,
    };
    let scaled = gradient.broadcast_mul(&single(weight)?)?;
    let along = scaled.mul(&normal)?.mean_keepdim(D::Minus1)?;
    let rest = scaled.sub(&normal.broadcast_mul(&along)?)?;
    let rest = match norm {
        Norm::Rms => rest,
        Norm::Layer => rest.broadcast_sub(&scaled.mean_keepdim(D::Minus1)?)?,
    };
    Ok([rest.broadcast_mul(&inverse)?.to_dtype(x.dtype())?, d_weight, d_bias])
}
