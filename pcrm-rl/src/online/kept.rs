//! The files of a run: sampled answers, checkpoints, and the final models.

use std::path::PathBuf;

use pcrm_core::model::LanguageModel;
use pcrm_core::text::Tokenizer;
use serde_json::{Map, Value};

use super::ahead::AHEAD;
use super::critic::CRITIC;
use super::iteration::Training;
use super::rollout::Rollout;
use super::tree::Step;
use crate::checkpoint::{self, MAIN, State};
use crate::error::{Error, Result};
use crate::learner::Trainable;
use crate::offline::{Observer, Outcome, Trained, diverged};

/// The key in checkpoints of the metrics of rollouts without a line.
pub(super) const UNLOGGED: &str = "unlogged";
/// The key in checkpoints of the means over the updates without a line.
pub(super) const UNLOGGED_UPDATES: &str = "unlogged_updates";

impl Training<'_> {
    /// Writes the best, the worst and the first answer of a rollout, with the columns of the reward sources.
    pub(super) fn keep_samples(&mut self, step: &Step, rollout: &Rollout) -> Result<()> {
        let scored = &rollout.scored;
        let totals = &scored.rewards.total;
        let known = || (0..totals.len()).filter_map(|at| Some((at, totals[at]?)));
        let best = known().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at);
        let worst = known().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at);
        let group = self.config.num_generations;
        for (what, at) in [("best", best), ("worst", worst), ("first", Some(0))] {
            let Some(at) = at else { continue };
            let (Some(tree), Some(samples)) = (step.trees().get(at / group), rollout.samples.get(at / group))
            else {
                continue;
            };
            let Some(sample) = samples.get(at % group) else { continue };
            // If the loss is on pairs, the tree keeps only the two answers that are compared.
            let answer = match tree.pair {
                None => tree.answers.get(at % group),
                Some(_) => tree.answers.iter().find(|answer| answer.ids == sample.ids),
            };
            let mut line = serde_json::json!({
                "step": self.state.step,
                "what": what,
                "origin": tree.origin,
                "prompt": scored.texts[at].prompt,
                "completion": scored.texts[at].completion,
                "reward": totals[at],
                "advantage": answer.map_or(0.0, |answer| answer.advantage),
                "tokens": sample.ids.len(),
                "ended": sample.finish.is_ended(),
            });
            let columns = scored.rewards.columns.iter();
            let columns: Map<String, Value> =
                columns.filter_map(|(name, values)| Some((name.clone(), values.get(at)?.clone()))).collect();
            if !columns.is_empty() {
                line["columns"] = columns.into();
            }
            self.samples.line(&line)?;
        }
        Ok(())
    }

    /// Writes a checkpoint and removes outdated ones.
    pub(super) fn save(&mut self, observer: &mut dyn Observer) -> Result<PathBuf> {
        self.metrics.still_there()?;
        self.settle()?;
        self.metrics.note(&mut self.state);
        self.steering.keep(&mut self.state.states);
        self.unlogged.keep(&mut self.state.states, UNLOGGED);
        self.unlogged_updates.keep(&mut self.state.states, UNLOGGED_UPDATES);
        let mut parts: Vec<(&str, &dyn checkpoint::CheckpointPart)> = vec![(MAIN, &self.learner)];
        parts.extend(
            self.critic.as_ref().map(|critic| (CRITIC, &critic.learner as &dyn checkpoint::CheckpointPart)),
        );
        parts.extend(self.ahead.is_used().then_some((AHEAD, &self.ahead as &dyn checkpoint::CheckpointPart)));
        let lanes = &self.roller.lanes;
        let saved = checkpoint::save(lanes.collective().as_ref(), self.dir, &parts, &mut self.state);
        let path = saved.map_err(|error| diverged(error, self.state.step))?;
        let best = self.state.best.map(|best| best.step);
        if lanes.is_first() {
            checkpoint::prune(self.dir, self.trainer.keep, self.state.step, best)?;
        }
        observer.saved(&path);
        Ok(path)
    }

    /// Saves the weights that the options select, and verifies that they load.
    pub fn finish(mut self, tokenizer: &Tokenizer) -> Result<Trained<LanguageModel>> {
        let State { step: steps, best, .. } = self.state;
        let saved = match (self.trainer.final_weights, best) {
            (crate::options::Final::Best, Some(best)) => best.step,
            _ => steps,
        };
        let model = self.learner.model.detached();
        let critic = self.critic.as_ref().map(|critic| critic.learner.model.detached());
        if saved != steps {
            let folder = checkpoint::folder(self.dir, saved);
            checkpoint::restore_weights(&folder, &model)?;
            critic.iter().try_for_each(|critic| critic.restore_from(&folder.join(CRITIC)))?;
        }
        let numbers = self.update.probe(&model, &self.last)?;
        self.metrics.still_there()?;
        self.keep_changes(&model.for_sampling()?)?;
        let outcome = Outcome::Finished { steps, best, early: steps < self.total, saved };
        let lanes = &self.roller.lanes;
        if !lanes.is_first() {
            // The first process writes the models.
            lanes.collective().barrier()?;
            return Ok(Trained { outcome, model, probe: Vec::new() });
        }
        if let Some(critic) = &critic {
            let folder = self.dir.join(CRITIC);
            Trainable::save(critic, &folder).map_err(|error| diverged(error, steps))?;
            tokenizer.save_to(&folder)?;
        }
        Trainable::save(&model, self.dir).map_err(|error| diverged(error, steps))?;
        tokenizer.save_to(self.dir)?;
        let loaded = model.reloaded(self.backend, self.dir)?;
        let reloaded = self.update.probe(&loaded, &self.last)?;
        for ((row, trained), (_, reloaded)) in numbers.iter().zip(&reloaded) {
            if trained.to_bits() != reloaded.to_bits() {
                let (path, row) = (self.dir.to_path_buf(), row.clone());
                return Err(Error::Reload { path, row, trained: *trained, reloaded: *reloaded });
            }
        }
        let probe = reloaded.into_iter().map(|(_, number)| number).collect();
        lanes.collective().barrier()?;
        Ok(Trained { outcome, model, probe })
    }
}
