//! The proof of AdamW with 8-bit moments and of stochastic rounding on the opened GPU: to the bit, because
//! checkpoints move between devices.

use candle_core as ct;
use pcrm_core::kernels::{AdamWStep, QuantisedMoment, QuantisedSlots, RandomBits};
use pcrm_core::optim::dynamic::{BLOCK, Moment, maps};
use pcrm_core::{DType, Error, HostTensor, Result, Tensor, composed, operands};

use super::fused::Fused;
use super::proof::random;
use crate::NAME;
use crate::tensor::CandleTensor;

/// Proves both kernels.
pub(super) fn of_optimiser(fused: &Fused, device: &ct::Device) -> std::result::Result<(), String> {
    let proofs = [("adamw_8bit", adamw_8bit(fused, device)), ("round_at_random", rounding(fused, device))];
    proofs.into_iter().try_for_each(|(name, proof)| proof.map_err(|error| format!("{name}: {error}")))
}

fn noise(size: usize, seed: u64, device: &ct::Device) -> Result<Tensor> {
    let noise = random(&[size], seed, device).map_err(Error::backend(NAME, "proof"))?;
    Ok(Tensor::new(CandleTensor::constant(noise)))
}

/// Takes three steps for a part of a block, and for many blocks with a part of one, so that every warp of a launch
/// processes several blocks. The second gradient has a block of zeros, the third one has numbers that are not finite.
fn adamw_8bit(fused: &Fused, device: &ct::Device) -> Result<()> {
    for size in [37, 40 * BLOCK + 3] {
        let slots = || -> Result<QuantisedSlots> {
            let param = noise(size, 1, device)?;
            let [mean, variance] = [(); 2].map(|()| QuantisedMoment::upload(Moment::zeros(size), &param));
            Ok(QuantisedSlots { mean: mean?, variance: variance?, maps: param.constant(&maps()?)?, param })
        };
        let (own, reference) = (slots()?, slots()?);
        for step in 1..=3 {
            let mut gradient = noise(size, 1 + step, device)?.read()?.into_f32();
            match step {
                2 => gradient.iter_mut().take(BLOCK).for_each(|x| *x = 0.0),
                3 => (gradient[1], gradient[size - 1]) = (f32::NAN, f32::INFINITY),
                _ => {}
            }
            let gradient = own.param.constant(&HostTensor::vector(gradient))?;
            let (lr, eps) = (1e-2, 1e-8);
            let how =
                AdamWStep { lr, beta1: 0.9, beta2: 0.999, eps, weight_decay: 0.1, step, grad_scale: 0.5 };
            let operands = operands::adamw_8bit::<CandleTensor>(NAME, &own, &gradient)?;
            let launched = fused.adamw_8bit_by(2, &how, operands.map(|operand| &operand.value));
            launched.map_err(Error::backend(NAME, "adamw_8bit"))?;
            composed::adamw_8bit(&how, &reference, &gradient)?;
            same("weights", &own.param, &reference.param)?;
            for (got, want) in [(&own.mean, &reference.mean), (&own.variance, &reference.variance)] {
                same("magnitudes", &got.largest, &want.largest)?;
                if got.read()?.codes != want.read()?.codes {
                    let message = format!("other codes at step {step} of {size} elements");
                    return Err(Error::invalid("proof", message));
                }
            }
        }
    }
    Ok(())
}

/// Rounds ordinary and tiny numbers and some that are not finite, in two parts.
fn rounding(fused: &Fused, device: &ct::Device) -> Result<()> {
    let mut numbers = noise(70_001, 1, device)?.read()?.into_f32();
    numbers[..5].copy_from_slice(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-42, -3.4e38]);
    let value = noise(1, 1, device)?.constant(&HostTensor::vector(numbers))?;
    let (own, reference) = (value.cast(DType::BF16)?, value.cast(DType::BF16)?);
    for (start, length) in [(0, 4096), (4096, 65_905)] {
        let bits = RandomBits { own: 0x9E37_79B9_7F4A_7C15, step: 3, first: start as u64 };
        let part = |x: &Tensor| x.narrow(0, start, length);
        let (value, own) = (part(&value)?, part(&own)?);
        let [of_value, of_own] = operands::round_at_random::<CandleTensor>(NAME, &value, &own)?;
        let launched = fused.round_at_random(&of_value.value, &of_own.value, &bits);
        launched.map_err(Error::backend(NAME, "round_at_random"))?;
        composed::round_at_random(&value, &part(&reference)?, &bits)?;
    }
    same("weights", &own, &reference)
}

/// Returns an error unless all numbers have the same bits or are both NaN.
fn same(what: &str, got: &Tensor, want: &Tensor) -> Result<()> {
    let (got, want) = (got.read()?.into_f32(), want.read()?.into_f32());
    let differ =
        |(got, want): (&f32, &f32)| got.to_bits() != want.to_bits() && !(got.is_nan() && want.is_nan());
    match got.iter().zip(&want).position(differ) {
        Some(at) => Err(Error::invalid("proof", format!("{what} differ from the reference at element {at}"))),
        None => Ok(()),
    }
}
