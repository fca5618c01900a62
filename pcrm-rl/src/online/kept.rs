//! The files of a run: sampled answers, checkpoints, and the final models.

use std::path::PathBuf;

use pcrm_core::model::LanguageModel;
use pcrm_core::text::Tokenizer;

use super::ahead::AHEAD;
use super::critic::CRITIC;
use super::iteration::Training;
use super::rollout::Scored;
use super::tree::Step;
use crate::checkpoint::{self, MAIN, State};
use crate::error::{Error, Result};
use crate::learner::Trainable;
use crate::offline::{Observer, Outcome, Trained, diverged};

impl Training<'_> {
    /// Writes the best, the worst and the first answer of a rollout.
    pub(super) fn keep_samples(&mut self, step: &Step, scored: &Scored) -> Result<()> {
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

    /// Writes a checkpoint and removes outdated ones.
    pub(super) fn save(&mut self, observer: &mut dyn Observer) -> Result<PathBuf> {
        self.metrics.still_there()?;
        self.settle()?;
        self.metrics.note(&mut self.state);
        self.steering.keep(&mut self.state.states);
        let mut parts: Vec<(&str, &dyn checkpoint::Part)> = vec![(MAIN, &self.learner)];
        parts.extend(self.critic.as_ref().map(|critic| (CRITIC, &critic.learner as &dyn checkpoint::Part)));
        parts.extend(self.ahead.is_used().then_some((AHEAD, &self.ahead as &dyn checkpoint::Part)));
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
