//! The state that a run takes up: its newest checkpoint, if the run in the folder is the same.

use std::path::{Path, PathBuf};

use crate::checkpoint::{self, State};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Resumed, with_named_loss};
use crate::manifest;
use crate::options::TrainerConfig;

/// A run that may continue the one in its folder.
pub(crate) struct Candidate<'a> {
    /// The folder.
    pub dir: &'a Path,
    /// The options and data that decide the run's numbers.
    pub fingerprint: &'a Fingerprint,
    /// The values of options that an older run does not name.
    pub defaults: &'a Fingerprint,
    /// The reason why a step depends on the number of all steps; `None` if it does not.
    pub depends_on_length: Option<&'static str>,
    /// The number of steps that the run makes.
    pub total: u64,
}

impl Candidate<'_> {
    /// Returns the newest whole checkpoint with its folder, `None` for a run that begins.
    ///
    /// # Errors
    /// A checkpoint or manifest of another run, or one that has made more steps; no checkpoint that is whole.
    pub fn newest(&self, config: &TrainerConfig) -> Result<Option<(PathBuf, State)>> {
        let newest = checkpoint::newest(self.dir)?;
        let before = manifest::fingerprint(self.dir, newest.is_some())?;
        let manifest = before.map(|before| (self.dir.join(manifest::FILE), before));
        let saved = newest.as_ref().map(|(dir, saved)| (dir.clone(), saved.fingerprint.clone()));
        for (path, before) in saved.into_iter().chain(manifest) {
            let before = with_named_loss(before);
            let mut now = self.fingerprint.clone();
            if !before.contains_key("seed") {
                // An older `pcrm sft` wrote no options of the trainer.
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
            let message =
                format!("has made {} steps, more than the {} that are asked for", saved.step, self.total);
            return Err(Error::Checkpoint { path: path.clone(), message });
        }
        Ok(newest)
    }
}
