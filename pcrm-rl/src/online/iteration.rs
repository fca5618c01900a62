//! A run under way: rollouts with their updates, evaluations, checkpoints, and the model at the end.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use pcrm_core::Backend;
use pcrm_core::model::LanguageModel;
use pcrm_core::text::Tokenizer;
use serde::Serialize;
use serde_json::{Map, Value};

use super::config::OnlineConfig;
use super::evaluation::evaluate;
use super::rollout::{Prompts, Roller, Scored, log_probs};
use super::step::{PolicyStep, Step};
use crate::checkpoint::{self, Best, MAIN, State};
use crate::error::{Error, Result};
use crate::learner::{Learner, Trainable};
use crate::metrics::{Metrics, MetricsFile, StepMetrics};
use crate::objective::{Batch, Objective};
use crate::offline::{Observer, Outcome, Trained, diverged, due};
use crate::options::TrainerConfig;
use crate::plan::Plan;
use crate::rollout::{Engine, Sampling};

#[derive(Serialize)]
struct EvalLine {
    step: u64,
    epoch: f64,
    #[serde(flatten)]
    metrics: Map<String, Value>,
}

/// A run under way.
pub(super) struct Training<'a> {
    pub backend: &'a dyn Backend,
    pub config: &'a OnlineConfig,
    pub trainer: &'a TrainerConfig,
    pub objective: PolicyStep,
    pub learner: Learner<LanguageModel>,
    pub state: State,
    pub total: u64,
    pub plan: Plan<'a>,
    pub metrics: MetricsFile,
    pub samples: MetricsFile,
    pub engine: Engine,
    pub roller: Roller<'a>,
    pub train: &'a Prompts,
    pub eval: Option<&'a Prompts>,
    /// Samples have the log-probabilities of training to the bit.
    pub exact: bool,
    pub dir: &'a Path,
    /// The last rollout, by which the saved model is checked.
    pub last: Step,
}

impl Training<'_> {
    /// Returns the checkpoint of a run that was interrupted, `None` at its end.
    pub fn make_steps(&mut self, observer: &mut dyn Observer) -> Result<Option<PathBuf>> {
        let mut early = false;
        while (self.state.evaluation_owed || self.state.step < self.total) && !early {
            let owed = self.state.evaluation_owed;
            if !owed {
                match self.iterate(observer) {
                    // The rollout at hand is made again on resuming.
                    Err(Error::Interrupted(_)) => return self.save(observer).map(Some),
                    done => done?,
                }
            }
            let step = self.state.step;
            let stopped = self.roller.interrupted.load(Ordering::Relaxed) && step < self.total;
            let evaluates =
                self.eval.is_some() && (self.is_due(self.trainer.eval_every) || step == self.total);
            self.state.evaluation_owed = evaluates && stopped;
            let mut is_best = false;
            if let Some(eval) = self.eval.filter(|_| evaluates && !stopped) {
                match self.evaluate(eval, observer) {
                    Err(Error::Interrupted(_)) => {
                        self.state.evaluation_owed = true;
                        return self.save(observer).map(Some);
                    }
                    found => is_best = found?,
                }
            }
            let patience = self.trainer.patience;
            early = patience.is_some_and(|patience| self.state.evaluations_without_gain >= patience.max(1));
            if self.is_due(self.trainer.save_every)
                || is_best
                || owed
                || stopped
                || early
                || step == self.total
            {
                let checkpoint = self.save(observer)?;
                if stopped {
                    return Ok(Some(checkpoint));
                }
            }
        }
        Ok(None)
    }

    /// Returns true if something that comes every so many steps came within the last rollout's.
    fn is_due(&self, every: Option<u64>) -> bool {
        let updates = self.config.updates();
        every.is_some() && (0..updates).any(|back| due(self.state.step.saturating_sub(back).max(1), every))
    }

    /// A rollout and its updates.
    fn iterate(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let started = Instant::now();
        let made = self.state.step;
        let items = self.plan.next().to_vec();
        let mut metrics = Metrics::default();
        let policy = self.learner.model.for_sampling()?;
        // Every rollout has draws of its own.
        let seed = self.trainer.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (made + 1);
        let sampling = Sampling { seed, ..self.config.sampling };
        let how = (self.config.num_generations, sampling);
        let rolled = self.roller.sample(&mut self.engine, &policy, self.train, &items, how);
        let samples = rolled.inspect_err(|_| self.plan.back())?;
        let sampled = started.elapsed().as_secs_f64();
        let scored = self.roller.score(self.train, &items, &samples, made)?;
        let rewarded = started.elapsed().as_secs_f64();
        let mut trees = self.roller.trees(self.train, &items, samples, &scored, &mut metrics)?;
        let updates = self.config.updates();
        let (temperature, micro_tokens) = (self.objective.temperature, self.trainer.micro_tokens);
        if self.exact {
            for answer in trees.iter_mut().flat_map(|tree| &mut tree.answers) {
                answer.old_log_probs = Some(answer.sampled.clone());
            }
        } else if updates > 1 {
            let mut old = log_probs(&policy, &trees, temperature, micro_tokens)?.into_iter();
            trees
                .iter_mut()
                .flat_map(|tree| &mut tree.answers)
                .for_each(|answer| answer.old_log_probs = old.next());
        }
        let compared = started.elapsed().as_secs_f64();
        let mut step = Step::new(trees);
        self.objective.check(&step, &policy)?;
        let places: Vec<usize> = (0..items.len()).collect();
        let size = places.len().div_ceil(self.config.num_mini_batches);
        let mut times = Some([sampled, rewarded - sampled, compared - rewarded]);
        for _ in 0..self.config.num_iterations {
            for part in places.chunks(size) {
                let begun = Instant::now();
                step.counted(&self.objective.loss, part, self.config.num_mini_batches)?;
                let batch = Batch { data: &step, items: part, micro_tokens };
                let progress = self.state.step as f64 / self.total as f64;
                let (gradient, update) =
                    self.learner.step(self.backend, &self.objective, &batch, progress)?;
                self.state.step += 1;
                self.state.num_tokens += gradient.tokens.separate as u64;
                let mut of_update = std::mem::take(&mut metrics);
                of_update.merge(gradient.metrics);
                let seconds = begun.elapsed().as_secs_f64();
                let before = times.take().map_or(0.0, |times| {
                    for (name, time) in ["time/rollout", "time/rewards", "time/reference"].iter().zip(times) {
                        of_update.mean(*name, time, 1.0);
                    }
                    times.iter().sum()
                });
                of_update.mean("time/update", seconds, 1.0);
                of_update.mean("step_time", before + seconds, 1.0);
                let line = StepMetrics {
                    step: self.state.step,
                    epoch: self.plan.epochs_made(),
                    metrics: of_update.summary(),
                    grad_norm: update.grad_norm,
                    learning_rate: update.learning_rate,
                    num_tokens: self.state.num_tokens,
                    tokens_per_second: gradient.tokens.separate as f64 / (before + seconds),
                    padding_avoided: 1.0
                        - gradient.tokens.unique as f64 / gradient.tokens.padded().max(1) as f64,
                };
                if due(self.state.step, Some(self.trainer.log_every)) || self.state.step == self.total {
                    self.metrics.line(&line)?;
                }
                observer.step(&line);
            }
        }
        if self.is_due(Some(self.trainer.log_every)) || self.state.step == self.total {
            self.keep_samples(&step, &scored)?;
        }
        self.last = step;
        Ok(())
    }

    /// Writes the best, the worst and the first answer of a rollout.
    fn keep_samples(&mut self, step: &Step, scored: &Scored) -> Result<()> {
        let totals = &scored.rewards.total;
        let known = || (0..totals.len()).filter_map(|at| Some((at, totals[at]?)));
        let best = known().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at);
        let worst = known().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at);
        let answers: Vec<_> =
            step.trees().iter().flat_map(|tree| tree.answers.iter().map(move |one| (tree, one))).collect();
        for (what, at) in [("best", best), ("worst", worst), ("first", Some(0))] {
            let Some((tree, answer)) = at.and_then(|at| answers.get(at)) else { continue };
            let at = at.unwrap_or_default();
            let line = serde_json::json!({
                "step": self.state.step,
                "what": what,
                "origin": tree.origin,
                "prompt": scored.texts[at].prompt,
                "completion": scored.texts[at].completion,
                "reward": totals[at],
                "advantage": answer.advantage,
                "tokens": answer.ids.len(),
                "ended": answer.ended,
            });
            self.samples.line(&line)?;
        }
        Ok(())
    }

    /// Evaluates, writes the line, and returns true if it is the best so far.
    fn evaluate(&mut self, eval: &Prompts, observer: &mut dyn Observer) -> Result<bool> {
        let policy = self.learner.model.for_sampling()?;
        let how = (Sampling { seed: self.trainer.seed, ..self.config.sampling }, self.state.step);
        let found = evaluate(&mut self.roller, &mut self.engine, &policy, eval, how)?.summary();
        let (epoch, line) = (self.plan.epochs_made(), found.prefixed("eval_"));
        self.metrics.line(&EvalLine { step: self.state.step, epoch, metrics: line })?;
        let loss = found.loss();
        let is_best = self.state.best.is_none_or(|best| loss < best.loss);
        match is_best {
            true => {
                self.state.best = Some(Best { step: self.state.step, loss });
                self.state.evaluations_without_gain = 0;
            }
            false => self.state.evaluations_without_gain += 1,
        }
        observer.evaluated(self.state.step, &found, is_best);
        Ok(is_best)
    }

    fn save(&mut self, observer: &mut dyn Observer) -> Result<PathBuf> {
        self.metrics.still_there()?;
        self.state.metrics_lines = Some(self.metrics.lines());
        let saved = checkpoint::save(self.dir, &[(MAIN, &self.learner)], &mut self.state);
        let path = saved.map_err(|error| diverged(error, self.state.step))?;
        let best = self.state.best.map(|best| best.step);
        checkpoint::prune(self.dir, self.trainer.keep, self.state.step, best)?;
        observer.saved(&path);
        Ok(path)
    }

    /// Saves the weights that the options ask for, and verifies that they load.
    pub fn finish(self, tokenizer: &Tokenizer) -> Result<Trained<LanguageModel>> {
        let State { step: steps, best, .. } = self.state;
        let saved = match (self.trainer.final_weights, best) {
            (crate::options::Final::Best, Some(best)) => best.step,
            _ => steps,
        };
        let model = self.learner.model.detached();
        if saved != steps {
            checkpoint::restore_weights(&checkpoint::folder(self.dir, saved), &model)?;
        }
        let numbers = self.objective.probe(&model, &self.last)?;
        self.metrics.still_there()?;
        Trainable::save(&model, self.dir).map_err(|error| diverged(error, steps))?;
        tokenizer.save_to(self.dir)?;
        let loaded = <LanguageModel as Trainable>::load(self.backend, self.dir, model.decoder().compute())?;
        let reloaded = self.objective.probe(&loaded, &self.last)?;
        for ((row, trained), (_, reloaded)) in numbers.iter().zip(&reloaded) {
            if trained.to_bits() != reloaded.to_bits() {
                let (path, row) = (self.dir.to_path_buf(), row.clone());
                return Err(Error::Reload { path, row, trained: *trained, reloaded: *reloaded });
            }
        }
        let probe = reloaded.into_iter().map(|(_, number)| number).collect();
        Ok(Trained {
            outcome: Outcome::Finished { steps, best, early: steps < self.total, saved },
            model,
            probe,
        })
    }
}
