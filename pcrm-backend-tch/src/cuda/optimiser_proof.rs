//! The proof of AdamW with 8-bit moments and of stochastic rounding on a GPU: to the bit, because checkpoints move
//! between devices.

use pcrm_core::kernels::{AdamWStep, QuantisedMoment, QuantisedSlots, RandomBits};
use pcrm_core::optim::dynamic::{BLOCK, Moment, maps};
use pcrm_core::{Error, HostTensor, Result, Tensor, composed, operands};
use tch::{Device, Kind, Tensor as Torch};

use super::fused::Fused;
use super::proof::random;
use crate::failed;
use crate::ops::Torched;
use crate::tensor::TchTensor;

/// Proves both kernels.
pub(super) fn of_optimiser(fused: &Fused, device: Device) -> std::result::Result<(), String> {
    let proofs = [("adamw_8bit", adamw_8bit(fused, device)), ("round_at_random", rounding(fused, device))];
    proofs.into_iter().try_for_each(|(name, proof)| proof.map_err(|error| format!("{name}: {error}")))
}

/// Takes three steps for a part of a block, and for many blocks with a part of one, so that every warp of a launch
/// processes several blocks. The second gradient has a block of zeros, the third one has numbers that are not finite.
fn adamw_8bit(fused: &Fused, device: Device) -> Result<()> {
    for size in [37, 40 * BLOCK + 3] {
        let noise = || floats(&random(&[size as i64], (Kind::Float, device)).map_err(failed("proof"))?);
        let like =
            Tensor::new(TchTensor::constant(random(&[1], (Kind::Float, device)).map_err(failed("proof"))?));
        let upload = |numbers: Vec<f32>| like.constant(&HostTensor::vector(numbers));
        let start = noise()?;
        let slots = || -> Result<QuantisedSlots> {
            let [mean, variance] = [(); 2].map(|()| QuantisedMoment::upload(Moment::zeros(size), &like));
            let maps = like.constant(&maps()?)?;
            Ok(QuantisedSlots { param: upload(start.clone())?, mean: mean?, variance: variance?, maps })
        };
        let (own, reference) = (slots()?, slots()?);
        for step in 1..=3 {
            let mut gradient = noise()?;
            match step {
                2 => gradient.iter_mut().take(BLOCK).for_each(|x| *x = 0.0),
                3 => (gradient[1], gradient[size - 1]) = (f32::NAN, f32::INFINITY),
                _ => {}
            }
            let gradient = upload(gradient)?;
            let (lr, eps) = (1e-2, 1e-8);
            let how =
                AdamWStep { lr, beta1: 0.9, beta2: 0.999, eps, weight_decay: 0.1, step, grad_scale: 0.5 };
            let operands = operands::adamw_8bit::<TchTensor>(crate::NAME, &own, &gradient)?;
            let launched = fused.adamw_8bit_by(2, &how, operands.map(|operand| &operand.value));
            launched.map_err(failed("adamw_8bit"))?;
            composed::adamw_8bit(&how, &reference, &gradient)?;
            same("weights", &own.param.read()?.into_f32(), &reference.param.read()?.into_f32())?;
            for (got, want) in [(&own.mean, &reference.mean), (&own.variance, &reference.variance)] {
                let (got, want) = (got.read()?, want.read()?);
                same("magnitudes", &got.largest, &want.largest)?;
                if got.codes != want.codes {
                    let message = format!("other codes at step {step} of {size} elements");
                    return Err(Error::invalid("proof", message));
                }
            }
        }
    }
    Ok(())
}

/// Rounds ordinary and tiny numbers and some that are not finite, in two parts.
fn rounding(fused: &Fused, device: Device) -> Result<()> {
    let run = || -> Torched<[Torch; 3]> {
        let value = random(&[70_001], (Kind::Float, device))?;
        let edges = Torch::f_from_slice(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-42, -3.4e38])?;
        value.f_narrow(0, 0, 5)?.f_copy_(&edges)?;
        let [own, reference] = [(); 2].map(|()| value.f_to_kind(Kind::BFloat16));
        Ok([value, own?, reference?])
    };
    let [value, own, reference] = run().map_err(failed("proof"))?;
    let wrapped = |x: &Torch| Tensor::new(TchTensor::constant(x.shallow_clone()));
    for (start, length) in [(0, 4096), (4096, 65_905)] {
        let bits = RandomBits { own: 0x9E37_79B9_7F4A_7C15, step: 3, first: start as u64 };
        let part = |x: &Torch| x.f_narrow(0, start, length).map_err(failed("proof"));
        fused.round_at_random(&part(&value)?, &part(&own)?, &bits).map_err(failed("round_at_random"))?;
        composed::round_at_random(&wrapped(&part(&value)?), &wrapped(&part(&reference)?), &bits)?;
    }
    same("weights", &floats(&own)?, &floats(&reference)?)
}

fn floats(x: &Torch) -> Result<Vec<f32>> {
    Ok(Tensor::new(TchTensor::constant(x.shallow_clone())).read()?.into_f32())
}

/// Returns an error unless all numbers have the same bits or are both NaN.
fn same(what: &str, got: &[f32], want: &[f32]) -> Result<()> {
    let differ =
        |(got, want): (&f32, &f32)| got.to_bits() != want.to_bits() && !(got.is_nan() && want.is_nan());
    match got.iter().zip(want).position(differ) {
        None if got.len() == want.len() => Ok(()),
        at => {
            let at = at.unwrap_or(got.len().min(want.len()));
            Err(Error::invalid("proof", format!("{what} differ from the reference at element {at}")))
        }
    }
}
