//! AdamW in place, and sums of squares.

use candle_core as ct;
use pcrm_core::kernels::AdamWStep;

use super::float::single;

/// Updates param, mean and variance in place; all contiguous f32 of the gradient's shape.
pub(crate) fn step(
    step: &AdamWStep,
    [param, mean, variance]: [&ct::Tensor; 3],
    gradient: &ct::Tensor,
) -> ct::Result<()> {
    let gradient = single(gradient)?;
    let fresh = gradient.affine(step.grad_scale * (1.0 - step.beta1), 0.0)?;
    let new_mean = mean.affine(step.beta1, 0.0)?.add(&fresh)?;
    let squares = gradient.affine(step.grad_scale, 0.0)?.sqr()?.affine(1.0 - step.beta2, 0.0)?;
    let new_variance = variance.affine(step.beta2, 0.0)?.add(&squares)?;
    let bias1 = 1.0 - step.beta1.powf(step.step as f64);
    let bias2 = 1.0 - step.beta2.powf(step.step as f64);
    let denominator = new_variance.sqrt()?.affine(1.0 / bias2.sqrt(), step.eps)?;
    let update = new_mean.affine(step.lr / bias1, 0.0)?.div(&denominator)?;
    let new_param = param.affine(1.0 - step.lr * step.weight_decay, 0.0)?.sub(&update)?;
    assign(mean, &new_mean)?;
    assign(variance, &new_variance)?;
    assign(param, &new_param)
}

/// Overwrites a contiguous tensor with another's elements of the same shape and type; every handle sees it.
pub(crate) fn assign(target: &ct::Tensor, value: &ct::Tensor) -> ct::Result<()> {
    if !target.is_contiguous() {
        ct::bail!("only a contiguous tensor can be assigned to");
    }
    target.flatten_all()?.slice_set(&value.contiguous()?.flatten_all()?, 0, 0)
}

/// Computes Σ x² over all tensors: rows in f32, their sums in f64, and a single read for all.
pub(crate) fn sum_of_squares<'a>(xs: impl Iterator<Item = &'a ct::Tensor>) -> ct::Result<f64> {
    let mut sums = Vec::new();
    for x in xs {
        let width = x.dims().last().copied().unwrap_or(1);
        let rows = single(x)?.reshape(((), width))?.sqr()?.sum(1)?;
        sums.push(rows.to_dtype(ct::DType::F64)?.sum_all()?.reshape(1)?);
    }
    match sums.is_empty() {
        true => Ok(0.0),
        false => ct::Tensor::cat(&sums, 0)?.sum_all()?.to_scalar(),
    }
}
