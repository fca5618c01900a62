//! The losses of pairs against torch in float64: values, and the gradients of both scores.
//!
//! `golden/loss` has the numbers and the script that made them.

use std::fs;

use anyhow::{Context, Result, ensure};
use pcrm_rl::loss::{LossConfig, PairLoss, RankingForm, ScorePair, WrongShare};
use serde_json::Value;

use crate::support::beside;

/// f64 against float64, with scores of 60 and 800 among the cases.
const TOLERANCE: f64 = 1e-12;

/// Returns the numbers of a field, `"inf"` included, or `count` times `absent` if the case has no such field.
fn numbers(case: &Value, field: &str, count: usize, absent: f64) -> Vec<f64> {
    let number = |value: &Value| match value.as_str() {
        Some(_) => f64::INFINITY,
        None => value.as_f64().unwrap_or(f64::NAN),
    };
    match case[field].as_array() {
        Some(values) => values.iter().map(number).collect(),
        None => vec![absent; count],
    }
}

fn check(what: &str, got: f64, want: f64) -> Result<()> {
    ensure!((got - want).abs() <= TOLERANCE * (1.0 + want.abs()), "{what}: {got}, expected {want}");
    Ok(())
}

fn check_case(case: &Value) -> Result<()> {
    let (chosen, rejected) = (numbers(case, "chosen", 0, 0.0), numbers(case, "rejected", 0, 0.0));
    let count = chosen.len();
    let bounds = numbers(case, "bound", count, f64::INFINITY);
    let margins = numbers(case, "margin", count, 0.0);
    let config = LossConfig {
        form: match case["label_smoothing"].as_f64() {
            Some(share) => RankingForm::Smoothed { label_smoothing: WrongShare::Given(share) },
            None => RankingForm::Bt,
        },
        center_rewards: case["center"].as_f64().unwrap_or(0.0),
        ..LossConfig::default()
    };
    let [by_chosen, by_rejected] =
        ["grad_chosen", "grad_rejected"].map(|field| numbers(case, field, count, f64::NAN));
    let share = 1.0 / count as f64;
    let mut sum = PairLoss::default();
    for at in 0..count {
        let comparison = ScorePair {
            chosen: chosen[at],
            rejected: rejected[at],
            bound: bounds[at],
            margin: margins[at],
            tied: false,
        };
        let loss = config.pair(&comparison)?;
        check("d chosen", share * loss.d_chosen, by_chosen[at])?;
        check("d rejected", share * loss.d_rejected, by_rejected[at])?;
        sum.total += share * loss.total;
        sum.ranking += share * loss.ranking;
        sum.constraint += share * loss.constraint;
    }
    check("loss", sum.total, case["loss"].as_f64().context("loss")?)?;
    // The reported parts of the loss add up to the minimised total.
    match config.center_rewards == 0.0 {
        true => check("sum of the parts", sum.ranking + sum.constraint, sum.total),
        false => Ok(()),
    }
}

/// Protects: margins, smoothing, centring and bounds (none, some, infinite, zero, reached) follow `make.py`,
/// and scores far beyond the range of exp give neither infinities nor NaN.
#[test]
fn losses_and_gradients_are_those_of_torch() -> Result<()> {
    let golden: Value = serde_json::from_str(&fs::read_to_string(beside("golden/loss/loss.json"))?)?;
    let cases = golden["cases"].as_array().context("cases")?;
    ensure!(cases.len() >= 15, "loss.json has {} cases", cases.len());
    cases.iter().try_for_each(|case| check_case(case).with_context(|| case["name"].to_string()))
}
