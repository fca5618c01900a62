//! The loop: batches, steps, evaluations, checkpoints, and the model at the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pcrm_core::Backend;
use pcrm_core::constraint::Constraint;
use pcrm_core::model::RewardModel;
use pcrm_core::optim::{AdamW, clip_scale};
use pcrm_core::schedule::Schedule;
use pcrm_core::text::Tokenizer;
use serde::Serialize;

use crate::checkpoint::{self, Best, State};
use crate::error::{Error, Result};
use crate::fingerprint::{self, Fingerprint};
use crate::metrics::{Measures, MetricsFile, StepMetrics};
pub use crate::options::{Final, TrainerConfig, Warmup};
use crate::pairs::Pairs;
use crate::plan::{Plan, total_steps};
use crate::reward::{self, Gradient};
use crate::score::{score_pairs, within_vocabulary};

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
    /// Who says by what factor the bounds of a step are looser than those in `train` ([`Constraint::factor`],
    /// of the share of all steps that is made before it); `None`: they never are. Evaluations keep to the
    /// bounds in `eval`.
    pub schedule: Option<&'a dyn Constraint>,
    /// The run's folder.
    pub dir: &'a Path,
    /// The options and data that decide the run's numbers; a run resumes only with the same
    /// ([`crate::fingerprint`]).
    pub fingerprint: Fingerprint,
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
        /// The step whose weights are in the run's folder.
        saved: u64,
        /// The score that the model gives to every text checked, where it tells none of them apart.
        collapsed: Option<f32>,
    },
    /// The run was stopped from outside.
    Interrupted {
        /// Steps made.
        steps: u64,
        /// The checkpoint to resume from.
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
    config.check(run.eval.is_some())?;
    let pairs = run.train.pairs.iter().chain(run.eval.iter().flat_map(|eval| &eval.pairs));
    within_vocabulary(pairs, run.model.config().vocabulary)?;
    config.check_data(run.train)?;
    run.eval.map_or(Ok(()), |eval| config.check_data(eval))?;
    let mut training = Training::begin(&run, config)?;
    observer.begin(training.state.step, training.schedule.total);
    let stopped = training.make_steps(observer);
    observer.end();
    match stopped? {
        Stop::Finished { early } => training.finish(early),
        Stop::Interrupted { checkpoint } => {
            Ok(Outcome::Interrupted { steps: training.state.step, checkpoint })
        }
    }
}

/// Why no further step is made.
enum Stop {
    Finished { early: bool },
    Interrupted { checkpoint: PathBuf },
}

/// A run under way.
struct Training<'a> {
    run: &'a Run<'a>,
    config: &'a TrainerConfig,
    model: RewardModel,
    optimiser: AdamW,
    state: State,
    schedule: Schedule,
    plan: Plan<'a>,
    metrics: MetricsFile,
}

impl<'a> Training<'a> {
    /// From the newest checkpoint, or from the beginning.
    fn begin(run: &'a Run<'a>, config: &'a TrainerConfig) -> Result<Self> {
        let model = run.model.trainable();
        let mut optimiser = AdamW::new(config.adamw, model.params())?;
        let mut state = State { fingerprint: run.fingerprint.clone(), ..State::default() };
        if let Some((dir, saved)) = checkpoint::newest(run.dir)? {
            let fixed_bounds = run.schedule.is_none_or(|constraint| constraint.factor(0.0).is_none());
            let refusal = fingerprint::refusal(&saved.fingerprint, &run.fingerprint, config, fixed_bounds);
            if let Some(message) = refusal {
                return Err(Error::Checkpoint { path: dir, message });
            }
            checkpoint::restore(&dir, &saved, &model, &mut optimiser)?;
            tracing::info!("resuming from {}", dir.display());
            state = State { fingerprint: run.fingerprint.clone(), ..saved };
        }
        let total = total_steps(run.train, config);
        if state.step > total {
            let message = format!("has made {} steps, more than the {total} that are asked for", state.step);
            return Err(Error::Checkpoint { path: checkpoint::folder(run.dir, state.step), message });
        }
        let warmup = match config.warmup {
            Warmup::Steps(steps) => steps,
            Warmup::Ratio(ratio) => (ratio * total as f64).ceil() as u64,
        };
        let schedule = Schedule { peak: config.learning_rate, shape: config.schedule, warmup, total };
        let metrics = MetricsFile::open(&run.dir.join("metrics.jsonl"), state.step, state.evaluation_owed)?;
        let mut plan = Plan::new(run.train, config);
        (0..state.step).for_each(|_| {
            plan.next();
        });
        Ok(Self { run, config, model, optimiser, state, schedule, plan, metrics })
    }

    fn make_steps(&mut self, observer: &mut dyn Observer) -> Result<Stop> {
        let (config, total) = (self.config, self.schedule.total);
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

    /// One step: gradient, checks, clipping, update.
    fn step(&mut self) -> Result<StepMetrics> {
        let started = Instant::now();
        let (run, config) = (self.run, self.config);
        let progress = self.state.step as f64 / self.schedule.total as f64;
        let bound_factor = run.schedule.and_then(|constraint| constraint.factor(progress));
        let factor = bound_factor.unwrap_or(1.0) as f32;
        if !(factor.is_finite() && factor > 0.0) {
            let message = format!("is {factor} at step {}, expected a positive number", self.state.step + 1);
            return Err(Error::Invalid { field: "factor of the bounds", message });
        }
        let indices = self.plan.next();
        let Gradient { gradients, gathered, tokens } =
            reward::scaled_gradient(run.backend, &self.model, run.train, indices, (&config.compute, factor))?;
        let measures = gathered.measures(1);
        let grad_norm = gradients.global_norm()?;
        for (what, value) in [("loss", measures.loss), ("gradient norm", grad_norm)] {
            if !value.is_finite() {
                let rows = indices.iter().map(|set| run.train.set(*set)[0].origin.to_string()).collect();
                return Err(Error::NotFinite { step: self.state.step + 1, what, value, rows });
            }
        }
        let learning_rate = self.schedule.rate(self.state.step);
        let scale = config.max_grad_norm.map_or(1.0, |most| clip_scale(grad_norm, most));
        self.optimiser.step(&gradients, learning_rate, scale)?;
        self.state.step += 1;
        self.state.num_tokens += tokens.separate as u64;
        Ok(StepMetrics {
            step: self.state.step,
            epoch: self.plan.epochs_made(),
            measures,
            grad_norm,
            learning_rate,
            bound_factor,
            num_tokens: self.state.num_tokens,
            tokens_per_second: tokens.separate as f64 / started.elapsed().as_secs_f64(),
            padding_avoided: 1.0 - tokens.unique as f64 / tokens.padded.max(1) as f64,
        })
    }

    /// Evaluates, writes the line, and says whether it is the best so far.
    fn evaluate(&mut self, eval: &Pairs, observer: &mut dyn Observer) -> Result<bool> {
        let state = &mut self.state;
        let measures = reward::evaluate(&self.model, eval, &self.config.compute)?.measures(1);
        let json =
            serde_json::to_value(measures).map_err(|error| pcrm_core::Error::invalid("metrics", error))?;
        let fields = json.as_object().into_iter().flatten();
        let named = fields.map(|(name, value)| (format!("eval_{name}"), value.clone())).collect();
        self.metrics.line(&EvalLine { step: state.step, epoch: self.plan.epochs_made(), measures: named })?;
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

    /// Writes a checkpoint and removes those that are no longer wanted.
    fn save(&mut self) -> Result<PathBuf> {
        let path = checkpoint::save(self.run.dir, &self.model, &self.optimiser, &mut self.state)?;
        let best = self.state.best.map(|best| best.step);
        checkpoint::prune(self.run.dir, self.config.keep, self.state.step, best)?;
        Ok(path)
    }

    /// Saves the weights that the configuration asks for in the run's folder, and verifies that they load.
    fn finish(&self, early: bool) -> Result<Outcome> {
        let State { step: steps, best, .. } = self.state;
        let saved = match (self.config.final_weights, best) {
            (Final::Best, Some(best)) => best.step,
            _ => steps,
        };
        if saved != steps {
            checkpoint::restore_weights(&checkpoint::folder(self.run.dir, saved), &self.model)?;
        }
        self.model.save(self.run.dir)?;
        self.run.tokenizer.save_to(self.run.dir)?;
        let scores = self.reload()?;
        Ok(Outcome::Finished { steps, best, early, saved, collapsed: collapsed(&scores) })
    }

    /// Loads the saved model and returns its scores of a few pairs; a folder that scores otherwise than the
    /// trained model is an error.
    fn reload(&self) -> Result<Vec<f32>> {
        let (run, micro_tokens) = (self.run, self.config.compute.micro_tokens);
        let pairs: Vec<_> = run.eval.unwrap_or(run.train).pairs.iter().take(CHECKED_PAIRS).collect();
        let loaded = RewardModel::load(run.backend, run.dir, self.model.decoder().compute())?;
        let trained = score_pairs(&self.model, &pairs, micro_tokens)?;
        let reloaded = score_pairs(&loaded, &pairs, micro_tokens)?;
        let scores = reloaded.iter().flat_map(|(chosen, rejected)| [*chosen, *rejected]).collect();
        for (pair, (trained, reloaded)) in pairs.iter().zip(trained.into_iter().zip(reloaded)) {
            for (trained, reloaded) in [(trained.0, reloaded.0), (trained.1, reloaded.1)] {
                if trained.to_bits() != reloaded.to_bits() {
                    let (path, row) = (run.dir.to_path_buf(), pair.origin.to_string());
                    return Err(Error::Reload { path, row, trained, reloaded });
                }
            }
        }
        Ok(scores)
    }
}

/// The common value of scores that differ by rounding at most.
fn collapsed(scores: &[f32]) -> Option<f32> {
    const ROUNDING: f32 = 1e-4;
    let low = scores.iter().copied().reduce(f32::min)?;
    let high = scores.iter().copied().reduce(f32::max)?;
    (high - low <= ROUNDING * low.abs().max(high.abs())).then_some(high)
}

fn due(step: u64, every: Option<u64>) -> bool {
    every.is_some_and(|every| step.is_multiple_of(every.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: equal scores are a collapse at any size, and close ones are not.
    #[test]
    fn scores_that_are_all_equal_are_a_collapse() {
        assert_eq!(collapsed(&[0.0, 0.0]), Some(0.0));
        assert_eq!(collapsed(&[-3.25e5, -3.25e5, -3.250001e5]), Some(-3.25e5));
        assert_eq!(collapsed(&[0.001, 0.0011]), None);
        assert_eq!(collapsed(&[-1.0, 1.0]), None);
        assert_eq!(collapsed(&[]), None);
    }
}
