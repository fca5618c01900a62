//! Agreement of training: the same seed and data give the same run on every backend and device.
//!
//! `golden/agreement` has the losses and held-out scores of 50 steps under every registered constraint,
//! computed with candle on a CPU. Unfitted constraints are fitted to the wins of planted judges. Machines
//! with and without a GPU compare through these files. After a change that is meant to change training,
//! `PCRM_WRITE_AGREEMENT=1 cargo test` rewrites them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use pcrm_core::DType;
use pcrm_core::model::{LanguageModel, RewardModel};
use pcrm_core::registry::{self, ConstraintPlugin};
use pcrm_rl::learner::Learner;
use pcrm_rl::loss::preference::PreferenceConfig;
use pcrm_rl::metrics;
use pcrm_rl::objective::Batch;
use pcrm_rl::objective::dpo::{Dpo, Preferences};
use pcrm_rl::options::TrainerConfig;
use pcrm_rl::order::BatchSize;
use pcrm_rl::pairs::Pairs;
use pcrm_rl::reference::{AnswerLogProbs, token_log_probs};
use pcrm_rl::score::score_pairs;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::planted::{Bench, config, language_model, pairs};
use crate::subject::{Subject, across, every_backend};
use crate::support::beside;

const STEPS: usize = 50;
/// The β of policies.
const BETA: f64 = 0.5;
/// Relative tolerance of the loss. Sums in another order move losses by up to 4e-7, initial weights that are
/// off by 1e-7 by 2.5e-6, by 1e-5 by 1.7e-4.
const LOSSES: f64 = 1e-4;
const SCORES: f64 = 1e-3;
/// The backend and device that write the files.
const WRITER: &str = "candle, cpu";

/// The compared figures of a run.
#[derive(Debug)]
struct Trace {
    /// The loss of every step.
    losses: Vec<f64>,
    /// Scores of the chosen and rejected answers of held-out pairs.
    scores: Vec<f64>,
}

fn learning() -> TrainerConfig {
    TrainerConfig {
        epochs: 100.0,
        max_steps: Some(STEPS as u64),
        batch: BatchSize::Pairs(16),
        learning_rate: 2e-3,
        eval_every: None,
        save_every: None,
        ..config()
    }
}

fn trace(backend: &Subject, constraint: &str) -> Result<Trace> {
    let held_out = pairs(16, 2, constraint)?;
    let schedule = Some(pcrm_core::constraint::parse(constraint)?);
    let bench = Bench { layers: 2, schedule, ..Bench::new(learning(), pairs(160, 1, constraint)?, None) };
    let dir = tempdir()?;
    bench.finish(backend, dir.path())?;
    let lines = metrics::read(&dir.path().join("metrics.jsonl"))?;
    let losses: Vec<f64> = lines.iter().filter_map(|line| line["loss"].as_f64()).collect();
    ensure!(losses.len() == STEPS, "metrics.jsonl has {} losses", losses.len());
    let model = RewardModel::load(backend, dir.path(), DType::F32)?;
    let scores = score_pairs(&model, &held_out.sets.iter().collect::<Vec<_>>(), 1000)?;
    Ok(Trace { losses, scores: scores.into_iter().flat_map(|(c, r)| [f64::from(c), f64::from(r)]).collect() })
}

/// Returns the same for a policy trained by DPO under a constraint; the scores are its implicit rewards.
fn policy_trace(backend: &Subject, constraint: &str) -> Result<Trace> {
    let start = language_model(backend, 2)?;
    let log_probs = |model: &LanguageModel, pairs: &Pairs| -> Result<AnswerLogProbs> {
        pairs.sets.iter().map(|set| Ok(token_log_probs(&model.detached(), &[set])?)).collect()
    };
    let (pairs, held_out) = (pairs(160, 1, constraint)?, pairs(16, 2, "none")?);
    let before = log_probs(&start, &held_out)?;
    let reference = log_probs(&start, &pairs)?;
    let data = Preferences::new(pairs, Some(reference))?;
    let schedule = pcrm_core::constraint::parse(constraint)?;
    let config = PreferenceConfig { beta: BETA, ..PreferenceConfig::default() };
    let objective = Dpo { config, schedule: Some(schedule.as_ref()) };
    let trainer = learning();
    let mut learner = Learner::new(backend, &start, &trainer, STEPS as u64)?;
    let mut losses = Vec::with_capacity(STEPS);
    for step in 0..STEPS {
        let items: Vec<usize> = (0..16).map(|at| (16 * step + at) % 160).collect();
        let batch = Batch { data: &data, items: &items, micro_tokens: trainer.micro_tokens };
        let (gradient, _) = learner.step(backend, &objective, &batch, step as f64 / STEPS as f64)?;
        losses.push(gradient.metrics.summary().loss());
    }
    let after = log_probs(&learner.model, &held_out)?;
    let sum = |of: &Vec<f32>| of.iter().copied().map(f64::from).sum::<f64>();
    let reward = |(after, before)| BETA * (sum(after) - sum(before));
    let scores = after.iter().flatten().zip(before.iter().flatten()).map(reward).collect();
    Ok(Trace { losses, scores })
}

fn check_traces(got: &Trace, want: &Trace) -> Result<()> {
    ensure!(
        got.losses.len() == want.losses.len() && got.scores.len() == want.scores.len(),
        "the lengths differ"
    );
    for (step, (got, want)) in got.losses.iter().zip(&want.losses).enumerate() {
        let off = (got - want).abs() / want;
        ensure!(off <= LOSSES, "step {}: loss {got}, expected {want}: off by {off:e}", step + 1);
    }
    for (at, (got, want)) in got.scores.iter().zip(&want.scores).enumerate() {
        ensure!((got - want).abs() <= SCORES, "held-out score {at} is {got}, expected {want}");
    }
    Ok(())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn file(constraint: &str) -> PathBuf {
    beside("golden/agreement").join(format!("{constraint}.json"))
}

fn stored(constraint: &str) -> Result<Trace> {
    let path = file(constraint);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: set PCRM_WRITE_AGREEMENT=1 to write it on {WRITER}", path.display()))?;
    let json: Value = serde_json::from_str(&text)?;
    let list = |name: &str| json[name].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    Ok(Trace { losses: list("losses"), scores: list("scores") })
}

fn write(constraint: &str, trace: &Trace) -> Result<()> {
    let path = file(constraint);
    let rounded = |values: &[f64]| values.iter().map(|x| (x * 1e9).round() / 1e9).collect::<Vec<_>>();
    let json = json!({"losses": rounded(&trace.losses), "scores": rounded(&trace.scores)});
    fs::create_dir_all(path.parent().context("a folder")?)?;
    Ok(fs::write(path, serde_json::to_string_pretty(&json)? + "\n")?)
}

fn constraints() -> Vec<&'static str> {
    registry::all::<ConstraintPlugin>().iter().map(|plugin| plugin.name).collect()
}

/// Checks that the loss falls by more than noise (a bounded one does not reach 0) and that held-out pairs are
/// ranked.
fn check_learned(trace: &Trace) -> Result<()> {
    let (first, last) = (mean(&trace.losses[..10]), mean(&trace.losses[STEPS - 10..]));
    ensure!(last < first - 0.1, "the loss went from {first} to {last}");
    let right = trace.scores.chunks(2).filter(|pair| pair[0] > pair[1]).count();
    ensure!(
        right * 10 > trace.scores.len() / 2 * 8,
        "only {right} of {} pairs are ranked correctly",
        trace.scores.len() / 2
    );
    Ok(())
}

/// The constraints that policies are compared under.
const POLICIES: [&str; 2] = ["none", "length_ratio"];

/// Protects: DPO with and without a bound gives the same losses and policy on every backend, device and
/// machine.
#[test]
fn every_policy_is_the_one_on_file() -> Result<()> {
    let writes = std::env::var_os("PCRM_WRITE_AGREEMENT").is_some_and(|value| value == "1");
    every_backend(|backend| {
        for constraint in POLICIES {
            let (name, got) = (format!("dpo-{constraint}"), policy_trace(backend, constraint)?);
            check_learned(&got).with_context(|| name.clone())?;
            if writes && backend.title == WRITER {
                write(&name, &got)?;
            }
            check_traces(&got, &stored(&name)?).with_context(|| name.clone())?;
        }
        Ok(())
    })
}

/// Protects: any two backends train the same policy, compared without the golden file.
#[test]
fn every_policy_is_that_of_other_backends() -> Result<()> {
    for constraint in POLICIES {
        across(|backend| policy_trace(backend, constraint), |_, [got, want]| check_traces(got, want))
            .with_context(|| constraint.to_owned())?;
    }
    Ok(())
}

/// Protects: under every constraint, training learns and gives the same losses and model on every backend,
/// device and machine.
#[test]
fn every_run_is_the_one_on_file() -> Result<()> {
    let writes = std::env::var_os("PCRM_WRITE_AGREEMENT").is_some_and(|value| value == "1");
    every_backend(|backend| {
        for constraint in constraints() {
            let got = trace(backend, constraint)?;
            check_learned(&got).with_context(|| constraint.to_owned())?;
            if writes && backend.title == WRITER {
                write(constraint, &got)?;
            }
            check_traces(&got, &stored(constraint)?).with_context(|| constraint.to_owned())?;
        }
        Ok(())
    })
}

/// Protects: any two backends train the same model, compared without the golden file.
#[test]
fn every_run_is_that_of_other_backends() -> Result<()> {
    for constraint in constraints() {
        across(|backend| trace(backend, constraint), |_, [got, want]| check_traces(got, want))
            .with_context(|| constraint.to_owned())?;
    }
    Ok(())
}
