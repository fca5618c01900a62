//! The end of a run: writes the final model and verifies that it loads.

use super::{Outcome, Run, Trained, Training, diverged};
use crate::checkpoint::{self, State};
use crate::error::{Error, Result};
use crate::learner::Trainable;
use crate::objective::Objective;
use crate::options::Final;

impl<O: Objective> Training<'_, O> {
    /// Saves the weights that the options select in the run's folder, and verifies that they load.
    pub(super) fn finish(self, early: bool) -> Result<Trained<O::Model>> {
        let State { step: steps, best, .. } = self.state;
        let saved = match (self.config.final_weights, best) {
            (Final::Best, Some(best)) => best.step,
            _ => steps,
        };
        let model = self.learner.model.detached();
        if saved != steps {
            checkpoint::restore_weights(&checkpoint::folder(self.run.dir, saved), &model)?;
        }
        let outcome = Outcome::Finished { steps, best, early, saved };
        let lanes = self.learner.lanes();
        if !lanes.is_first() {
            // The first process probes and writes the model.
            lanes.collective().barrier()?;
            return Ok(Trained { outcome, model, probe: Vec::new() });
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
        lanes.collective().barrier()?;
        Ok(Trained { outcome, model, probe })
    }
}

/// Loads the saved model and returns its numbers for a few items. Fails if they differ from those of the
/// trained model.
fn reload<O: Objective>(run: &Run<'_, O>, model: &O::Model, trained: &[(String, f32)]) -> Result<Vec<f32>> {
    let data = run.eval.unwrap_or(run.train);
    let loaded = model.reloaded(run.backend, run.dir)?;
    let reloaded = run.objective.probe(&loaded, data)?;
    for ((row, trained), (_, reloaded)) in trained.iter().zip(&reloaded) {
        if trained.to_bits() != reloaded.to_bits() {
            let (path, row) = (run.dir.to_path_buf(), row.clone());
            return Err(Error::Reload { path, row, trained: *trained, reloaded: *reloaded });
        }
    }
    Ok(reloaded.into_iter().map(|(_, number)| number).collect())
}
