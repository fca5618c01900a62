//! The loop over items that are there before training: batches, steps, evaluations, checkpoints, and the model at the end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pcrm_core::Backend;
use pcrm_core::text::Tokenizer;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::checkpoint::{self, Best, MAIN, State};
use crate::error::{Error, Result};
use crate::fingerprint::{self, Fingerprint};
use crate::learner::{Learner, Trainable};
use crate::metrics::{MetricsFile, StepMetrics, Summary};
use crate::objective::{Batch, Gradient, Objective, evaluate};
pub use crate::options::{Final, TrainerConfig, Warmup};
use crate::plan::{Plan, total_steps};
use crate::resume::Candidate;

/// A run before it is made.
pub struct Run<'a, O: Objective> {
    /// The backend.
    pub backend: &'a dyn Backend,
    /// The loss.
    pub objective: &'a O,
    /// The model, with the weights to begin with.
    pub model: O::Model,
    /// Its tokenizer, saved with it.
    pub tokenizer: &'a Tokenizer,
    /// The items to learn from.
    pub train: &'a O::Data,
    /// The items to evaluate on.
    pub eval: Option<&'a O::Data>,
    /// The run's folder. A program that may run twice holds it by [`pcrm_core::disk::FolderLock`].
    pub dir: &'a Path,
    /// The options and data that decide the run's numbers; a run resumes only with the same
    /// ([`crate::fingerprint`]).
    pub fingerprint: Fingerprint,
    /// Set from outside to end the run after the step at hand, with a checkpoint.
    pub stop: &'a AtomicBool,
}

/// Watches a run.
pub trait Observer {
    /// The folder and its checkpoints fit the run, which changes nothing before this returns; an error ends it.
    ///
    /// # Errors
    /// The observer's.
    fn accepted(&mut self) -> Result<()> {
        Ok(())
    }
    /// The run begins: `done` of `total` steps were made before.
    fn begin(&mut self, _done: u64, _total: u64) {}
    /// A step was made; called for every step, logged or not.
    fn step(&mut self, _metrics: &StepMetrics) {}
    /// An evaluation was made.
    fn evaluated(&mut self, _step: u64, _metrics: &Summary, _is_best: bool) {}
    /// A line for whoever watches: a fold of cross-fitting begins.
    fn note(&mut self, _line: &str) {}
    /// Numbers of this many of `total` answers were computed before training.
    fn precomputed(&mut self, _done: u64, _total: u64) {}
    /// A checkpoint was written.
    fn saved(&mut self, _path: &Path) {}
    /// The run ends.
    fn end(&mut self) {}
}

/// Watches nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {}

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All steps were made, or patience ran out.
    Finished {
        /// Steps made.
        steps: u64,
        /// The best evaluation.
        best: Option<Best>,
        /// True if patience ran out.
        early: bool,
        /// The step whose weights are in the run's folder.
        saved: u64,
    },
    /// The run was stopped from outside.
    Interrupted {
        /// Steps made.
        steps: u64,
        /// The checkpoint to resume from.
        checkpoint: PathBuf,
    },
}

/// A run that ended.
#[derive(Debug)]
pub struct Trained<M> {
    /// Its end.
    pub outcome: Outcome,
    /// The model, with the weights that are in the run's folder; of an interrupted run, those of its last step.
    pub model: M,
    /// The numbers by which the saved model was checked ([`Objective::probe`]); none of an interrupted run.
    pub probe: Vec<f32>,
}

#[derive(Serialize)]
struct EvalLine {
    step: u64,
    epoch: f64,
    #[serde(flatten)]
    metrics: Map<String, Value>,
}

/// Trains, evaluates, saves; continues from the newest checkpoint in the run's folder if there is one.
///
/// # Errors
/// Options that cannot be used; a loss, gradient, weight or evaluation that is not finite; a checkpoint or manifest of
/// another run, or no checkpoint that is whole; a folder that is deleted meanwhile; the disk's and the backend's errors.
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
    // In a folder that is gone everything fails, and this is why.
    match stopped.map_err(|error| training.metrics.still_there().err().unwrap_or(error))? {
        Stop::Finished { early } => training.finish(early),
        Stop::Interrupted { checkpoint } => {
            let outcome = Outcome::Interrupted { steps: training.state.step, checkpoint };
            Ok(Trained { outcome, model: training.learner.model.detached(), probe: Vec::new() })
        }
    }
}

/// Why no further step is made.
enum Stop {
    Finished { early: bool },
    Interrupted { checkpoint: PathBuf },
}

/// A run under way.
struct Training<'a, O: Objective> {
    run: &'a Run<'a, O>,
    config: &'a TrainerConfig,
    learner: Learner<O::Model>,
    state: State,
    total: u64,
    plan: Plan<'a>,
    metrics: MetricsFile,
}

impl<'a, O: Objective> Training<'a, O> {
    /// From the newest checkpoint, or from the beginning.
    fn begin(run: &'a Run<'a, O>, config: &'a TrainerConfig, observer: &mut dyn Observer) -> Result<Self> {
        let sizes = run.objective.sizes(run.train);
        let total = total_steps(sizes, config);
        let mut learner = Learner::new(&run.model, config, total)?;
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
        observer.accepted()?;
        let path = run.dir.join("metrics.jsonl");
        let metrics = MetricsFile::open(&path, &state)?;
        let mut plan = Plan::new(sizes, config);
        (0..state.step).for_each(|_| {
            plan.next();
        });
        Ok(Self { run, config, learner, state, total, plan, metrics })
    }

    fn make_steps(&mut self, observer: &mut dyn Observer) -> Result<Stop> {
        let (config, total) = (self.config, self.total);
        let mut early = self.out_of_patience();
        while (self.state.evaluation_owed || self.state.step < total) && !early {
            let owed = self.state.evaluation_owed;
            if !owed {
                let line = self.step()?;
                if due(self.state.step, Some(config.log_every)) || self.state.step == total {
                    self.metrics.line(&line)?;
                }
                observer.step(&line);
            }
            let step = self.state.step;
            // Whoever stops a run does not wait for an evaluation: it is made first on resuming.
            let stopped = self.run.stop.load(Ordering::Relaxed) && step < total;
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

    /// One step: gradient, checks, update.
    fn step(&mut self) -> Result<StepMetrics> {
        let started = Instant::now();
        let (run, config) = (self.run, self.config);
        let progress = self.state.step as f64 / self.total as f64;
        let items = self.plan.next();
        let batch = Batch { data: run.train, items, micro_tokens: config.micro_tokens };
        let (Gradient { metrics, tokens, .. }, update) =
            self.learner.step(run.backend, run.objective, &batch, progress)?;
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

    /// Evaluates, writes the line, and returns true if it is the best so far.
    fn evaluate(&mut self, eval: &O::Data, observer: &mut dyn Observer) -> Result<bool> {
        let state = &mut self.state;
        let metrics =
            evaluate(self.run.objective, &self.learner.model, eval, self.config.micro_tokens)?.summary();
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

    /// Writes a checkpoint and removes those that are no longer wanted.
    fn save(&mut self) -> Result<PathBuf> {
        self.metrics.still_there()?;
        self.metrics.note(&mut self.state);
        let saved = checkpoint::save(self.run.dir, &[(MAIN, &self.learner)], &mut self.state);
        let path = saved.map_err(|error| diverged(error, self.state.step))?;
        let best = self.state.best.map(|best| best.step);
        checkpoint::prune(self.run.dir, self.config.keep, self.state.step, best)?;
        Ok(path)
    }

    /// Saves the weights that the configuration asks for in the run's folder, and verifies that they load.
    fn finish(self, early: bool) -> Result<Trained<O::Model>> {
        let State { step: steps, best, .. } = self.state;
        let saved = match (self.config.final_weights, best) {
            (Final::Best, Some(best)) => best.step,
            _ => steps,
        };
        let model = self.learner.model.detached();
        if saved != steps {
            checkpoint::restore_weights(&checkpoint::folder(self.run.dir, saved), &model)?;
        }
        let numbers = self.run.objective.probe(&model, self.run.eval.unwrap_or(self.run.train))?;
        if let Some((row, number)) = numbers.iter().find(|(_, number)| !number.is_finite()) {
            let message = format!("the model gives {number} for {row}; no model is written");
            return Err(Error::Diverged { step: saved, message });
        }
        let model = match self.run.objective.note(&model, self.run.eval.unwrap_or(self.run.train))? {
            Some((name, note)) => model.noted(name, note),
            None => model,
        };
        self.metrics.still_there()?;
        model.save(self.run.dir).map_err(|error| diverged(error, steps))?;
        self.run.tokenizer.save_to(self.run.dir)?;
        self.metrics.still_there()?;
        let probe = reload(self.run, &model, &numbers)?;
        Ok(Trained { outcome: Outcome::Finished { steps, best, early, saved }, model, probe })
    }
}

/// Loads the saved model and returns its numbers of a few items; a folder that gives others than the trained model is an
/// error.
fn reload<O: Objective>(run: &Run<'_, O>, model: &O::Model, trained: &[(String, f32)]) -> Result<Vec<f32>> {
    let data = run.eval.unwrap_or(run.train);
    let loaded = O::Model::load(run.backend, run.dir, model.compute())?;
    let reloaded = run.objective.probe(&loaded, data)?;
    for ((row, trained), (_, reloaded)) in trained.iter().zip(&reloaded) {
        if trained.to_bits() != reloaded.to_bits() {
            let (path, row) = (run.dir.to_path_buf(), row.clone());
            return Err(Error::Reload { path, row, trained: *trained, reloaded: *reloaded });
        }
    }
    Ok(reloaded.into_iter().map(|(_, number)| number).collect())
}

/// Weights or moments that are no numbers, by the step that made them.
pub(crate) fn diverged(error: Error, step: u64) -> Error {
    match error {
        Error::Core(error @ pcrm_core::Error::NotFinite { .. }) => {
            Error::Diverged { step, message: format!("the update gave weights that are no numbers: {error}") }
        }
        other => other,
    }
}

pub(crate) fn due(step: u64, every: Option<u64>) -> bool {
    every.is_some_and(|every| step.is_multiple_of(every.max(1)))
}
