//! AdamW in place: memory is read and written once. On the CPU in pieces (see `workers.rs`), on CUDA all
//! parameters by one launch.

use pcrm_core::kernels::{AdamWStep, RandomBits};
use tch::{Kind, Tensor as Torch};

use super::Torched;
use crate::cuda::{self, Fused, Update};
use crate::workers;

/// Updates many parameters: by one launch where the fused kernels serve.
pub(crate) fn step_all(steps: &[&AdamWStep], slots: &[[&Torch; 3]], gradients: &[Torch]) -> Torched<()> {
    let dense = |x: &Torch| x.kind() == Kind::Float && x.is_contiguous();
    if let Some(kernels) = gradients.first().and_then(cuda::fused)
        && slots.iter().flatten().all(|x| dense(x))
    {
        let mut f32 = Vec::with_capacity(gradients.len());
        for gradient in gradients {
            f32.push(gradient.f_to_kind(Kind::Float)?.f_contiguous()?);
        }
        let each = steps.iter().zip(slots).zip(&f32);
        let updates = each.map(|((step, [param, mean, variance]), gradient)| Update {
            step,
            slots: [*param, *mean, *variance, gradient],
        });
        return kernels.adamw(&updates.collect::<Vec<_>>());
    }
    let mut each = steps.iter().zip(slots).zip(gradients);
    each.try_for_each(|((one, slots), gradient)| step(one, *slots, gradient))
}

/// Updates one parameter: `[θ, m, v]`, all f32.
pub(crate) fn step(step: &AdamWStep, [param, mean, variance]: [&Torch; 3], gradient: &Torch) -> Torched<()> {
    let flat = |x: &Torch| x.f_view([-1]);
    let (param, mean, variance) = (flat(param)?, flat(mean)?, flat(variance)?);
    let gradient = gradient.f_to_kind(Kind::Float)?.f_reshape([-1])?;
    let mut pieces = Vec::new();
    for (start, length) in workers::elements(&param) {
        let cut = |x: &Torch| x.f_narrow(0, start, length);
        pieces.push(([cut(&param)?, cut(&mean)?, cut(&variance)?], cut(&gradient)?));
    }
    workers::each(param.device(), pieces, |(slots, gradient)| update(step, slots, &gradient))?;
    Ok(())
}

fn update(
    step: &AdamWStep,
    [mut param, mut mean, mut variance]: [Torch; 3],
    gradient: &Torch,
) -> Torched<()> {
    let gradient = gradient.f_mul_scalar(step.grad_scale)?;
    let mean = mean.f_lerp_(&gradient, 1.0 - step.beta1)?;
    let variance = variance.f_lerp_(&gradient.f_mul(&gradient)?, 1.0 - step.beta2)?;
    if step.weight_decay != 0.0 {
        let _ = param.f_mul_scalar_(1.0 - step.lr * step.weight_decay)?;
    }
    let (bias1, bias2) = (1.0 - step.beta1.powf(step.step as f64), 1.0 - step.beta2.powf(step.step as f64));
    let denominator = variance.f_sqrt()?.f_mul_scalar_(1.0 / bias2.sqrt())?.f_add_scalar_(step.eps)?;
    let _ = param.f_sub_(&mean.f_div(&denominator)?.f_mul_scalar_(step.lr / bias1)?)?;
    Ok(())
}

/// Takes a step with 8-bit moments by a kernel; returns false if none serves. It takes the operands of
/// [`pcrm_core::operands::adamw_8bit`].
pub(crate) fn step_8bit(step: &AdamWStep, slots: [&Torch; 7]) -> Torched<bool> {
    match cuda::optimiser(slots[0]) {
        Some(kernels) if slots.iter().all(|x| x.is_contiguous() && x.numel() > 0) => {
            kernels.adamw_8bit(step, slots).map(|()| true)
        }
        _ => Ok(false),
    }
}

/// Rounds to bf16 at random by a kernel; returns false if none serves.
pub(crate) fn round_at_random(value: &Torch, into: &Torch, bits: &RandomBits) -> Torched<bool> {
    match cuda::optimiser(value) {
        Some(kernels) if into.is_contiguous() && value.numel() > 0 => {
            kernels.round_at_random(&value.f_contiguous()?, into, bits).map(|()| true)
        }
        _ => Ok(false),
    }
}

/// Computes Σ x² in f64 over all tensors, with a single read.
pub(crate) fn sum_of_squares(tensors: &[&Torch]) -> Torched<f64> {
    if let Some(first) = tensors.first()
        && let Some(kernels) = cuda::fused(first)
        && Fused::serves(&[first], first.numel() as i64)
        && tensors.iter().all(|x| x.kind() == first.kind() && x.is_contiguous())
    {
        return kernels.sum_of_squares(tensors)?.f_double_value(&[0]);
    }
    // Pieces have a fixed size, so the order of additions does not depend on threads.
    let mut pieces = Vec::new();
    for x in tensors {
        let flat = x.f_reshape([-1])?;
        for (start, length) in workers::elements(&flat) {
            pieces.push(flat.f_narrow(0, start, length)?);
        }
    }
    if pieces.is_empty() {
        return Ok(0.0);
    }
    let norm = |piece: Torch| piece.f_norm()?.f_to_kind(Kind::Double);
    let norms = workers::each(pieces[0].device(), pieces, norm)?;
    let norms = Torch::f_stack(&norms, 0)?;
    norms.f_mul(&norms)?.f_sum(Kind::Double)?.f_double_value(&[])
}
