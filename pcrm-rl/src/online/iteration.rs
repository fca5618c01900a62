//! A run in progress: rollouts with their updates, evaluations, checkpoints, and the final model.

mod judged;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use pcrm_core::Backend;
use pcrm_core::model::LanguageModel;
use serde::Serialize;
use serde_json::{Map, Value};

use super::ahead::Ahead;
use super::config::OnlineConfig;
use super::critic::Critic;
use super::evaluation::evaluate;
use super::mix::Mixing;
use super::rollout::{Prompts, Roller};
use super::steering::Steering;
use super::tree::Step;
use super::update::{RolloutPart, UpdateObjective};
use crate::checkpoint::{Best, State};
use crate::error::{Error, Result};
use crate::lanes::LaneGradient;
use crate::learner::{self, Learner};
use crate::loss::policy::loss_entropy;
use crate::metrics::{Metrics, MetricsFile, StepMetrics};
use crate::objective::Batch;
use crate::offline::{Observer, due};
use crate::options::TrainerConfig;
use crate::plan::BatchPlan;
use crate::rollout::source::RolloutSource;
use crate::rollout::{Budget, Sampling, Stop};

#[derive(Serialize)]
struct EvalLine {
    step: u64,
    epoch: f64,
    #[serde(flatten)]
    metrics: Map<String, Value>,
}

/// A run in progress.
pub(super) struct Training<'a> {
    pub backend: &'a dyn Backend,
    pub config: &'a OnlineConfig,
    pub trainer: &'a TrainerConfig,
    pub update: UpdateObjective,
    pub learner: Learner<LanguageModel>,
    pub critic: Option<Critic>,
    pub mixing: Option<Mixing<'a>>,
    pub steering: Steering,
    pub state: State,
    pub total: u64,
    pub plan: BatchPlan<'a>,
    /// Number of batches drawn from the plan.
    pub drawn: u64,
    /// Seconds spent on the rewards of the current rollout.
    pub scoring: f64,
    /// Description of the limit that ended the run.
    pub halted: Option<String>,
    pub metrics: MetricsFile,
    pub samples: MetricsFile,
    /// Metrics of the rollouts since the last line of training.
    pub unlogged: Metrics,
    /// Means over the updates since the last line of training.
    pub unlogged_updates: Metrics,
    pub source: Box<dyn RolloutSource + 'a>,
    /// Batches that are sampled ahead of the updates.
    pub ahead: Ahead,
    /// Limits of an engine of the trainer's own.
    pub budget: Budget,
    /// Stop conditions of answers.
    pub ends: &'a Stop<'a>,
    pub roller: Roller<'a>,
    pub train: &'a Prompts,
    pub eval: Option<&'a Prompts>,
    /// True if samples have the log-probabilities of training to the bit.
    pub exact: bool,
    pub dir: &'a Path,
    /// Last rollout, for checking the saved model.
    pub last: Step,
}

impl Training<'_> {
    /// Runs all iterations. Returns the checkpoint if interrupted, else `None`.
    pub fn make_steps(&mut self, observer: &mut dyn Observer) -> Result<Option<PathBuf>> {
        let mut early = false;
        while (self.state.evaluation_owed || self.state.step < self.total) && !early {
            let owed = self.state.evaluation_owed;
            if !owed {
                match self.iterate(observer) {
                    // The current rollout is repeated on resuming.
                    Err(Error::Interrupted(_)) => return self.save(observer).map(Some),
                    Err(error @ (Error::Rollouts { .. } | Error::Reward { .. })) => {
                        return Err(self.kept(error, observer));
                    }
                    done => done?,
                }
            }
            let step = self.state.step;
            let stop = self.roller.interrupted.load(Ordering::Relaxed);
            let stopped = self.roller.lanes.collective().any(stop)? && step < self.total;
            let evaluates = self.eval.is_some()
                && (self.is_due(self.trainer.eval_every) || step == self.total || self.halted.is_some());
            self.state.evaluation_owed = evaluates && stopped;
            let mut is_best = false;
            if let Some(eval) = self.eval.filter(|_| evaluates && !stopped) {
                match self.evaluate(eval, observer) {
                    Err(Error::Interrupted(_)) => {
                        self.state.evaluation_owed = true;
                        return self.save(observer).map(Some);
                    }
                    Err(error @ (Error::Rollouts { .. } | Error::Reward { .. })) => {
                        self.state.evaluation_owed = true;
                        return Err(self.kept(error, observer));
                    }
                    found => is_best = found?,
                }
            }
            let patience = self.trainer.patience;
            early = patience.is_some_and(|patience| self.state.evaluations_without_gain >= patience.max(1));
            if let Some(limit) = self.halted.take() {
                observer.note(&format!("ended after step {step}: {limit}"));
                early = true;
            }
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

    /// Returns true if an event with this period was due within the last rollout's steps.
    fn is_due(&self, every: Option<u64>) -> bool {
        let updates = self.config.updates();
        every.is_some() && (0..updates).any(|back| due(self.state.step.saturating_sub(back).max(1), every))
    }

    /// Returns true if the step that was just made has a line in `metrics.jsonl`.
    fn is_logged(&self) -> bool {
        let step = self.state.step;
        let ends = self.halted.is_some() && due(step, Some(self.config.updates()));
        due(step, Some(self.trainer.log_every)) || step == self.total || ends
    }

    /// Makes a rollout and its updates.
    fn iterate(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let started = Instant::now();
        let mut metrics = Metrics::default();
        let policy = self.learner.model.for_sampling()?;
        self.scoring = 0.0;
        self.publish(&policy, &mut metrics)?;
        let synced = started.elapsed().as_secs_f64();
        let rollout = self.roll_out(&mut metrics)?;
        let sampled = started.elapsed().as_secs_f64();
        self.roller.record(&rollout, &mut metrics)?;
        let trees = self.judged(&policy, &rollout, &mut metrics)?;
        let compared = started.elapsed().as_secs_f64();
        let mut step = Step::new(trees);
        super::step::check(&step)?;
        let places: Vec<usize> = (0..step.trees().len()).collect();
        let times = [synced, sampled - synced - self.scoring, self.scoring, compared - sampled];
        let names = ["time/sync", "time/rollout", "time/rewards", "time/reference"];
        let unsent = usize::from(self.config.rollouts.source.is_own());
        names.iter().zip(times).skip(unsent).for_each(|(name, time)| metrics.mean(*name, time, 1.0));
        let mut before: f64 = times.iter().sum();
        self.unlogged.merge(metrics.clone());
        let mut logged = false;
        for _ in 0..self.config.num_iterations {
            for number in 0..self.config.num_mini_batches {
                let part = nth_part(&places, number, self.config.num_mini_batches);
                let begun = Instant::now();
                let mut of_update = Metrics::default();
                let (gradient, update) = self.update(&mut step, part, &mut of_update)?;
                self.state.step += 1;
                self.state.num_tokens += gradient.tokens.separate as u64;
                let is_logged = self.is_logged();
                // The first update's line has the rollout's metrics; a line covers all rollouts and updates
                // since the line before.
                let of_rollout = std::mem::take(&mut metrics);
                let mut shown = if is_logged { std::mem::take(&mut self.unlogged) } else { of_rollout };
                of_update.merge(gradient.metrics);
                let (before, seconds) = (std::mem::take(&mut before), begun.elapsed().as_secs_f64());
                of_update.mean("time/update", seconds, 1.0);
                of_update.mean("step_time", before + seconds, 1.0);
                shown.merge(self.of_updates(of_update, is_logged));
                let line = StepMetrics {
                    step: self.state.step,
                    epoch: self.plan.epochs_made(),
                    metrics: shown.summary(),
                    grad_norm: update.grad_norm,
                    learning_rate: update.learning_rate,
                    num_tokens: self.state.num_tokens,
                    tokens_per_second: gradient.tokens.separate as f64 / (before + seconds),
                    padding_avoided: 1.0
                        - gradient.tokens.unique as f64 / gradient.tokens.padded().max(1) as f64,
                };
                if is_logged {
                    self.metrics.line(&line)?;
                    logged = true;
                }
                observer.step(&line);
            }
        }
        if logged {
            self.keep_samples(&step, &rollout)?;
        }
        self.last = step;
        Ok(())
    }

    /// Returns the metrics of an update, or for a line the means over all updates since the line before.
    fn of_updates(&mut self, of_update: Metrics, is_logged: bool) -> Metrics {
        if is_logged && self.unlogged_updates.is_empty() {
            return of_update;
        }
        self.unlogged_updates.add_step(&of_update);
        match is_logged {
            true => std::mem::take(&mut self.unlogged_updates),
            false => of_update,
        }
    }

    /// Updates the policy on a part of a rollout, and the critic.
    fn update(
        &mut self,
        step: &mut Step,
        items: &[usize],
        metrics: &mut Metrics,
    ) -> Result<(LaneGradient, learner::Update)> {
        let micro_tokens = self.trainer.micro_tokens;
        let progress = self.state.step as f64 / self.total as f64;
        let part = RolloutPart { items, updates: self.config.num_mini_batches, micro_tokens, progress };
        let mut made = self.update.gradient(self.backend, &self.learner, step, &part, &self.steering)?;
        if let Some(mixing) = &mut self.mixing {
            mixing.add(self.backend, &self.learner, progress, &mut made)?;
        }
        let rows = || items.iter().map(|item| step.trees()[*item].origin.clone()).collect();
        let update = self.learner.update(&mut made, rows)?;
        self.steering.updated(loss_entropy(&made.metrics.summary()));
        if let Some(critic) = &mut self.critic {
            let batch = Batch { data: &*step, items, micro_tokens };
            critic.update(self.backend, &batch, progress, metrics)?;
        }
        Ok((made, update))
    }

    /// Evaluates, writes the metrics, and returns true for the best result so far.
    fn evaluate(&mut self, eval: &Prompts, observer: &mut dyn Observer) -> Result<bool> {
        let policy = self.learner.model.for_sampling()?;
        let step = self.state.step;
        let sampling = Sampling { seed: self.trainer.seed, ..self.config.sampling };
        let found = match self.source.answers_any() {
            true => {
                self.source.publish(&policy, self.state.step, &self.roller.lanes)?;
                evaluate(&mut self.roller, self.source.as_mut(), eval, sampling, step)?
            }
            false => {
                let mut own = self.own(&policy)?;
                evaluate(&mut self.roller, &mut own, eval, sampling, step)?
            }
        }
        .summary();
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
}

/// Returns part `number` of `parts` equal parts. With fewer items than parts, parts are single items in
/// rotation.
fn nth_part(items: &[usize], number: usize, parts: usize) -> &[usize] {
    let count = items.len();
    match count >= parts {
        true => &items[number * count / parts..(number + 1) * count / parts],
        false => &items[number % count..=number % count],
    }
}

#[cfg(test)]
mod tests;
