//! Runs on sampled answers write metrics, samples, and a checkpoint before a failure ends them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_core::Backend;
use pcrm_rl::loss::policy::{GrpoConfig, PpoConfig, RlooConfig};
use pcrm_rl::metrics::StepMetrics;
use pcrm_rl::offline::Outcome;
use pcrm_rl::online::{Algorithm, OnlineConfig, OnlineDpoConfig};
use pcrm_rl::options::TrainerConfig;
use pcrm_rl::reward_source::{Answers, Combine, RewardSource, Scored, Weighted};
use pcrm_rl::score_range::ScoreRange;
use serde_json::{Value, json};

use crate::online::{config, run_rewarded, run_with, samples, trainer};
use crate::subject::every_backend;

/// A reward by an answer's tokens, with columns, that fails after a number of batches.
struct Reward {
    left: usize,
    constant: Option<f32>,
    range: Option<ScoreRange>,
}

impl RewardSource for Reward {
    fn name(&self) -> &str {
        "tokens"
    }

    fn range(&self) -> Option<ScoreRange> {
        self.range
    }

    fn score(&mut self, batch: &Answers<'_>) -> pcrm_rl::Result<Scored> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(pcrm_rl::Error::reward("tokens", "went away"));
        };
        self.left = left;
        let of = |ids: &[u32]| self.constant.unwrap_or((ids.iter().sum::<u32>() % 17) as f32);
        let mut scored = Scored::of(batch.rows.iter().map(|row| Some(of(row.completion_ids))).collect());
        let text = batch.rows.iter().map(|row| json!(row.texts.completion));
        let length = batch.rows.iter().map(|row| json!(row.completion_ids.len()));
        scored.columns.insert("text".to_owned(), text.collect());
        scored.columns.insert("length".to_owned(), length.collect());
        Ok(scored)
    }
}

/// Returns the reward, which scores a number of batches.
fn reward(left: usize) -> Weighted {
    let mut all = Weighted::default();
    all.push(Box::new(Reward { left, constant: None, range: None }), 1.0, None);
    all
}

fn rewarded(
    backend: &dyn Backend,
    dir: &Path,
    config: &OnlineConfig,
    trainer: &TrainerConfig,
    rewards: &mut Weighted,
) -> Result<(Outcome, Vec<StepMetrics>)> {
    let (outcome, steps, _) = run_rewarded(backend, dir, (config, trainer), false, None, None, rewards)?;
    Ok((outcome, steps))
}

/// Returns the lines of steps, without evaluations.
fn lines(dir: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(dir.join("metrics.jsonl"))?;
    let all = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    Ok(all.into_iter().filter(|line| line.get("loss").is_some()).collect())
}

/// Protects: with several updates per rollout, a line has the rewards of all rollouts and the mean loss of all updates
/// since the line before,
/// whatever `log-every` is and wherever a run was stopped; a limit that ends a run has a line.
#[test]
fn no_rollout_is_lost_between_lines() -> Result<()> {
    every_backend(|backend| {
        let mut config = config(Algorithm::Ppo(PpoConfig::default()));
        (config.num_iterations, config.num_mini_batches) = (2, 2);
        let run = |log_every, config: &OnlineConfig, stop: &[Option<u64>]| -> Result<(Vec<Value>, usize)> {
            let dir = tempfile::tempdir()?;
            let trainer = TrainerConfig { log_every, ..trainer() };
            for stop in stop {
                run_with(backend, dir.path(), config, &trainer, false, *stop, None)?;
            }
            Ok((lines(dir.path())?, samples(dir.path())?.len()))
        };
        let (every, of_every) = run(1, &config, &[None])?;
        ensure!((every.len(), of_every) == (24, 18), "{} lines, {of_every} samples", every.len());
        // The lines of the first updates of rollouts have their rewards and lengths.
        let of = |line: &Value, name: &str| line[name].as_f64().with_context(|| format!("{name}: {line}"));
        for (log_every, stop) in [(8, vec![None]), (12, vec![Some(5), None])] {
            let (found, of_found) = run(log_every, &config, &stop)?;
            let rollouts = log_every as usize / 4;
            ensure!((found.len(), of_found) == (6 / rollouts, 18 / rollouts), "{found:?}");
            for (at, line) in found.iter().enumerate() {
                let firsts = (0..rollouts).map(|rollout| &every[4 * (rollouts * at + rollout)]);
                let rewards = firsts.clone().map(|line| of(line, "reward")).collect::<Result<Vec<_>>>()?;
                let longest = firsts.map(|line| of(line, "completions/max_length"));
                let longest = longest.collect::<Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max);
                let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
                ensure!((of(line, "reward")? - mean).abs() < 1e-12, "{line}: expected a reward of {mean}");
                let steps = &every[log_every as usize * at..log_every as usize * (at + 1)];
                let losses = steps.iter().map(|step| of(step, "loss")).collect::<Result<Vec<_>>>()?;
                let loss = losses.iter().sum::<f64>() / losses.len() as f64;
                ensure!((of(line, "loss")? - loss).abs() < 1e-12, "{line}: expected a loss of {loss}");
                ensure!(of(line, "completions/max_length")? == longest, "{line}: expected {longest}");
                ensure!(line["objective/kl"].is_f64() && line["critic/grad_norm"].is_f64(), "{line}");
            }
        }
        let (halted, of_halted) = run(100, &OnlineConfig { stop_score: Some(-100.0), ..config }, &[None])?;
        ensure!((halted.len(), of_halted) == (1, 3) && halted[0]["step"] == 4, "{halted:?}");
        ensure!(of(&halted[0], "reward")? == of(&every[0], "reward")?);
        Ok(())
    })
}

/// Protects: a reward that fails, in a rollout or in an evaluation, costs no step: they are saved, and the
/// resumed run is the undisturbed one.
#[test]
fn a_failed_reward_costs_no_step() -> Result<()> {
    every_backend(|backend| {
        let config = config(Algorithm::Grpo(GrpoConfig::default()));
        let trainer = TrainerConfig { save_every: None, ..trainer() };
        let whole = tempfile::tempdir()?;
        rewarded(backend, whole.path(), &config, &trainer, &mut reward(100))?;
        // Six rollouts, then the evaluation.
        for (left, first) in [(0, Some(1)), (2, Some(3)), (6, None)] {
            let dir = tempfile::tempdir()?;
            let failed = rewarded(backend, dir.path(), &config, &trainer, &mut reward(left));
            let message = failed.err().context("a run without rewards")?.to_string();
            let saved = match left {
                0 => String::new(),
                steps => format!("; step {steps} is saved: continue with --resume"),
            };
            ensure!(message == format!("reward \"tokens\": went away{saved}"), "{message}");
            let (outcome, steps) = rewarded(backend, dir.path(), &config, &trainer, &mut reward(100))?;
            ensure!(matches!(outcome, Outcome::Finished { steps: 6, .. }), "{outcome:?}");
            ensure!(steps.first().map(|step| step.step) == first, "{:?}", steps.first());
            let read = |dir: &Path| fs::read(dir.join("model.safetensors"));
            ensure!(read(dir.path())? == read(whole.path())?, "the weights differ after {left} batches");
            let text = fs::read_to_string(dir.path().join("metrics.jsonl"))?;
            ensure!(text.contains("eval_reward"), "{text}");
        }
        Ok(())
    })
}

/// Protects: a line of `samples.jsonl` is about one answer, with the columns of the rewards; of several answers
/// to a prompt, pairs keep two.
#[test]
fn samples_have_the_columns_of_rewards() -> Result<()> {
    every_backend(|backend| {
        for algorithm in
            [Algorithm::Grpo(GrpoConfig::default()), Algorithm::OnlineDpo(OnlineDpoConfig::default())]
        {
            let dir = tempfile::tempdir()?;
            rewarded(backend, dir.path(), &config(algorithm), &trainer(), &mut reward(100))?;
            let samples = samples(dir.path())?;
            ensure!(samples.len() == 18, "{} samples", samples.len());
            for line in samples {
                let columns = &line["columns"];
                ensure!(columns["tokens/text"] == line["completion"], "{line}");
                ensure!(columns["tokens/length"] == line["tokens"], "{line}");
                let advantage = line["advantage"].as_f64().context("advantage")?;
                match line["what"].as_str() {
                    Some("best") => ensure!(advantage >= 0.0, "{line}"),
                    Some("worst") => ensure!(advantage <= 0.0, "{line}"),
                    _ => {}
                }
            }
        }
        Ok(())
    })
}

/// Protects: GRPO and RLOO train on the lowest standardised reward of an ensemble, not on the sum: a constant
/// one below all others leaves no signal.
#[test]
fn the_lowest_reward_is_what_trains() -> Result<()> {
    every_backend(|backend| {
        for algorithm in [
            Algorithm::Grpo(GrpoConfig::default()),
            Algorithm::Rloo(RlooConfig { beta: 0.0, ..RlooConfig::default() }),
        ] {
            for (combine, equal, mean) in [(Combine::Min, true, Some(-5.0)), (Combine::Sum, false, None)] {
                let mut all = Weighted::default();
                let range = ScoreRange::of(&[-1.0, 1.0], &[]);
                for constant in [None, Some(-5.0)] {
                    all.push(Box::new(Reward { left: 100, constant, range }), 1.0, None);
                }
                let dir = tempfile::tempdir()?;
                let trainer = TrainerConfig { max_steps: Some(1), ..trainer() };
                let mut all = all.combined(combine)?;
                let (_, steps) =
                    rewarded(backend, dir.path(), &config(algorithm.clone()), &trainer, &mut all)?;
                let of = |name: &str| steps[0].metrics.get(name);
                ensure!((of("frac_reward_zero_std") == Some(1.0)) == equal, "{combine}: {:?}", steps[0]);
                ensure!((steps[0].grad_norm == 0.0) == equal, "{combine}: {:?}", steps[0]);
                ensure!(mean.is_none() || of("reward") == mean, "{combine}: {:?}", of("reward"));
            }
        }
        Ok(())
    })
}
