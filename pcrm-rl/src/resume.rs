//! The state that a run resumes from: the newest checkpoint of the same run in its folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::agreement::same_inputs;
use crate::checkpoint::{self, State};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Resumed, with_named_loss};
use crate::lanes::Lanes;
use crate::manifest;
use crate::options::TrainerConfig;

/// A run that may continue the one in its folder.
pub(crate) struct Candidate<'a> {
    /// Folder of the run.
    pub dir: &'a Path,
    /// Options and data that determine the run's results.
    pub fingerprint: &'a Fingerprint,
    /// Values of options missing from an older run.
    pub defaults: &'a Fingerprint,
    /// Reason why a step depends on the total number of steps; `None` if it does not.
    pub depends_on_length: Option<&'static str>,
    /// Number of steps of the run.
    pub total: u64,
}

impl Candidate<'_> {
    /// Returns the newest intact checkpoint with its folder; `None` for a new run.
    ///
    /// # Errors
    /// Fails if a checkpoint or manifest belongs to another run or has more steps, or if no checkpoint is
    /// intact.
    pub fn newest(&self, config: &TrainerConfig) -> Result<Option<(PathBuf, State)>> {
        let newest = checkpoint::newest(self.dir)?;
        let before = manifest::fingerprint(self.dir, newest.is_some())?;
        let manifest = before.map(|before| (self.dir.join(manifest::FILE), before));
        let saved = newest.as_ref().map(|(dir, saved)| (dir.clone(), saved.fingerprint.clone()));
        for (path, before) in saved.into_iter().chain(manifest) {
            let before = with_named_loss(before);
            let mut now = self.fingerprint.clone();
            if !before.contains_key("seed") {
                // Older versions of `pcrm sft` wrote no trainer options.
                now.retain(|name, _| before.contains_key(name));
            }
            let resumed = Resumed {
                before: &before,
                now: &now,
                defaults: self.defaults,
                depends_on_length: self.depends_on_length,
            };
            if let Some(message) = resumed.refusal(config) {
                return Err(Error::Checkpoint { path, message });
            }
        }
        if let Some((path, saved)) = &newest
            && saved.step > self.total
        {
            let message = format!("has made {} steps, more than the {} requested", saved.step, self.total);
            return Err(Error::Checkpoint { path: path.clone(), message });
        }
        Ok(newest)
    }
}

/// Prepares a run's folder for finding its newest checkpoint: checks that all processes have the same options, data and
/// base model, and restores a checkpoint that was being replaced.
///
/// # Errors
/// Fails if the processes differ, if one is gone, or if the disk fails.
pub(crate) fn prepare(
    lanes: &Lanes,
    dir: &Path,
    fingerprint: &Fingerprint,
    config: &TrainerConfig,
) -> Result<()> {
    if lanes.is_first() {
        checkpoint::recover(dir)?;
    }
    // The other processes look for checkpoints only after this exchange.
    same_inputs(lanes, fingerprint, config)
}

/// Refuses to train if the processes of a run found different checkpoints.
pub(crate) fn same_beginning(lanes: &Lanes, state: &State) -> Result<()> {
    if lanes.collective().world() == 1 {
        return Ok(());
    }
    let own = (state.step, state.files.clone());
    let of_all: Vec<(u64, BTreeMap<String, String>)> = lanes.gathered(&own)?;
    let Some(rank) = of_all.iter().position(|of| *of != of_all[0]) else { return Ok(()) };
    let found = match (of_all[0].0, of_all[rank].0) {
        (first, other) if first == other => format!("it found other files in checkpoint-{first}"),
        (first, other) => {
            format!("it begins after step {other} of the run, and rank 0 after step {first}")
        }
    };
    let message = format!("{found}; --output must be on a file system that all processes share");
    Err(Error::Apart { rank, message })
}
