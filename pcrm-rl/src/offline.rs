//! The training loop over a fixed data set: batches, steps, evaluations, checkpoints, and the final model.

mod finish;
mod observer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pcrm_core::Backend;
use pcrm_core::text::Tokenizer;
use serde::Serialize;
use serde_json::{Map, Value};

pub use self::observer::{Observer, Silent};
use crate::checkpoint::{self, Best, MAIN, State};
use crate::error::{Error, Result};
use crate::fingerprint::{self, Fingerprint};
use crate::lanes::LaneGradient;
use crate::learner::{Learner, Trainable};
use crate::metrics::{Metrics, MetricsFile, StepMetrics};
use crate::objective::{Batch, Objective};
pub use crate::options::{Final, TrainerConfig, Warmup};
use crate::plan::{BatchPlan, total_steps};
use crate::resume::{Candidate, prepare, same_beginning};

/// The inputs of a run.
pub struct Run<'a, O: Objective> {
    /// Backend.
    pub backend: &'a dyn Backend,
    /// The loss.
    pub objective: &'a O,
    /// Model with its initial weights.
    pub model: O::Model,
    /// Tokenizer of the model, saved with it.
    pub tokenizer: &'a Tokenizer,
    /// Training items.
    pub train: &'a O::Data,
    /// Evaluation items.
    pub eval: Option<&'a O::Data>,
    /// Folder of the run. A program that may run twice locks it with [`pcrm_core::disk::FolderLock`].
    pub dir: &'a Path,
    /// Options and data that determine the run's results; a run resumes only with the same ones
    /// ([`crate::fingerprint`]).
    pub fingerprint: Fingerprint,
    /// Set from outside to end the run after the current step, with a checkpoint.
    pub stop: &'a AtomicBool,
}

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All steps were made, or patience ran out.
    Finished {
        /// Number of completed steps.
        steps: u64,
        /// Best evaluation.
        best: Option<Best>,
        /// True if patience ran out.
        early: bool,
        /// Step whose weights are in the run's folder.
        saved: u64,
    },
    /// The run was stopped from outside.
    Interrupted {
        /// Number of completed steps.
        steps: u64,
        /// Checkpoint to resume from.
        checkpoint: PathBuf,
    },
}

/// A finished or interrupted run.
#[derive(Debug)]
pub struct Trained<M> {
    /// Outcome of the run.
    pub outcome: Outcome,
    /// Model with the weights in the run's folder; for an interrupted run, with the weights of its last step.
    pub model: M,
    /// Numbers that the saved model was checked with ([`Objective::probe`]); empty for an interrupted run.
    pub probe: Vec<f32>,
}

/// The key in checkpoints of the means over the steps without a line.
const UNLOGGED: &str = "unlogged";

#[derive(Serialize)]
struct EvalLine {
    step: u64,
    epoch: f64,
    #[serde(flatten)]
    metrics: Map<String, Value>,
}

/// Trains, evaluates and saves; continues from the newest checkpoint in the run's folder if there is one.
///
/// # Errors
/// Fails if options are invalid, if a loss, gradient, weight or evaluation is not finite, if a checkpoint or
/// manifest belongs to another run or no checkpoint is intact, if the processes of the run differ in options or
/// inputs, if the folder is deleted during the run, or if the disk or the backend fails.
pub fn train<O: Objective>(
    run: Run<'_, O>,
    config: &TrainerConfig,
    observer: &mut dyn Observer,
) -> Result<Trained<O::Model>> {
    config.check(run.eval.is_some())?;
    run.objective.check(run.train, &run.model)?;
    run.eval.map_or(Ok(()), |eval| run.objective.check(eval, &run.model))?;
    let mut training = Training::begin(&run, config, observer)?;
    observer.begin(training.state.step, training.total);
    let stopped = training.make_steps(observer);
    observer.end();
    // If the folder is gone every write fails; report the missing folder as the cause.
    match stopped.map_err(|error| training.metrics.still_there().err().unwrap_or(error))? {
        Stop::Finished { early } => training.finish(early),
        Stop::Interrupted { checkpoint } => {
            let outcome = Outcome::Interrupted { steps: training.state.step, checkpoint };
            Ok(Trained { outcome, model: training.learner.model.detached(), probe: Vec::new() })
        }
    }
}

/// The reason to make no further step.
enum Stop {
    Finished { early: bool },
    Interrupted { checkpoint: PathBuf },
}

/// A run in progress.
struct Training<'a, O: Objective> {
    run: &'a Run<'a, O>,
    config: &'a TrainerConfig,
    learner: Learner<O::Model>,
    state: State,
    total: u64,
    plan: BatchPlan<'a>,
    metrics: MetricsFile,
    /// Means over the steps since the last line.
    unlogged: Metrics,
}

impl<'a, O: Objective> Training<'a, O> {
    /// Starts from the newest checkpoint, or from the beginning.
    fn begin(run: &'a Run<'a, O>, config: &'a TrainerConfig, observer: &mut dyn Observer) -> Result<Self> {
        let sizes = run.objective.sizes(run.train);
        let total = total_steps(sizes, config);
        let mut learner = Learner::new(run.backend, &run.model, config, total)?;
        prepare(learner.lanes(), run.dir, &run.fingerprint, config)?;
        let mut state = State { fingerprint: run.fingerprint.clone(), ..State::default() };
        let candidate = Candidate {
            dir: run.dir,
            fingerprint: &run.fingerprint,
            defaults: &fingerprint::of(&TrainerConfig::default(), &O::Config::default()),
            depends_on_length: run.objective.depends_on_length(),
            total,
        };
        if let Some((dir, saved)) = candidate.newest(config)? {
            checkpoint::restore(&dir, &saved, &mut [(MAIN, &mut learner)])?;
            tracing::info!("resuming from {}", dir.display());
            state = State { fingerprint: run.fingerprint.clone(), ..saved };
        }
        same_beginning(learner.lanes(), &state)?;
        observer.accepted()?;
        let path = run.dir.join("metrics.jsonl");
        let metrics = match learner.lanes().is_first() {
            true => MetricsFile::open(&path, &state)?,
            false => MetricsFile::of_another(&path),
        };
        let mut plan = BatchPlan::new(sizes, config);
        (0..state.step).for_each(|_| {
            plan.next();
        });
        let unlogged = Metrics::kept(&state.states, UNLOGGED);
        Ok(Self { run, config, learner, state, total, plan, metrics, unlogged })
    }

    fn make_steps(&mut self, observer: &mut dyn Observer) -> Result<Stop> {
        let (config, total) = (self.config, self.total);
        let mut early = self.out_of_patience();
        while (self.state.evaluation_owed || self.state.step < total) && !early {
            let owed = self.state.evaluation_owed;
            if !owed {
                let line = self.step()?;
                if due(self.state.step, Some(config.log_every)) || self.state.step == total {
                    let metrics = std::mem::take(&mut self.unlogged).summary();
                    self.metrics.line(&StepMetrics { metrics, ..line.clone() })?;
                }
                observer.step(&line);
            }
            let step = self.state.step;
            // A stopped run skips a due evaluation; resuming starts with it.
            let stop = self.run.stop.load(Ordering::Relaxed);
            let stopped = self.learner.lanes().collective().any(stop)? && step < total;
            let evaluates = self.run.eval.is_some() && (due(step, config.eval_every) || step == total);
            self.state.evaluation_owed = evaluates && stopped;
            let is_best = match self.run.eval {
                Some(eval) if evaluates && !stopped => self.evaluate(eval, observer)?,
                _ => false,
            };
            early = self.out_of_patience();
            if due(step, config.save_every) || is_best || owed || stopped || early || step == total {
                let checkpoint = self.save()?;
                observer.saved(&checkpoint);
                if stopped {
                    return Ok(Stop::Interrupted { checkpoint });
                }
            }
        }
        Ok(Stop::Finished { early })
    }

    fn out_of_patience(&self) -> bool {
        self.config.patience.is_some_and(|patience| self.state.evaluations_without_gain >= patience.max(1))
    }

    /// Makes one step: gradient, checks, update.
    fn step(&mut self) -> Result<StepMetrics> {
        let started = Instant::now();
        let (run, config) = (self.run, self.config);
        let progress = self.state.step as f64 / self.total as f64;
        let items = self.plan.next();
        let batch = Batch { data: run.train, items, micro_tokens: config.micro_tokens };
        let (LaneGradient { metrics, tokens, .. }, update) =
            self.learner.step(run.backend, run.objective, &batch, progress)?;
        self.unlogged.add_step(&metrics);
        self.state.step += 1;
        self.state.num_tokens += tokens.separate as u64;
        Ok(StepMetrics {
            step: self.state.step,
            epoch: self.plan.epochs_made(),
            metrics: metrics.summary(),
            grad_norm: update.grad_norm,
            learning_rate: update.learning_rate,
            num_tokens: self.state.num_tokens,
            tokens_per_second: tokens.separate as f64 / started.elapsed().as_secs_f64(),
            padding_avoided: 1.0 - tokens.unique as f64 / tokens.padded().max(1) as f64,
        })
    }

    /// Evaluates, writes the metrics, and returns true for the best result so far.
    fn evaluate(&mut self, eval: &O::Data, observer: &mut dyn Observer) -> Result<bool> {
        let state = &mut self.state;
        let lanes = self.learner.lanes();
        let micro_tokens = self.config.micro_tokens;
        let metrics = lanes.evaluate(self.run.objective, &self.learner.model, eval, micro_tokens)?.summary();
        if let Some((name, value)) = metrics.iter().find(|(_, value)| !value.is_finite()) {
            let message = format!("the evaluation's {name} is {value}");
            return Err(Error::Diverged { step: state.step, message });
        }
        let (epoch, line) = (self.plan.epochs_made(), metrics.prefixed("eval_"));
        self.metrics.line(&EvalLine { step: state.step, epoch, metrics: line })?;
        let loss = metrics.loss();
        let is_best = state.best.is_none_or(|best| loss < best.loss);
        if is_best {
            state.best = Some(Best { step: state.step, loss });
            state.evaluations_without_gain = 0;
        } else {
            state.evaluations_without_gain += 1;
        }
        observer.evaluated(state.step, &metrics, is_best);
        Ok(is_best)
    }

    /// Writes a checkpoint and removes outdated ones.
    fn save(&mut self) -> Result<PathBuf> {
        self.metrics.still_there()?;
        self.metrics.note(&mut self.state);
        self.unlogged.keep(&mut self.state.states, UNLOGGED);
        let lanes = self.learner.lanes();
        let parts: [(&str, &dyn checkpoint::CheckpointPart); 1] = [(MAIN, &self.learner)];
        let saved = checkpoint::save(lanes.collective().as_ref(), self.run.dir, &parts, &mut self.state);
        let path = saved.map_err(|error| diverged(error, self.state.step))?;
        let best = self.state.best.map(|best| best.step);
        if lanes.is_first() {
            checkpoint::prune(self.run.dir, self.config.keep, self.state.step, best)?;
        }
        Ok(path)
    }
}

/// Converts an error about weights or moments that are not finite, adding the step that made them.
pub(crate) fn diverged(error: Error, step: u64) -> Error {
    match error {
        Error::Core(error @ pcrm_core::Error::NotFinite { .. }) => {
            Error::Diverged { step, message: format!("the update gave weights that are not finite: {error}") }
        }
        other => other,
    }
}

pub(crate) fn due(step: u64, every: Option<u64>) -> bool {
    every.is_some_and(|every| step.is_multiple_of(every.max(1)))
}
