//! The operands of fused operations, checked: the same for both sets of kernels.

use pcrm_core::kernels::Slots;
use pcrm_core::{Error, Result, Tensor};

use crate::NAME;
use crate::tensor::CandleTensor;

/// A tensor as this backend's own.
pub(crate) fn of<'a>(op: &'static str, tensor: &'a Tensor) -> Result<&'a CandleTensor> {
    tensor.downcast(op, NAME)
}

fn expect(op: &'static str, holds: bool, message: &str, operands: &[&Tensor]) -> Result<()> {
    if holds {
        return Ok(());
    }
    let shapes: Vec<Vec<usize>> = operands.iter().map(|operand| operand.shape()).collect();
    Err(Error::shape(op, message, &shapes.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

/// The operands of a linear layer.
pub(crate) type Linear<'a> = (&'a CandleTensor, &'a CandleTensor, Option<&'a CandleTensor>);

pub(crate) fn linear<'a>(x: &'a Tensor, weight: &'a Tensor, bias: Option<&'a Tensor>) -> Result<Linear<'a>> {
    const OP: &str = "linear";
    let (x_shape, w_shape) = (x.shape(), weight.shape());
    let fits = matches!((&x_shape[..], &w_shape[..]), ([_, a], [_, b]) if a == b)
        && bias.is_none_or(|bias| bias.shape() == w_shape[..1]);
    expect(OP, fits, "x must be [rows, in], the weight [out, in], the bias [out]", &[x, weight])?;
    Ok((of(OP, x)?, of(OP, weight)?, bias.map(|bias| of(OP, bias)).transpose()?))
}

pub(crate) fn rms_norm<'a>(x: &'a Tensor, weight: &'a Tensor) -> Result<[&'a CandleTensor; 2]> {
    const OP: &str = "rms_norm";
    expect(OP, x.shape().last() == weight.shape().first(), "the weight must be [width]", &[x, weight])?;
    Ok([of(OP, x)?, of(OP, weight)?])
}

pub(crate) fn layer_norm<'a>(
    x: &'a Tensor,
    weight: &'a Tensor,
    bias: &'a Tensor,
) -> Result<[&'a CandleTensor; 3]> {
    const OP: &str = "layer_norm";
    let fits = x.shape().last() == weight.shape().first() && weight.shape() == bias.shape();
    expect(OP, fits, "the weight and the bias must be [width]", &[x, weight, bias])?;
    Ok([of(OP, x)?, of(OP, weight)?, of(OP, bias)?])
}

pub(crate) fn rotary<'a>(x: &'a Tensor, cos: &'a Tensor, sin: &'a Tensor) -> Result<[&'a CandleTensor; 3]> {
    const OP: &str = "rotary";
    let fits = match (&x.shape()[..], &cos.shape()[..]) {
        ([rows, _, dim], [angles, half]) => rows == angles && *dim == 2 * half && cos.shape() == sin.shape(),
        _ => false,
    };
    expect(OP, fits, "x must be [rows, heads, dim], cos and sin [rows, dim / 2]", &[x, cos, sin])?;
    Ok([of(OP, x)?, of(OP, cos)?, of(OP, sin)?])
}

pub(crate) fn swiglu<'a>(gate: &'a Tensor, up: &'a Tensor) -> Result<[&'a CandleTensor; 2]> {
    const OP: &str = "swiglu";
    expect(OP, gate.shape() == up.shape(), "one shape is needed", &[gate, up])?;
    Ok([of(OP, gate)?, of(OP, up)?])
}

pub(crate) fn embedding<'a>(table: &'a Tensor, ids: &'a Tensor) -> Result<[&'a CandleTensor; 2]> {
    const OP: &str = "embedding";
    expect(OP, table.shape().len() == 2, "the table must be [vocabulary, width]", &[table])?;
    Ok([of(OP, table)?, of(OP, ids)?])
}

pub(crate) fn log_probs<'a>(
    hidden: &'a Tensor,
    head: &'a Tensor,
    targets: &'a Tensor,
) -> Result<[&'a CandleTensor; 3]> {
    const OP: &str = "log_probs";
    let fits = match (&hidden.shape()[..], &head.shape()[..]) {
        ([rows, a], [_, b]) => a == b && [*rows] == targets.shape()[..],
        _ => false,
    };
    let message = "hidden must be [rows, width], the head [vocabulary, width], the targets [rows]";
    expect(OP, fits, message, &[hidden, head, targets])?;
    Ok([of(OP, hidden)?, of(OP, head)?, of(OP, targets)?])
}

/// param, mean, variance and gradient.
pub(crate) fn adamw<'a>(slots: &'a Slots, grad: &'a Tensor) -> Result<[&'a CandleTensor; 4]> {
    const OP: &str = "adamw";
    let all = [&slots.param, &slots.mean, &slots.variance, grad];
    expect(OP, all.iter().all(|x| x.shape() == grad.shape()), "one shape is needed", &all)?;
    Ok([of(OP, all[0])?, of(OP, all[1])?, of(OP, all[2])?, of(OP, all[3])?])
}
