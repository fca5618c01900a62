//! Every operation of each backend, on each device, compared with every other backend: the reference and the
//! kernels of one backend could share a mistake, but hardly two backends.

use anyhow::{Result, ensure};
use pcrm_core::{Backend, DType};
use pcrm_rl::batch::ScoreAt;

use crate::cases::{Case, Outcome, kernels, primitives};
use crate::kernels::after_adamw;
use crate::packing::{SPREAD, centred, models, ragged};
use crate::planted::gradient;
use crate::subject::{Subject, across};
use crate::support::{check_norm, random};

/// Compares with the tolerance of the looser of two devices.
fn check_close(
    [one, other]: [&Subject; 2],
    what: &str,
    got: &[f32],
    want: &[f32],
    tolerance: f32,
) -> Result<()> {
    let looser = if one.exact() { other } else { one };
    looser.check_close(what, got, want, tolerance)
}

fn check_outcomes(
    subjects: [&Subject; 2],
    case: &Case,
    (got, got_gradients): &Outcome,
    (want, want_gradients): &Outcome,
) -> Result<()> {
    check_close(subjects, &format!("{}: value", case.name), got, want, case.tolerance)?;
    ensure!(got_gradients.len() == want_gradients.len(), "{}: the number of gradients differs", case.name);
    for (at, (got, want)) in got_gradients.iter().zip(want_gradients).enumerate() {
        let what = format!("{}: gradient of operand {at}", case.name);
        check_close(subjects, &what, got, want, case.tolerance)?;
    }
    Ok(())
}

fn check_cases(cases: &[Case]) -> Result<()> {
    let outcomes = |backend: &Subject| cases.iter().map(|case| case.own(backend)).collect::<Result<Vec<_>>>();
    across(outcomes, |subjects, [got, want]| {
        cases
            .iter()
            .zip(got.iter().zip(want))
            .try_for_each(|(case, (got, want))| check_outcomes(subjects, case, got, want))
    })
}

/// Protects: a primitive computes the same values and gradients on every backend and device.
#[test]
fn primitives_agree_with_those_of_other_backends() -> Result<()> {
    check_cases(&primitives::all()?)
}

/// Protects: a fused operation computes the same values and gradients on every backend and device.
#[test]
fn fused_operations_agree_with_those_of_other_backends() -> Result<()> {
    check_cases(&kernels::all()?)
}

/// Protects: optimisers take the same step from the same gradients, and clip by the same norm.
#[test]
fn optimisers_agree_with_those_of_other_backends() -> Result<()> {
    let make = |backend: &Subject| -> Result<([Vec<f32>; 3], f64)> {
        let gradient = backend.upload(&random(&[5, 7], 4)?, DType::F32)?;
        let kernels = gradient.kernels();
        Ok((after_adamw(backend, kernels)?, kernels.sum_of_squares(&[&gradient])?))
    };
    across(make, |subjects, [got, want]| {
        for (at, what) in ["parameter", "mean", "variance"].into_iter().enumerate() {
            check_close(subjects, what, &got.0[at], &want.0[at], 2e-6)?;
        }
        check_close(subjects, "sum of squares", &[got.1 as f32], &[want.1 as f32], 1e-6)
    })
}

/// Protects: whole models agree in the loss of ragged pairs and in the gradient of every parameter.
#[test]
fn models_agree_with_those_of_other_backends() -> Result<()> {
    let data = ragged()?;
    let all: Vec<usize> = (0..data.sets.len()).collect();
    let make = |backend: &Subject| -> Result<Vec<(String, Vec<f32>)>> {
        let mut found = Vec::new();
        for (name, model) in models(backend, DType::F32, SPREAD)? {
            for score_at in [ScoreAt::Last, ScoreAt::DivergentMean] {
                let got = gradient(backend, &model, &data, centred(score_at), &all, 150)?;
                let loss = got.metrics.summary().loss() as f32;
                found.push((format!("{name}, {score_at:?}: loss"), vec![loss]));
                for (parameter, gradient) in got.gradients.iter() {
                    let what = format!("{name}, {score_at:?}: gradient of {parameter}");
                    found.push((what, gradient.read()?.into_f32()));
                }
            }
        }
        Ok(found)
    };
    across(make, |_, [got, want]| {
        ensure!(got.len() == want.len(), "the sets of parameters with gradients differ");
        got.iter().zip(want).try_for_each(|((what, got), (_, want))| check_norm(what, got, want, 4e-5))
    })
}
