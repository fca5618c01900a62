//! The proofs of a GPU's paths: random inputs, compared with the composed reference in f32 on the same GPU, in
//! value and gradient. Inputs are small, so that opening a GPU stays quick, except for sizes that take another path
//! in a kernel: several blocks, several turns of a thread, rows that end inside a block.

use pcrm_core::cuda::WIDEST;
use pcrm_core::kernels::{AdamWStep, Slots};
use pcrm_core::{Result, Tensor, composed};
use tch::{Device, Kind, Tensor as Torch};

use super::fused::Fused;
use super::update::Update;
use crate::failed;
use crate::ops::Torched;
use crate::ops::rotary::Turn;
use crate::tensor::TchTensor;

/// Returns the largest accepted relative error ‖got − want‖ / ‖want‖, several times that of rounding. It does not grow
/// with the size: kernels sum in f32 and round to bf16 once, and attention rounds each of its weights once.
fn bound(kind: Kind) -> f64 {
    if kind == Kind::Float { 2e-4 } else { 2e-2 }
}

/// Proves the fused kernels.
pub(super) fn of_fused(fused: &Fused, device: Device) -> std::result::Result<(), String> {
    let proofs = [
        ("adamw", adamw(fused, device)),
        ("rms_norm", rms_norms(fused, device)),
        (
            "rotary",
            [Kind::Float, Kind::BFloat16].into_iter().try_for_each(|kind| rotary(fused, (kind, device))),
        ),
        (
            "swiglu",
            [Kind::Float, Kind::BFloat16].into_iter().try_for_each(|kind| swiglu(fused, (kind, device))),
        ),
        ("sums", [Kind::Float, Kind::BFloat16].into_iter().try_for_each(|kind| sums(fused, kind, device))),
        (
            "column_sums",
            [Kind::Float, Kind::BFloat16].into_iter().try_for_each(|kind| column_sums(fused, (kind, device))),
        ),
    ];
    proofs.into_iter().try_for_each(|(name, proof)| proof.map_err(|error| format!("{name}: {error}")))
}

/// Proves the norms for a small input, for more rows than the backward has blocks, each wider than a block's threads
/// read at once, and for the widest row.
fn rms_norms(fused: &Fused, device: Device) -> Result<()> {
    let many = fused.most_norm_blocks() + 37;
    for kind in [Kind::Float, Kind::BFloat16] {
        for size in [[37, 896], [many, 2056], [3, WIDEST as i64]] {
            rms_norm(fused, &size, (kind, device))?;
        }
    }
    Ok(())
}

fn rms_norm(fused: &Fused, size: &[i64; 2], options: (Kind, Device)) -> Result<()> {
    let inputs = every([random(size, options), random(&size[1..], options)])?;
    let [x, weight] = inputs.each_ref();
    let gradient = random(size, options).map_err(failed("proof"))?;
    let run = || -> Torched<Vec<Torch>> {
        // The sum of x and zeros is x.
        let (zeros, sum) = (x.f_zeros_like()?, x.f_empty_like()?);
        let (value, _) = fused.rms_norm(&zeros, Some([x, &sum]), weight, 1e-6)?;
        let (again, inverse) = fused.rms_norm(&sum, None, weight, 1e-6)?;
        if !again.equal(&value) || !sum.equal(x) {
            return Err(tch::TchError::Torch("the norm of a sum differs from that of its value".to_owned()));
        }
        let [d_x, d_weight] = fused.rms_norm_backward(x, weight, &gradient, &inverse)?;
        Ok(vec![value, d_x, d_weight])
    };
    let got = run().map_err(failed("rms_norm"))?;
    agree(options.0, &got, &inputs, &gradient, |inputs| composed::rms_norm(&inputs[0], &inputs[1], 1e-6))
}

fn swiglu(fused: &Fused, options: (Kind, Device)) -> Result<()> {
    let inputs = every([random(&[37, 88], options), random(&[37, 88], options)])?;
    let [gate, up] = inputs.each_ref();
    let gradient = random(&[37, 88], options).map_err(failed("proof"))?;
    let run = || -> Torched<Vec<Torch>> {
        let [d_gate, d_up] = fused.swiglu_backward(gate, up, &gradient)?;
        Ok(vec![fused.swiglu(gate, up)?, d_gate, d_up])
    };
    let got = run().map_err(failed("swiglu"))?;
    agree(options.0, &got, &inputs, &gradient, |inputs| composed::swiglu(&inputs[0], &inputs[1]))
}

fn rotary(fused: &Fused, options: (Kind, Device)) -> Result<()> {
    let inputs = every([random(&[37, 6, 64], options)])?;
    let tables = every([random(&[37, 32], options), random(&[37, 32], options)])?;
    let [cos, sin] = tables.each_ref();
    let gradient = random(&[37, 6, 64], options).map_err(failed("proof"))?;
    let run = || -> Torched<Vec<Torch>> {
        Ok(vec![
            fused.rotary(&inputs[0], cos, sin, Turn::Forward)?,
            fused.rotary(&gradient, cos, sin, Turn::Back)?,
        ])
    };
    let got = run().map_err(failed("rotary"))?;
    let [cos, sin] = [wide(cos)?, wide(sin)?];
    agree(options.0, &got, &inputs, &gradient, |inputs| composed::rotary(&inputs[0], &cos, &sin))
}

fn sums(fused: &Fused, kind: Kind, device: Device) -> Result<()> {
    let run = || -> Torched<Vec<(Torch, Torch)>> {
        let x = random(&[50_000], (kind, device))?;
        let y = random(&[7, 16], (kind, device))?;
        let squares = fused.sum_of_squares(&[&x, &y])?;
        let each = |x: &Torch| x.f_to_kind(Kind::Double)?.f_square()?.f_sum(Kind::Double);
        let index = |values: &[i32]| Torch::f_from_slice(values)?.f_to_device(device);
        let rows = fused.row_sums(&y, &index(&[0, 2, 2, 5])?, &index(&[6, 0, 3, 3, 1])?)?;
        let wide = y.f_to_kind(Kind::Float)?;
        let at = |row: i64| wide.f_get(row);
        let none = wide.f_get(0)?.f_zeros_like()?;
        let want = [at(6)?.f_add(&at(0)?)?, none, at(3)?.f_mul_scalar(2.0)?.f_add(&at(1)?)?];
        Ok(vec![(squares, each(&x)?.f_add(&each(&y)?)?.f_reshape([1])?), (rows, Torch::f_stack(&want, 0)?)])
    };
    for (got, want) in run().map_err(failed("sums"))? {
        near(kind, &got, &want)?;
    }
    Ok(())
}

/// Sums the columns of several parts of rows, in widths of one block and of several; the last block is not full.
fn column_sums(fused: &Fused, options: (Kind, Device)) -> Result<()> {
    for size in [[200, 72], [200, 328]] {
        let run = || -> Torched<[Torch; 2]> {
            let x = random(&size, options)?;
            let want = x.f_to_kind(Kind::Double)?.f_sum_dim_intlist(0i64, false, None)?;
            Ok([fused.column_sums(&x)?, want])
        };
        let [got, want] = run().map_err(failed("column_sums"))?;
        near(options.0, &got, &want)?;
    }
    Ok(())
}

/// Updates two tensors in one launch, one of several chunks; each has its own weight decay.
fn adamw(fused: &Fused, device: Device) -> Result<()> {
    let options = (Kind::Float, device);
    let step = |weight_decay| AdamWStep {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay,
        step: 3,
        grad_scale: 0.5,
    };
    let steps = [step(0.1), step(0.0)];
    let mut all = Vec::new();
    for size in [&[700, 100][..], &[33]] {
        let [param, mean, variance, gradient] = every([(); 4].map(|()| random(size, options)))?;
        all.push([param, mean, variance.f_square().map_err(failed("adamw"))?, gradient]);
    }
    let mut wants = Vec::new();
    for (step, [param, mean, variance, gradient]) in steps.iter().zip(&all) {
        let copy = |x: &Torch| -> Result<Tensor> {
            Ok(Tensor::new(TchTensor::constant(x.f_mul_scalar(1.0).map_err(failed("adamw"))?)))
        };
        let slots = Slots { param: copy(param)?, mean: copy(mean)?, variance: copy(variance)? };
        composed::adamw(step, &slots, &copy(gradient)?)?;
        wants.push(slots);
    }
    let updates: Vec<Update<'_>> =
        steps.iter().zip(&all).map(|(step, slots)| Update { step, slots: slots.each_ref() }).collect();
    fused.adamw(&updates).map_err(failed("adamw"))?;
    for ([param, mean, variance, _], slots) in all.iter().zip(&wants) {
        for (got, want) in
            [param, mean, variance].into_iter().zip([&slots.param, &slots.mean, &slots.variance])
        {
            near(Kind::Float, got, &want.downcast::<TchTensor>("adamw", crate::NAME)?.value)?;
        }
    }
    Ok(())
}

/// Compares a value and gradients with those of the reference over the same inputs in f32.
pub(super) fn agree(
    kind: Kind,
    got: &[Torch],
    inputs: &[Torch],
    gradient: &Torch,
    reference: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    let leaves = inputs.iter().map(|x| Ok(wide(x)?.variable())).collect::<Result<Vec<_>>>()?;
    let value = reference(&leaves)?;
    let mut want = vec![Some(value.detach())];
    want.extend(Tensor::pull(&[(&value, &wide(gradient)?)], &leaves.iter().collect::<Vec<_>>())?);
    for (got, want) in got.iter().zip(want) {
        let want = want.ok_or_else(|| pcrm_core::Error::invalid("proof", "a gradient is missing"))?;
        near(kind, got, &want.downcast::<TchTensor>("proof", crate::NAME)?.value)?;
    }
    Ok(())
}

pub(super) fn near(kind: Kind, got: &Torch, want: &Torch) -> Result<()> {
    let error = || -> Torched<f64> {
        let (got, want) = (got.f_to_kind(Kind::Double)?, want.f_to_kind(Kind::Double)?);
        got.f_sub(&want)?.f_norm()?.f_div(&want.f_norm()?)?.f_double_value(&[])
    };
    let error = error().map_err(failed("proof"))?;
    match error < bound(kind) && got.size() == want.size() {
        true => Ok(()),
        false => {
            let message =
                format!("differs from the reference by {error:.1e} in {kind:?}, shape {:?}", got.size());
            Err(pcrm_core::Error::invalid("proof", message))
        }
    }
}

pub(super) fn random(size: &[i64], options: (Kind, Device)) -> Torched {
    Torch::f_randn(size, options)
}

pub(super) fn every<const N: usize>(made: [Torched; N]) -> Result<[Torch; N]> {
    let mut all = Vec::with_capacity(N);
    for one in made {
        all.push(one.map_err(failed("proof"))?);
    }
    all.try_into().map_err(|_| pcrm_core::Error::invalid("proof", "inputs are missing"))
}

pub(super) fn wide(x: &Torch) -> Result<Tensor> {
    Ok(Tensor::new(TchTensor::constant(x.f_to_kind(Kind::Float).map_err(failed("proof"))?)))
}
