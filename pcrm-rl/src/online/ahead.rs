//! Batches that a server samples while the policy is updated on earlier ones.
//!
//! With staleness K, rollout `i` is requested at the beginning of rollout `i − K`, from the policy at that time, so the
//! policy that answers does not depend on timing. A checkpoint keeps the answers, so a resumed run continues with the
//! same ones.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::iteration::Training;
use super::rollout::Rollout;
use crate::checkpoint::{CheckpointPart, Moments};
use crate::error::{Error, Result};
use crate::rollout::Sample;
use crate::rollout::source::Pending;

/// The folder in checkpoints of the batches sampled ahead.
pub(super) const AHEAD: &str = "ahead";
const FILE: &str = "rollouts.jsonl";

/// The prompts of a batch, and their answers.
pub(super) struct Drawn {
    pub items: Vec<usize>,
    pub answers: BatchAnswers,
}

/// The answers to a batch.
pub(super) enum BatchAnswers {
    /// Requested, but not yet sampled.
    Asked(Pending),
    /// Sampled.
    Made(Vec<Vec<Sample>>),
}

/// The batches that are sampled ahead, in the order of their use.
#[derive(Default)]
pub(super) struct Ahead {
    staleness: usize,
    queue: VecDeque<Drawn>,
}

/// A line of the file of batches sampled ahead.
#[derive(Serialize, Deserialize)]
struct Line {
    items: Vec<usize>,
    samples: Vec<Vec<Sample>>,
}

impl Ahead {
    pub fn new(staleness: usize) -> Self {
        Self { staleness, queue: VecDeque::new() }
    }

    /// Returns true if batches are sampled ahead.
    pub fn is_used(&self) -> bool {
        self.staleness > 0
    }

    /// Drops all batches.
    pub fn clear(&mut self) {
        self.queue.clear();
    }

    /// Returns the number of batches that are requested but not used yet.
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}

impl Training<'_> {
    /// Requests the batches of this rollout and of the next K, and returns the first with its answers.
    pub(super) fn first_batch(&mut self) -> Result<Rollout> {
        let updates = self.config.updates();
        while self.ahead.len() <= self.ahead.staleness {
            let made = self.state.step + self.ahead.len() as u64 * updates;
            if made >= self.total && self.ahead.len() > 0 {
                break;
            }
            let drawn = self.draw(made, 0)?;
            self.ahead.queue.push_back(drawn);
        }
        let Some(mut first) = self.ahead.queue.pop_front() else {
            return Err(Error::rollouts(self.source.name(), "no batch was asked for"));
        };
        if self.ahead.is_used() {
            // An interrupt must not lose answers in flight.
            first = self.waited(first)?;
        }
        self.scored(first)
    }

    /// Waits for the answers of all batches, so that a checkpoint can keep them.
    pub(super) fn settle(&mut self) -> Result<()> {
        let queue = std::mem::take(&mut self.ahead.queue);
        self.ahead.queue = queue.into_iter().map(|drawn| self.waited(drawn)).collect::<Result<_>>()?;
        Ok(())
    }

    fn waited(&mut self, drawn: Drawn) -> Result<Drawn> {
        let BatchAnswers::Asked(pending) = drawn.answers else { return Ok(drawn) };
        let (count, never) = (drawn.items.len(), AtomicBool::new(false));
        let made = self.roller.finish(self.source.as_mut(), pending, count, &never)?;
        Ok(Drawn { answers: BatchAnswers::Made(made), ..drawn })
    }
}

impl CheckpointPart for Ahead {
    fn moments(&self) -> Result<Moments> {
        Ok(Moments::new())
    }

    fn write(&self, dir: &Path, _moments: &Moments) -> Result<()> {
        let mut text = String::new();
        for drawn in &self.queue {
            let BatchAnswers::Made(samples) = &drawn.answers else { continue };
            let line = Line { items: drawn.items.clone(), samples: samples.clone() };
            let line = serde_json::to_string(&line);
            text += &line.map_err(|error| Error::rollouts(AHEAD, error.to_string()))?;
            text.push('\n');
        }
        fs::create_dir_all(dir).map_err(pcrm_core::Error::io(dir))?;
        Ok(pcrm_core::model::weights::write(&dir.join(FILE), text.as_bytes())?)
    }

    fn read(&mut self, dir: &Path, _step: u64) -> Result<()> {
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path).map_err(pcrm_core::Error::io(&path))?;
        for (number, line) in text.lines().enumerate() {
            let Line { items, samples } = serde_json::from_str(line).map_err(|error| Error::Checkpoint {
                path: path.clone(),
                message: format!("line {}: {error}", number + 1),
            })?;
            self.queue.push_back(Drawn { items, answers: BatchAnswers::Made(samples) });
        }
        Ok(())
    }
}
