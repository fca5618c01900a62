//! Bounds that change over training.

use anyhow::{Context, Result, ensure};
use pcrm_core::constraint;
use pcrm_rl::metrics;
use pcrm_rl::objective::reward::Reward;
use pcrm_rl::objective::{self, Batch};
use pcrm_rl::order::BatchSize;
use pcrm_rl::pairs::Pairs;
use tempfile::tempdir;

use crate::planted::{Bench, gradient, model, pairs, reward};
use crate::subject::every_backend;

/// Protects: the bounds of every step, computed by hand: over 14 steps, from 3 times the bound of 2 down to
/// the bound itself, linearly over the first half. Evaluations use the final bound, and `metrics.jsonl` has
/// the factor.
#[test]
fn bounds_follow_the_schedule_step_by_step() -> Result<()> {
    let scheduled =
        r#"{"kind": "schedule", "of": {"kind": "fixed", "bound": 4}, "from": 1.5, "to": 0.5, "over": 0.5}"#;
    every_backend(|backend| {
        let dir = tempdir()?;
        let (_, watch) = Bench::under(scheduled)?.finish(backend, dir.path())?;
        ensure!(watch.lines.len() == 14, "{} steps", watch.lines.len());
        for (made, line) in watch.lines.iter().enumerate() {
            let factor = 3.0 - 2.0 * (made as f64 / 7.0).min(1.0);
            let logged = line.metrics.get("bound_factor").context("no factor")?;
            ensure!(
                (logged - factor).abs() < 1e-12,
                "step {}: factor {logged}, expected {factor}",
                line.step
            );
            let bound = line.metrics.get("bound").context("no bound")?;
            ensure!((bound - 2.0 * factor).abs() < 1e-6, "step {}: bound {bound}", line.step);
        }
        for (step, measures, _) in &watch.evaluations {
            ensure!(measures.get("bound") == Some(2.0), "evaluation after step {step}: {measures:?}");
        }
        let lines = metrics::read(&dir.path().join("metrics.jsonl"))?;
        ensure!(lines[0]["bound_factor"] == 3.0, "{}", lines[0]);
        let plain = tempdir()?;
        Bench::usual()?.finish(backend, plain.path())?;
        let lines = metrics::read(&plain.path().join("metrics.jsonl"))?;
        ensure!(lines[0].get("bound_factor").is_none(), "{}", lines[0]);
        Ok(())
    })
}

/// Protects: a step whose bounds are loosened by a factor equals the step with those bounds, in every bit of
/// the loss, the gradients and the share of margins beyond them.
#[test]
fn a_factor_is_nothing_but_other_bounds() -> Result<()> {
    let data = pairs(24, 1, r#"{"kind": "random", "low": 0.1, "high": 0.4}"#)?;
    let doubled = Pairs::new(data.sets.clone(), data.bounds.iter().map(|bound| 2.0 * bound).collect());
    let all: Vec<usize> = (0..data.sets.len()).collect();
    // Twice as loose before the first step as at the end.
    let doubling = constraint::parse("schedule")?;
    every_backend(|backend| {
        let model = model(backend, 1)?.trainable();
        let want = gradient(backend, &model, &doubled, reward(), &all, 64)?;
        let loosened = Reward { config: reward(), schedule: Some(doubling.as_ref()) };
        let batch = Batch { data: &data, items: &all, micro_tokens: 64 };
        let got = objective::gradient(backend, &loosened, &model, &batch, 0.0)?;
        // The factor is reported besides the metrics that both have.
        let shown = |name: &str, from: &objective::Gradient| from.metrics.summary().get(name);
        let names = ["loss", "ranking_loss", "constraint_loss", "bound", "beyond_bound"];
        let (got_shown, want_shown) =
            (names.map(|name| shown(name, &got)), names.map(|name| shown(name, &want)));
        let one = gradient(backend, &model, &data, reward(), &all, 64)?;
        ensure!(shown("beyond_bound", &one) > want_shown[4], "the bounds are too loose to show a difference");
        if backend.exact() {
            ensure!(got_shown == want_shown, "{got_shown:?}, expected {want_shown:?}");
        }
        for (name, _) in model.params().iter() {
            let read =
                |from: &pcrm_core::Gradients| -> Result<Vec<f32>> { Ok(from.get(name)?.read()?.into_f32()) };
            backend.check_same(name, &read(&got.gradients)?, &read(&want.gradients)?)?;
        }
        Ok(())
    })
}

/// Protects: a run whose bounds change learns other weights than one with the final bounds throughout, and a
/// factor of 1 changes no bit.
#[test]
fn only_a_factor_that_is_not_one_changes_a_run() -> Result<()> {
    every_backend(|backend| {
        let weights = |constraint: &str| -> Result<Vec<u8>> {
            let dir = tempdir()?;
            let mut bench = Bench::under(constraint)?;
            bench.config.batch = BatchSize::Pairs(16);
            bench.finish(backend, dir.path())?;
            Ok(std::fs::read(dir.path().join("model.safetensors"))?)
        };
        let fixed = weights(r#"{"kind": "fixed", "bound": 0.5}"#)?;
        let of = r#"{"kind": "fixed", "bound": 0.5}"#;
        let flat = weights(&format!(r#"{{"kind": "schedule", "of": {of}, "from": 1}}"#))?;
        ensure!(!backend.exact() || flat == fixed, "a factor of 1 changed the run");
        let loosened = weights(&format!(r#"{{"kind": "schedule", "of": {of}, "from": 4}}"#))?;
        ensure!(loosened != fixed, "a factor of 4 changed nothing");
        ensure!(constraint::parse("schedule")?.factor(0.0) == Some(2.0), "the default factor is not 2");
        Ok(())
    })
}
