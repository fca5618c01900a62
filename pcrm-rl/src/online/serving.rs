//! A run's use of its source of answers: new weights, comparison with the trainer, failures.

use pcrm_core::model::LanguageModel;

use super::iteration::Training;
use super::rollout::Draws;
use super::tree::Tree;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::offline::Observer;
use crate::rollout::source::Own;
use crate::rollout::{Engine, Sampling};

/// The number of tokens of the answer that a server is compared on.
const PROBED: usize = 16;

impl<'a> Training<'a> {
    /// Publishes the current policy to the source. If rollouts come from older policies, compares the log-probabilities
    /// of an answer to one prompt, to verify that the server computes with the new weights.
    pub(super) fn publish(&mut self, policy: &LanguageModel, metrics: &mut Metrics) -> Result<()> {
        let version = self.state.step;
        self.source.publish(policy, version, &self.roller.lanes)?;
        if !self.config.rollouts.probes() || self.train.numbered.is_empty() {
            return Ok(());
        }
        let max_tokens = self.config.sampling.max_tokens.min(PROBED);
        let sampling = Sampling { seed: self.trainer.seed, max_tokens, ..self.config.sampling };
        let draws = Draws { samples: 1, sampling, version, pass: 0 };
        let samples = self.roller.sample(self.source.as_mut(), self.train, &[0], draws)?;
        let trees = self.roller.bare(self.train, &[0], samples);
        let mean = self.compare(policy, &trees)?;
        metrics.mean("sampling/sync_logp_difference/mean", mean, 1.0);
        Ok(())
    }

    /// Returns the mean over tokens of |ln π_server − ln π_trainer|, which must not exceed the limit.
    pub(super) fn compare(&self, policy: &LanguageModel, trees: &[Tree]) -> Result<f64> {
        let temperature = self.config.sampling.filters.temperature;
        let answers = || trees.iter().flat_map(|tree| &tree.answers);
        let own = match self.update.temperature() == temperature {
            true => answers().map(|answer| answer.old_log_probs.clone()).collect::<Option<Vec<_>>>(),
            false => None,
        };
        let own = match own {
            Some(own) => own,
            None => self.roller.log_probs(policy, trees, temperature)?,
        };
        let pairs = answers().zip(&own).flat_map(|(answer, own)| answer.sampled.iter().zip(own));
        let differences: Vec<f64> = pairs.map(|(served, own)| (served - own).abs()).collect();
        let mean = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
        let most = self.config.rollouts.max_mismatch;
        // NaN is also beyond the limit.
        match mean <= most {
            true => Ok(mean),
            false => {
                let message = format!(
                    "after step {} its log-probabilities differ from the trainer's by {mean:.4} per token on \
                     average, more than --max-mismatch {most}: it computes with other weights, in another \
                     type, or reports other numbers (vLLM needs --logprobs-mode processed_logprobs)",
                    self.state.step
                );
                Err(Error::rollouts(self.source.name(), message))
            }
        }
    }

    /// Returns an engine of the trainer's own that answers with this model.
    pub(super) fn own(&self, model: &LanguageModel) -> Result<Own<'a>> {
        let engine = Engine::new(model.decoder(), self.budget)?;
        Ok(Own::new(engine, self.ends).with_policy(model, self.state.step))
    }

    /// Saves the steps made before a source of answers or rewards failed, and adds to its error that they are saved.
    /// All processes call this together, because all of them know of the failure.
    pub(super) fn kept(&mut self, error: Error, observer: &mut dyn Observer) -> Error {
        let step = self.state.step;
        let is_there = checkpoint::folder(self.dir, step).exists();
        // Answers in flight are lost; the newest policy samples them again.
        self.ahead.clear();
        // Either all processes save or none does.
        let kept = match self.roller.lanes.collective().any(is_there) {
            Ok(is_there) => is_there || (step > 0 && self.save(observer).is_ok()),
            Err(_) => false,
        };
        let saved = |message: String| match kept {
            true => format!("{message}; step {step} is saved: continue with --resume"),
            false => message,
        };
        match error {
            Error::Rollouts { engine, message } => Error::Rollouts { engine, message: saved(message) },
            Error::Reward { name, message } => Error::Reward { name, message: saved(message) },
            other => other,
        }
    }
}
