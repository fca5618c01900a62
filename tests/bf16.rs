//! bf16 on the devices that have it: fused operations and a whole model, compared with f32.
//!
//! An 8-bit significand is off by up to 2⁻⁹ of the value (0.2 %), so results are compared by their norms.

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
/// Spread of the weights. Rounding them alone changes gradients by up to 0.9 %; with a spread of 0.3 it would
/// be 2.4 %.
const CALM: f64 = 0.15;

/// Rounds an operand to values that bf16 holds, so that the test measures the operation and not the rounding
/// of its operands.
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

/// Protects: kernels take bf16 operands, agree with f32 within the precision of bf16, and return bf16 (token
/// statistics f32); their gradients reach the f32 masters through the cast.
#[test]
fn fused_operations_in_bf16_are_near_those_in_f32() -> Result<()> {
    let cases = cases()?;
    every_backend_with_bf16(|backend| {
        cases.iter().try_for_each(|case| check_case(backend, case).with_context(|| case.name.clone()))
    })
}

/// Protects: a model trains in bf16 with f32 masters; its scores and every gradient are near those in f32.
#[test]
fn a_model_in_bf16_is_near_the_model_in_f32() -> Result<()> {
    let data = ragged()?;
    let all: Vec<usize> = (0..data.sets.len()).collect();
    every_backend_with_bf16(|backend| {
        let llama = |dtype| -> Result<_> {
            let (_, model) = models(backend, dtype, CALM)?.into_iter().next().context("no model")?;
            let sets: Vec<_> = data.sets.iter().collect();
            let scores = score_pairs(&model, &sets, 1 << 20)?.into_iter().flat_map(<[f32; 2]>::from);
            let made = gradient(backend, &model, &data, centred(ScoreAt::Last), &all, 1 << 20)?;
            Ok((scores.collect::<Vec<f32>>(), made.gradients))
        };
        let ((got, got_gradients), (want, want_gradients)) = (llama(DType::BF16)?, llama(DType::F32)?);
        check_norm("scores", &got, &want, MODEL)?;
        for (name, want) in want_gradients.iter() {
            let got = got_gradients.get(name)?;
            ensure!(got.dtype() == DType::F32, "the gradient of {name} has type {}", got.dtype());
            check_norm(name, &got.read()?.into_f32(), &want.read()?.into_f32(), MODEL)?;
        }
        Ok(())
    })
}
