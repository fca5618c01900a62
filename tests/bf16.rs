//! bf16 where a device has it: fused operations and a whole model against the same in f32.
//!
//! A number of 8 bits is off by up to 2⁻⁹ of itself (0.2 %), so results are compared by their norms.

use anyhow::{Context, Result, ensure};
use pcrm_core::{DType, HostTensor};
use pcrm_rl::batch::ScoreAt;
use pcrm_rl::score::score_pairs;

use crate::cases::{Case, kernels};
use crate::packing::{centred, models, ragged};
use crate::planted::gradient;
use crate::subject::{Subject, every_backend_with_bf16};
use crate::support::check_norm;

const OPERATION: f64 = 2e-2;
const MODEL: f64 = 3e-2; // two layers of operations
/// Of the weights. Rounding them alone then moves gradients by up to 0.9 %; at 0.3 it would be 2.4 %.
const CALM: f64 = 0.15;

/// The operands cut to numbers that bf16 holds: what is compared is the operation, and not what its operands lost.
fn held(operand: &HostTensor) -> Result<HostTensor> {
    let cut = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
    Ok(HostTensor::f32(operand.shape(), operand.to_f32().into_iter().map(cut).collect())?)
}

fn cases() -> Result<Vec<Case>> {
    let tables = [
        kernels::linear()?,
        kernels::norms()?,
        kernels::activations()?,
        kernels::rotary()?,
        kernels::token_stats()?,
        kernels::attention()?,
    ];
    let mut cases: Vec<Case> = tables.into_iter().flatten().collect();
    for input in cases.iter_mut().flat_map(|case| &mut case.inputs) {
        *input = held(input)?;
    }
    Ok(cases)
}

fn check_case(backend: &Subject, case: &Case) -> Result<()> {
    let ((got, got_gradients), dtype) = case.cast(backend, DType::BF16)?;
    let expected = kernels::result(&case.name, DType::BF16);
    ensure!(dtype == expected, "the result is {dtype}, expected {expected}");
    let (want, want_gradients) = case.reference(backend)?;
    check_norm("value", &got, &want, OPERATION)?;
    for (at, (got, want)) in got_gradients.iter().zip(&want_gradients).enumerate() {
        check_norm(&format!("gradient of operand {at}"), got, want, OPERATION)?;
    }
    Ok(())
}

/// Protects: kernels take bf16 operands, compute what they compute in f32 as far as bf16 goes, give bf16 (statistics of
/// tokens f32), and their gradients reach the f32 masters through the cast.
#[test]
fn fused_operations_in_bf16_are_near_those_in_f32() -> Result<()> {
    let cases = cases()?;
    every_backend_with_bf16(|backend| {
        cases.iter().try_for_each(|case| check_case(backend, case).with_context(|| case.name.clone()))
    })
}

/// Protects: a model trains in bf16 over f32 masters: its scores and every gradient are near those in f32.
#[test]
fn a_model_in_bf16_is_near_the_model_in_f32() -> Result<()> {
    let data = ragged()?;
    let all: Vec<usize> = (0..data.sets.len()).collect();
    every_backend_with_bf16(|backend| {
        let llama = |dtype| -> Result<_> {
            let (_, model) = models(backend, dtype, CALM)?.into_iter().next().context("no model")?;
            let sets: Vec<_> = data.sets.iter().collect();
            let scores = score_pairs(&model, &sets, 1 << 20)?.into_iter().flat_map(<[f32; 2]>::from);
            let made = gradient(backend, &model, &data, (centred(ScoreAt::Last), &all), 1 << 20)?;
            Ok((scores.collect::<Vec<f32>>(), made.gradients))
        };
        let ((got, got_gradients), (want, want_gradients)) = (llama(DType::BF16)?, llama(DType::F32)?);
        check_norm("scores", &got, &want, MODEL)?;
        for (name, want) in want_gradients.iter() {
            let got = got_gradients.get(name)?;
            ensure!(got.dtype() == DType::F32, "the gradient of {name} is {}", got.dtype());
            check_norm(name, &got.read()?.into_f32(), &want.read()?.into_f32(), MODEL)?;
        }
        Ok(())
    })
}
