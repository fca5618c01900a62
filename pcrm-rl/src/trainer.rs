//! The loop: batches, steps, evaluations, checkpoints, and the model at the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pcrm_core::model::RewardModel;
use pcrm_core::optim::{AdamW, clip_scale};
use pcrm_core::schedule::Schedule;
use pcrm_core::text::Tokenizer;
use pcrm_core::{Backend, DType};
use serde::Serialize;

use crate::checkpoint::{self, Best, State};
use crate::error::{Error, Result};
use crate::metrics::{Measures, MetricsFile, StepMetrics};
pub use crate::options::{Final, TrainerConfig, Warmup};
use crate::plan::{Plan, total_steps};
use crate::reward::{self, Gradient, Pairs};
use crate::score::score_pairs;

/// Pairs whose scores are compared after the saved model was loaded again.
const CHECKED_PAIRS: usize = 16;

/// What a run works on.
pub struct Run<'a> {
    /// The backend.
    pub backend: &'a dyn Backend,
    /// The model, with the weights to begin with.
    pub model: RewardModel,
    /// Its tokenizer, saved with it.
    pub tokenizer: &'a Tokenizer,
    /// What is learned from.
    pub train: &'a Pairs,
    /// What is evaluated on.
    pub eval: Option<&'a Pairs>,
    /// The run's folder.
    pub dir: &'a Path,
    /// What must not change between stopping and going on.
    pub fingerprint: BTreeMap<String, String>,
    /// Set from outside to end the run after the step at hand, with a checkpoint.
    pub stop: &'a AtomicBool,
}

/// What watches a run.
pub trait Observer {
    /// The run begins: `done` of `total` steps were made before.
    fn begin(&mut self, _done: u64, _total: u64) {}
    /// A step was made; called for every step, logged or not.
    fn step(&mut self, _metrics: &StepMetrics) {}
    /// An evaluation was made.
    fn evaluated(&mut self, _step: u64, _measures: &Measures, _is_best: bool) {}
    /// A checkpoint was written.
    fn saved(&mut self, _path: &Path) {}
    /// The run ends.
    fn end(&mut self) {}
}

/// Watches nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All steps were made, or patience ran out.
    Finished {
        /// Steps made.
        steps: u64,
        /// The best evaluation.
        best: Option<Best>,
        /// Whether patience ran out.
        early: bool,
    },
    /// It was stopped from outside.
    Interrupted {
        /// Steps made.
        steps: u64,
        /// Where to go on from.
        checkpoint: PathBuf,
    },
}

#[derive(Serialize)]
struct EvalLine {
    step: u64,
    epoch: f64,
    #[serde(flatten)]
    measures: BTreeMap<String, serde_json::Value>,
}

/// Trains, evaluates, saves; goes on from the newest checkpoint in the run's folder if there is one.
///
/// # Errors
/// Options that cannot be used, a loss or gradient that is not finite, a checkpoint of another run or none that is
/// whole, the disk's and the backend's errors.
pub fn train(run: Run<'_>, config: &TrainerConfig, observer: &mut dyn Observer) -> Result<Outcome> {
    config.check(run.train)?;
    let model = run.model.trainable();
    let mut optimiser = AdamW::new(config.adamw, model.params())?;
    let mut state = State { fingerprint: run.fingerprint.clone(), ..State::default() };
    if let Some((dir, saved)) = checkpoint::newest(run.dir)? {
        checkpoint::same_run(&dir, &saved, &run.fingerprint)?;
        checkpoint::restore(&dir, &saved, &model, &mut optimiser)?;
        tracing::info!("going on from {}", dir.display());
        state = saved;
    }
    let total = total_steps(run.train, config);
    let warmup = match config.warmup {
        Warmup::Steps(steps) => steps,
        Warmup::Ratio(ratio) => (ratio * total as f64).ceil() as u64,
    };
    let schedule = Schedule { peak: config.learning_rate, shape: config.schedule, warmup, total };
    let mut metrics = MetricsFile::open(&run.dir.join("metrics.jsonl"), state.step, state.evaluation_owed)?;
    let mut plan = Plan::new(run.train, config);
    (0..state.step).for_each(|_| {
        plan.next();
    });
    observer.begin(state.step, total);
    let mut early = out_of_patience(&state, config);
    while (state.evaluation_owed || state.step < total) && !early {
        let owed = state.evaluation_owed;
        if !owed {
            let started = Instant::now();
            let indices = plan.next();
            let gradient = reward::gradient(run.backend, &model, run.train, indices, &config.compute)?;
            let rate = schedule.rate(state.step);
            let grad_norm = step(&gradient, &mut optimiser, rate, config, &state, run.train, indices)?;
            state.step += 1;
            state.num_tokens += gradient.tokens.separate as u64;
            let line = StepMetrics {
                step: state.step,
                epoch: plan.epochs_made(),
                measures: gradient.gathered.measures(1),
                grad_norm,
                learning_rate: rate,
                num_tokens: state.num_tokens,
                tokens_per_second: gradient.tokens.separate as f64 / started.elapsed().as_secs_f64(),
                padding_avoided: 1.0 - gradient.tokens.unique as f64 / gradient.tokens.padded.max(1) as f64,
            };
            drop(gradient);
            if due(state.step, Some(config.log_every)) || state.step == total {
                metrics.line(&line)?;
            }
            observer.step(&line);
        }
        // Who stops a run does not wait for an evaluation: it is made up for on going on.
        let stopped = run.stop.load(Ordering::Relaxed) && state.step < total;
        let evaluates = run.eval.is_some() && (due(state.step, config.eval_every) || state.step == total);
        state.evaluation_owed = evaluates && stopped;
        let is_best = match run.eval {
            Some(eval) if evaluates && !stopped => {
                evaluate(&model, eval, config, &mut state, plan.epochs_made(), &mut metrics, observer)?
            }
            _ => false,
        };
        early = out_of_patience(&state, config);
        if due(state.step, config.save_every) || is_best || owed || stopped || early || state.step == total {
            let path = checkpoint::save(run.dir, &model, &optimiser, &mut state)?;
            checkpoint::prune(run.dir, config.keep, state.step, state.best.map(|best| best.step))?;
            observer.saved(&path);
            if stopped {
                observer.end();
                return Ok(Outcome::Interrupted { steps: state.step, checkpoint: path });
            }
        }
    }
    observer.end();
    if let (Final::Best, Some(best)) = (config.final_weights, state.best)
        && best.step != state.step
    {
        checkpoint::restore_weights(&checkpoint::folder(run.dir, best.step), &model)?;
    }
    model.save(run.dir)?;
    run.tokenizer.save_to(run.dir)?;
    reload(&run, &model, config.compute.micro_tokens)?;
    Ok(Outcome::Finished { steps: state.step, best: state.best, early })
}

fn due(step: u64, every: Option<u64>) -> bool {
    every.is_some_and(|every| step.is_multiple_of(every.max(1)))
}

fn out_of_patience(state: &State, config: &TrainerConfig) -> bool {
    config.patience.is_some_and(|patience| state.evaluations_without_gain >= patience.max(1))
}

/// Updates the parameters, unless a number is not finite; gives the gradient's norm.
fn step(
    gradient: &Gradient,
    optimiser: &mut AdamW,
    rate: f64,
    config: &TrainerConfig,
    state: &State,
    train: &Pairs,
    indices: &[usize],
) -> Result<f64> {
    let loss = gradient.gathered.measures(1).loss;
    let norm = gradient.gradients.global_norm()?;
    for (what, value) in [("loss", loss), ("gradient norm", norm)] {
        if !value.is_finite() {
            let rows = indices.iter().map(|index| train.pairs[*index].origin.to_string()).collect();
            return Err(Error::NotFinite { step: state.step + 1, what, value, rows });
        }
    }
    let scale = config.max_grad_norm.map_or(1.0, |most| clip_scale(norm, most));
    optimiser.step(&gradient.gradients, rate, scale)?;
    Ok(norm)
}

/// Evaluates, writes the line, and says whether it is the best so far.
fn evaluate(
    model: &RewardModel,
    eval: &Pairs,
    config: &TrainerConfig,
    state: &mut State,
    epoch: f64,
    metrics: &mut MetricsFile,
    observer: &mut dyn Observer,
) -> Result<bool> {
    let gathered = reward::evaluate(model, eval, &config.compute)?;
    let measures = gathered.measures(1);
    let json = serde_json::to_value(measures).map_err(|error| pcrm_core::Error::invalid("metrics", error))?;
    let named =
        json.as_object().into_iter().flatten().map(|(name, value)| (format!("eval_{name}"), value.clone()));
    metrics.line(&EvalLine { step: state.step, epoch, measures: named.collect() })?;
    let is_best = measures.loss.is_finite() && state.best.is_none_or(|best| measures.loss < best.loss);
    if is_best {
        state.best = Some(Best { step: state.step, loss: measures.loss });
        state.evaluations_without_gain = 0;
    } else {
        state.evaluations_without_gain += 1;
    }
    observer.evaluated(state.step, &measures, is_best);
    Ok(is_best)
}

/// Loads what was saved and compares scores: a folder that does not give them back is an error.
fn reload(run: &Run<'_>, model: &RewardModel, micro_tokens: usize) -> Result<()> {
    let pairs: Vec<_> = run.eval.unwrap_or(run.train).pairs.iter().take(CHECKED_PAIRS).collect();
    let loaded = RewardModel::load(run.backend, run.dir, DType::F32, 0)?;
    let trained = score_pairs(model, &pairs, micro_tokens)?;
    let reloaded = score_pairs(&loaded, &pairs, micro_tokens)?;
    for (pair, (trained, reloaded)) in pairs.iter().zip(trained.into_iter().zip(reloaded)) {
        for (trained, reloaded) in [(trained.0, reloaded.0), (trained.1, reloaded.1)] {
            if trained.to_bits() != reloaded.to_bits() {
                let (path, row) = (run.dir.to_path_buf(), pair.origin.to_string());
                return Err(Error::Reload { path, row, trained, reloaded });
            }
        }
    }
    Ok(())
}
