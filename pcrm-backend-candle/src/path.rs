//! The choice between the two implementations of a tensor operation: host slices for f32 on the CPU, candle's
//! tensor operations for everything else. Fused operations choose by [`pcrm_core::Tensor::kernels`],
//! primitives choose here.

use candle_core as ct;
use pcrm_core::tensor::Unary;
use pcrm_core::{Error, Result};

use crate::device_ops::float;
use crate::{NAME, device_ops, ops};

/// Returns whether the operations on host slices serve a tensor.
pub(crate) fn on_slices(x: &ct::Tensor) -> bool {
    x.device().is_cpu() && x.dtype() != ct::DType::BF16
}

/// Computes f(x) of every element.
pub(crate) fn unary(op: Unary, x: &ct::Tensor) -> Result<ct::Tensor> {
    match on_slices(x) {
        true => ops::elementwise::unary(op, x),
        false => device_ops::elementwise::unary(op, x).map_err(Error::backend(NAME, "unary")),
    }
}

/// Computes g·f'(x) of every element.
pub(crate) fn unary_backward(op: Unary, x: &ct::Tensor, gradient: &ct::Tensor) -> Result<ct::Tensor> {
    match on_slices(x) {
        true => ops::elementwise::unary_backward(op, x, gradient),
        false => device_ops::elementwise::unary_backward(op, x, gradient)
            .map_err(Error::backend(NAME, "unary backward")),
    }
}

/// Computes a + b for equal shapes.
pub(crate) fn add(a: &ct::Tensor, b: &ct::Tensor) -> Result<ct::Tensor> {
    match on_slices(a) {
        true => ops::elementwise::add(a, b),
        false => a.add(b).map_err(Error::backend(NAME, "add")),
    }
}

/// Computes scale·x + shift.
pub(crate) fn affine(x: &ct::Tensor, scale: f64, shift: f64) -> ct::Result<ct::Tensor> {
    match on_slices(x) {
        true => x.affine(scale, shift),
        false => float::affine(x, scale, shift),
    }
}

/// Returns the first of the largest elements along `dim`, as u32.
pub(crate) fn arg_max(x: &ct::Tensor, dim: usize) -> ct::Result<ct::Tensor> {
    match on_slices(x) {
        true => x.argmax_keepdim(dim),
        false => float::first_of_largest(x, dim),
    }
}

/// Overwrites a tensor with another's elements.
pub(crate) fn assign(target: &ct::Tensor, value: &ct::Tensor) -> Result<()> {
    match on_slices(target) && target.dtype() == ct::DType::F32 {
        true => ops::adamw::assign(target, value),
        false => device_ops::adamw::assign(target, value).map_err(Error::backend(NAME, "assign")),
    }
}
