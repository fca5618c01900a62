//! The prompts of a rollout: one batch of the plan, or several until enough groups have a signal.

use super::ahead::{BatchAnswers, Drawn};
use super::config::Algorithm;
use super::credit::by_source;
use super::iteration::Training;
use super::rollout::{Draws, Rollout, ScoredRollout};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::rollout::Sampling;

/// The key in checkpoints of the number of batches drawn.
pub(super) const DRAWN: &str = "drawn";

impl Training<'_> {
    /// Samples and scores the prompts of the next rollout, and records the number of batches used.
    ///
    /// With dynamic sampling, groups whose advantages are all 0 are replaced by prompts of further batches,
    /// up to the limit of the option. If no group has a signal, the first batch is used as it is.
    pub fn roll_out(&mut self, metrics: &mut Metrics) -> Result<Rollout> {
        let first = self.first_batch()?;
        let (Some(more), Algorithm::Grpo(config)) = (self.config.dynamic_sampling, &self.config.algorithm)
        else {
            return Ok(first);
        };
        let (wanted, group) = (first.items.len(), self.config.num_generations);
        let combine = self.roller.rewards.combine();
        let signals = |rollout: &Rollout| -> Result<Vec<bool>> {
            Ok(config.advantages.of(&by_source(rollout, combine)?, group)?.signals(group))
        };
        let (mut found, mut dropped, mut draws) = (Rollout::default(), 0, 1);
        let mut batch = first.clone();
        loop {
            let keep = signals(&batch)?;
            dropped += keep.iter().filter(|signal| !**signal).count();
            found.append(batch.kept(&keep, group));
            if found.items.len() >= wanted || draws > more {
                break;
            }
            let drawn = self.draw(self.state.step, draws as u64)?;
            batch = self.scored(drawn)?;
            draws += 1;
        }
        metrics.mean("dynamic_sampling/batches", draws as f64, 1.0);
        metrics.sum("dynamic_sampling/groups_without_signal", dropped as f64);
        self.state.states.insert(DRAWN.to_owned(), self.drawn.into());
        Ok(if found.items.is_empty() { first } else { found.first(wanted, group) })
    }

    /// Asks for answers to the next batch of the plan: number `number` of the rollout after `made` updates.
    pub(super) fn draw(&mut self, made: u64, number: u64) -> Result<Drawn> {
        let items = self.plan.next().to_vec();
        self.drawn += 1;
        // Every batch has its own draws.
        let seed = self.trainer.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ (made + 1)
            ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03);
        let draws = Draws {
            samples: self.config.num_generations,
            sampling: Sampling { seed, ..self.config.sampling },
            version: self.state.step,
            pass: self.plan.epoch(),
        };
        let pending = self.roller.begin(self.source.as_mut(), self.train, &items, draws)?;
        Ok(Drawn { items, answers: BatchAnswers::Asked(pending) })
    }

    /// Waits for the answers to a batch and scores them.
    pub(super) fn scored(&mut self, drawn: Drawn) -> Result<Rollout> {
        let Drawn { items, answers } = drawn;
        let samples = match answers {
            BatchAnswers::Made(samples) => samples,
            BatchAnswers::Asked(pending) => {
                let interrupted = self.roller.interrupted;
                self.roller.finish(self.source.as_mut(), pending, items.len(), interrupted)?
            }
        };
        let started = std::time::Instant::now();
        let scored = self.roller.score(self.train, &items, &samples, self.state.step)?;
        self.scoring += started.elapsed().as_secs_f64();
        Ok(Rollout { items, samples, scored })
    }
}

impl Rollout {
    /// Appends another rollout.
    fn append(&mut self, more: Self) {
        self.items.extend(more.items);
        self.samples.extend(more.samples);
        self.scored.append(more.scored);
    }

    /// Returns the groups of `group` answers with `true` in `keep`.
    fn kept(self, keep: &[bool], group: usize) -> Self {
        fn of<T>(values: Vec<T>, keep: impl Fn(usize) -> bool) -> Vec<T> {
            let numbered = values.into_iter().enumerate();
            numbered.filter(|(at, _)| keep(*at)).map(|(_, value)| value).collect()
        }
        let rows: Vec<bool> = keep.iter().flat_map(|keep| std::iter::repeat_n(*keep, group)).collect();
        Self {
            items: of(self.items, |at| keep[at]),
            samples: of(self.samples, |at| keep[at]),
            scored: ScoredRollout {
                texts: of(self.scored.texts, |at| rows[at]),
                rewards: self.scored.rewards.kept(&rows),
            },
        }
    }

    /// Returns the first `wanted` groups.
    fn first(self, wanted: usize, group: usize) -> Self {
        let keep: Vec<bool> = (0..self.items.len()).map(|at| at < wanted).collect();
        self.kept(&keep, group)
    }
}
