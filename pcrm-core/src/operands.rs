//! The operands of fused operations, checked and downcast to a backend's own tensors; shared by all sets of
//! kernels.
//!
//! Every function fails if shapes do not match ([`Error::Shape`]) or if a tensor belongs to another backend
//! than the named one ([`Error::MixedBackends`]).

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernels::{Ask, Coded, Draw, QuantisedSlots, Slots};
use crate::tensor::{RawTensor, Tensor};

fn expect(op: &'static str, holds: bool, message: &str, operands: &[&Tensor]) -> Result<()> {
    if holds {
        return Ok(());
    }
    let shapes: Vec<Vec<usize>> = operands.iter().map(|operand| operand.shape()).collect();
    Err(Error::shape(op, message, &shapes.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

/// The operands of a linear layer.
pub type Linear<'a, T> = (&'a T, &'a T, Option<&'a T>);

/// Checks x `[rows, in]`, weight `[out, in]`, bias `[out]`.
///
/// # Errors
/// See the module documentation.
pub fn linear<'a, T: RawTensor>(
    backend: &'static str,
    x: &'a Tensor,
    weight: &'a Tensor,
    bias: Option<&'a Tensor>,
) -> Result<Linear<'a, T>> {
    const OP: &str = "linear";
    let (x_shape, w_shape) = (x.shape(), weight.shape());
    let fits = matches!((&x_shape[..], &w_shape[..]), ([_, a], [_, b]) if a == b)
        && bias.is_none_or(|bias| bias.shape() == w_shape[..1]);
    expect(OP, fits, "x must be [rows, in], the weight [out, in], the bias [out]", &[x, weight])?;
    Ok((
        x.downcast(OP, backend)?,
        weight.downcast(OP, backend)?,
        bias.map(|bias| bias.downcast(OP, backend)).transpose()?,
    ))
}

/// Checks gradient `[rows, out]`, weight `[out, in]`.
///
/// # Errors
/// See the module documentation.
pub fn linear_input<'a, T: RawTensor>(
    backend: &'static str,
    gradient: &'a Tensor,
    weight: &'a Tensor,
) -> Result<[&'a T; 2]> {
    const OP: &str = "linear_input";
    let fits = matches!((&gradient.shape()[..], &weight.shape()[..]), ([_, a], [b, _]) if a == b);
    expect(OP, fits, "the gradient must be [rows, out], the weight [out, in]", &[gradient, weight])?;
    Ok([gradient.downcast(OP, backend)?, weight.downcast(OP, backend)?])
}

/// Checks codes, table and scales; see [`Coded::check`].
///
/// # Errors
/// See the module documentation.
pub fn dequantise<'a, T: RawTensor>(backend: &'static str, coded: &Coded<'a>) -> Result<[&'a T; 3]> {
    const OP: &str = "dequantise";
    coded.check()?;
    let Coded { codes, table, scales, .. } = *coded;
    Ok([codes.downcast(OP, backend)?, table.downcast(OP, backend)?, scales.downcast(OP, backend)?])
}

/// Downcasts q, k and v; [`crate::composed::attention_heads`] checks their shapes.
///
/// # Errors
/// See the module documentation.
pub fn attention<'a, T: RawTensor>(backend: &'static str, qkv: [&'a Tensor; 3]) -> Result<[&'a T; 3]> {
    const OP: &str = "attention";
    let [q, k, v] = qkv;
    Ok([q.downcast(OP, backend)?, k.downcast(OP, backend)?, v.downcast(OP, backend)?])
}

/// Checks x `[.., width]`, weight `[width]`.
///
/// # Errors
/// See the module documentation.
pub fn rms_norm<'a, T: RawTensor>(
    backend: &'static str,
    x: &'a Tensor,
    weight: &'a Tensor,
) -> Result<[&'a T; 2]> {
    const OP: &str = "rms_norm";
    expect(OP, x.shape().last() == weight.shape().first(), "the weight must be [width]", &[x, weight])?;
    Ok([x.downcast(OP, backend)?, weight.downcast(OP, backend)?])
}

/// Checks x `[.., width]`, weight and bias `[width]`.
///
/// # Errors
/// See the module documentation.
pub fn layer_norm<'a, T: RawTensor>(
    backend: &'static str,
    x: &'a Tensor,
    weight: &'a Tensor,
    bias: &'a Tensor,
) -> Result<[&'a T; 3]> {
    const OP: &str = "layer_norm";
    let fits = x.shape().last() == weight.shape().first() && weight.shape() == bias.shape();
    expect(OP, fits, "the weight and the bias must be [width]", &[x, weight, bias])?;
    Ok([x.downcast(OP, backend)?, weight.downcast(OP, backend)?, bias.downcast(OP, backend)?])
}

/// Checks x `[rows, heads, dim]`, cos and sin `[rows, dim / 2]`.
///
/// # Errors
/// See the module documentation.
pub fn rotary<'a, T: RawTensor>(
    backend: &'static str,
    x: &'a Tensor,
    cos: &'a Tensor,
    sin: &'a Tensor,
) -> Result<[&'a T; 3]> {
    const OP: &str = "rotary";
    let fits = match (&x.shape()[..], &cos.shape()[..]) {
        ([rows, _, dim], [angles, half]) => rows == angles && *dim == 2 * half && cos.shape() == sin.shape(),
        _ => false,
    };
    expect(OP, fits, "x must be [rows, heads, dim], cos and sin [rows, dim / 2]", &[x, cos, sin])?;
    Ok([x.downcast(OP, backend)?, cos.downcast(OP, backend)?, sin.downcast(OP, backend)?])
}

/// Checks that gate and up have equal shapes.
///
/// # Errors
/// See the module documentation.
pub fn swiglu<'a, T: RawTensor>(
    backend: &'static str,
    gate: &'a Tensor,
    up: &'a Tensor,
) -> Result<[&'a T; 2]> {
    const OP: &str = "swiglu";
    expect(OP, gate.shape() == up.shape(), "expected equal shapes", &[gate, up])?;
    Ok([gate.downcast(OP, backend)?, up.downcast(OP, backend)?])
}

/// Checks table `[vocabulary, width]` and ids.
///
/// # Errors
/// See the module documentation.
pub fn embedding<'a, T: RawTensor>(
    backend: &'static str,
    table: &'a Tensor,
    ids: &'a Tensor,
) -> Result<[&'a T; 2]> {
    const OP: &str = "embedding";
    expect(OP, table.shape().len() == 2, "the table must be [vocabulary, width]", &[table])?;
    Ok([table.downcast(OP, backend)?, ids.downcast(OP, backend)?])
}

/// Checks hidden `[rows, width]` and head `[vocabulary, width]` against the request.
///
/// # Errors
/// See the module documentation and [`Ask::check`].
pub fn token_stats<'a, T: RawTensor>(
    backend: &'static str,
    hidden: &'a Tensor,
    head: &'a Tensor,
    ask: &Ask<'_>,
) -> Result<[&'a T; 2]> {
    const OP: &str = "token_stats";
    ask.check(hidden, head)?;
    Ok([hidden.downcast(OP, backend)?, head.downcast(OP, backend)?])
}

/// Checks hidden `[rows, width]` and head `[vocabulary, width]` against the sampling request.
///
/// # Errors
/// See the module documentation and [`Draw::check`].
pub fn sample<'a, T: RawTensor>(
    backend: &'static str,
    hidden: &'a Tensor,
    head: &'a Tensor,
    how: &Draw<'_>,
) -> Result<[&'a T; 2]> {
    const OP: &str = "sample";
    how.check(hidden, head)?;
    Ok([hidden.downcast(OP, backend)?, head.downcast(OP, backend)?])
}

/// Checks that param, mean, variance and gradient have equal shapes.
///
/// # Errors
/// See the module documentation.
pub fn adamw<'a, T: RawTensor>(
    backend: &'static str,
    slots: &'a Slots,
    grad: &'a Tensor,
) -> Result<[&'a T; 4]> {
    const OP: &str = "adamw";
    let all = [&slots.param, &slots.mean, &slots.variance, grad];
    expect(OP, all.iter().all(|x| x.shape() == grad.shape()), "expected equal shapes", &all)?;
    Ok([
        all[0].downcast(OP, backend)?,
        all[1].downcast(OP, backend)?,
        all[2].downcast(OP, backend)?,
        all[3].downcast(OP, backend)?,
    ])
}

/// Checks a parameter, its 8-bit moments and a gradient; returns the parameter, codes and magnitudes of the first
/// moment, those of the second, the maps, and the gradient. See [`QuantisedSlots::check`].
///
/// # Errors
/// See the module documentation.
pub fn adamw_8bit<'a, T: RawTensor>(
    backend: &'static str,
    slots: &'a QuantisedSlots,
    grad: &'a Tensor,
) -> Result<[&'a T; 7]> {
    const OP: &str = "adamw_8bit";
    slots.check(grad)?;
    let QuantisedSlots { param, mean, variance, maps } = slots;
    Ok([
        param.downcast(OP, backend)?,
        mean.codes.downcast(OP, backend)?,
        mean.largest.downcast(OP, backend)?,
        variance.codes.downcast(OP, backend)?,
        variance.largest.downcast(OP, backend)?,
        maps.downcast(OP, backend)?,
        grad.downcast(OP, backend)?,
    ])
}

/// Checks an f32 value and a bf16 tensor of the same shape.
///
/// # Errors
/// See the module documentation.
pub fn round_at_random<'a, T: RawTensor>(
    backend: &'static str,
    value: &'a Tensor,
    into: &'a Tensor,
) -> Result<[&'a T; 2]> {
    const OP: &str = "round_at_random";
    expect(OP, value.shape() == into.shape(), "expected equal shapes", &[value, into])?;
    for (tensor, wanted, expected) in [(value, DType::F32, "f32 values"), (into, DType::BF16, "bf16 weights")]
    {
        if tensor.dtype() != wanted {
            return Err(Error::DType { op: OP, found: tensor.dtype(), expected });
        }
    }
    Ok([value.downcast(OP, backend)?, into.downcast(OP, backend)?])
}
