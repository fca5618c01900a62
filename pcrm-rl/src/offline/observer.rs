//! The observer of a run; a training loop reports its progress to it.

use std::path::Path;

use crate::error::Result;
use crate::metrics::{StepMetrics, Summary};

/// An observer of a run.
pub trait Observer {
    /// Called once the folder and its checkpoints are accepted; nothing is changed before. An error ends the
    /// run.
    ///
    /// # Errors
    /// Fails as the observer does.
    fn accepted(&mut self) -> Result<()> {
        Ok(())
    }
    /// Called at the start; `done` of `total` steps were made before.
    fn begin(&mut self, _done: u64, _total: u64) {}
    /// Called for every step, logged or not.
    fn step(&mut self, _metrics: &StepMetrics) {}
    /// Called after an evaluation.
    fn evaluated(&mut self, _step: u64, _metrics: &Summary, _is_best: bool) {}
    /// Called with a message for users, such as the start of a fold of cross-fitting.
    fn note(&mut self, _line: &str) {}
    /// Called when numbers of `done` of `total` answers are computed before training.
    fn precomputed(&mut self, _done: u64, _total: u64) {}
    /// Called after a checkpoint is written.
    fn saved(&mut self, _path: &Path) {}
    /// Called when the run ends.
    fn end(&mut self) {}
}

/// An observer that does nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {}
