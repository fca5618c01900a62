//! AdamW in place, in pieces (see `workers.rs`): memory is read and written once.

use pcrm_core::kernels::AdamWStep;
use tch::{Kind, Tensor as Torch};

use super::Torched;
use crate::workers;

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

/// Computes Σ x² in f64 over all tensors, with a single read.
pub(crate) fn sum_of_squares(tensors: &[&Torch]) -> Torched<f64> {
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
