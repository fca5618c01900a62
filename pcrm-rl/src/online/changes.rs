//! Answers to held-out prompts before and after training, by the reference and by the policy with the same
//! draws.

use pcrm_core::model::LanguageModel;
use serde::{Deserialize, Serialize};

use super::iteration::Training;
use super::rollout::Draws;
use crate::error::Result;
use crate::metrics::MetricsFile;
use crate::rollout::Sampling;

/// The file in the run's folder with held-out prompts and their answers before and after training.
pub const CHANGES: &str = "changes.jsonl";

/// The maximum number of prompts in the table.
const MOST: usize = 256;

/// A held-out prompt, answered before and after training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Number of updates of the policy.
    pub step: u64,
    /// File and line of the prompt.
    pub origin: String,
    /// The prompt.
    pub prompt: String,
    /// Answer of the reference.
    pub before: String,
    /// Answer of the policy.
    pub after: String,
    /// Reward of the reference's answer; `None` if it is not scored.
    pub reward_before: Option<f32>,
    /// Reward of the policy's answer; `None` if it is not scored.
    pub reward_after: Option<f32>,
    /// ln π − ln π_ref of the policy's answer, summed over its tokens.
    pub kl: f64,
}

impl Change {
    /// Returns the increase of the reward, if both answers have one.
    pub fn rise(&self) -> Option<f32> {
        Some(self.reward_after? - self.reward_before?)
    }
}

impl Training<'_> {
    /// Answers held-out prompts by the reference and by the trained policy, and writes both answers. Without
    /// held-out prompts or a reference nothing is written.
    pub(super) fn keep_changes(&mut self, policy: &LanguageModel) -> Result<()> {
        let (Some(eval), Some(reference)) = (self.eval, self.roller.reference) else { return Ok(()) };
        let items: Vec<usize> = (0..eval.numbered.len().min(MOST)).collect();
        let sampling = Sampling { seed: self.trainer.seed, ..self.config.sampling };
        let step = self.state.step;
        let draws = Draws { samples: 1, sampling, version: step, pass: 0 };
        let answered = |model: &LanguageModel| self.roller.sample(&mut self.own(model)?, eval, &items, draws);
        let (before, after) = (answered(reference)?, answered(policy)?);
        let (scored_before, scored_after) =
            (self.roller.score(eval, &items, &before, step)?, self.roller.score(eval, &items, &after, step)?);
        let kl = self.roller.divergences(eval, &items, after, reference)?;
        let path = self.dir.join(CHANGES);
        let mut file = match self.roller.lanes.is_first() {
            true => MetricsFile::plain(&path, 0)?,
            false => MetricsFile::of_another(&path),
        };
        for (at, item) in items.iter().enumerate() {
            file.line(&Change {
                step,
                origin: eval.record(*item).origin.to_string(),
                prompt: scored_before.texts[at].prompt.clone(),
                before: scored_before.texts[at].completion.clone(),
                after: scored_after.texts[at].completion.clone(),
                reward_before: scored_before.rewards.total[at],
                reward_after: scored_after.rewards.total[at],
                kl: kl[at],
            })?;
        }
        Ok(())
    }
}
