//! Checkpoints: the complete state of a run. A run continues from one bit for bit, as if never stopped.
//!
//! A checkpoint is a folder `checkpoint-STEP`. Its main model is in the folder itself, so that `transformers`
//! or `peft` can load it; further models (a critic) are in subfolders with their names, each with its
//! optimiser's moments in `optimizer.safetensors`. `state.json` has the run's counters, a hash of every other
//! file and one of itself. The folder is written under a temporary name, synced and renamed: a folder with
//! the final name is complete, unless the disk damaged it, which the hashes show.

mod draft;
mod hashes;
mod part;
mod removal;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pcrm_core::Collective;
use pcrm_core::disk::sealed::{self, Seal};
use pcrm_core::model::weights;
use serde::{Deserialize, Serialize};

use self::draft::Draft;
use self::hashes::{hash, hashes};
pub use self::part::{CheckpointPart, Moments};
pub use self::removal::{prune, recover, remove_all, sweep};
use self::removal::{put_back, replaced};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::learner::Trainable;

const PREFIX: &str = "checkpoint-";
const STATE: &str = "state.json";
const OPTIMISER: &str = "optimizer.safetensors";
/// The name of the model in the checkpoint's folder itself.
pub const MAIN: &str = "";

/// The counters of a run, besides weights and moments.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Number of completed steps.
    pub step: u64,
    /// Number of tokens seen.
    pub num_tokens: u64,
    /// Best evaluation so far.
    pub best: Option<Best>,
    /// Number of evaluations since the best one.
    pub evaluations_without_gain: u64,
    /// True if the run was stopped when an evaluation was due: resuming starts with it.
    #[serde(default)]
    pub evaluation_owed: bool,
    /// Number of lines of `metrics.jsonl` up to this step; `None` in checkpoints of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_lines: Option<u64>,
    /// Hash of these lines without their times (XXH3, 128 bits).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_digest: Option<String>,
    /// Options, data and base model of the run.
    pub fingerprint: Fingerprint,
    /// Additional state of an algorithm by name: a KL coefficient, running means.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<String, serde_json::Value>,
    /// Hashes (XXH3, 128 bits) of the other files, by their path in the folder.
    pub files: BTreeMap<String, String>,
}

/// The step and loss of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Number of steps before the evaluation.
    pub step: u64,
    /// Loss of the evaluation.
    pub loss: f64,
}

/// Returns the folder of a run's checkpoint after `step` steps.
pub fn folder(run: &Path, step: u64) -> PathBuf {
    run.join(format!("{PREFIX}{step}"))
}

/// Writes a checkpoint of these parts into the folder of a run, which must exist, and fills in `state.files`. Every
/// process of the run contributes its slice. Only the first process reads the moments and writes, and all return when
/// the checkpoint is complete. A checkpoint of the same step is replaced; if the process is killed while it replaces
/// one, [`recover`] restores the old one.
///
/// # Errors
/// Fails if the disk does or the run's folder is deleted or moved, in which case existing checkpoints are
/// unchanged, or if a process is gone.
pub fn save(
    collective: &dyn Collective,
    run: &Path,
    parts: &[(&str, &dyn CheckpointPart)],
    state: &mut State,
) -> Result<PathBuf> {
    let target = match collective.is_first() {
        true => write(run, parts, state)?,
        false => {
            parts.iter().try_for_each(|(_, part)| part.contribute())?;
            folder(run, state.step)
        }
    };
    collective.barrier()?;
    Ok(target)
}

fn write(run: &Path, parts: &[(&str, &dyn CheckpointPart)], state: &mut State) -> Result<PathBuf> {
    let target = folder(run, state.step);
    let draft = Draft::new(run, state.step)?;
    let dir = draft.path();
    for (name, part) in parts {
        let moments = part.moments()?;
        draft.still_there()?;
        part.write(&dir.join(name), &moments)?;
    }
    state.files = hashes(dir)?;
    sealed::write(&dir.join(STATE), state)?;
    draft.still_there()?;
    publish(draft, run, state.step)?;
    Ok(target)
}

/// Renames a complete draft to the checkpoint of a step, and replaces an older checkpoint of that step.
fn publish(draft: Draft, run: &Path, step: u64) -> Result<()> {
    let target = folder(run, step);
    let old = match target.exists() {
        true => Some(replaced(run, step)?),
        false => None,
    };
    if let Err(error) = draft.rename(&target) {
        // Report the original error. If this rename fails too, the next start of the run repeats it.
        old.iter().for_each(|old| drop(put_back(old, &target)));
        return Err(error);
    }
    weights::sync_dir(run)?;
    if let Some(old) = old
        && let Err(error) = fs::remove_dir_all(&old)
    {
        // The new checkpoint is complete; the next sweep tries again.
        tracing::warn!("{}: the replaced checkpoint cannot be removed yet: {error}", old.display());
    }
    Ok(())
}

/// Returns the steps of all checkpoints of a run, ascending.
///
/// # Errors
/// Fails if the disk fails.
pub fn steps(run: &Path) -> Result<Vec<u64>> {
    if !run.exists() {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    for entry in fs::read_dir(run).map_err(pcrm_core::Error::io(run))? {
        let name = entry.map_err(pcrm_core::Error::io(run))?.file_name();
        let step = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|step| step.parse::<u64>().ok());
        steps.extend(step);
    }
    steps.sort_unstable();
    Ok(steps)
}

/// Returns the step of the checkpoint that has the same weights as a file in the run's folder: the newest
/// checkpoint, or the one with the best evaluation. Returns `None` if neither does, which means that the run
/// was continued after the file was written.
///
/// # Errors
/// Fails if the newest checkpoint's state or the file cannot be read.
pub fn step_of(run: &Path, file: &str) -> Result<Option<u64>> {
    let Some(last) = steps(run)?.pop() else { return Ok(None) };
    let read = |step: u64| sealed::read::<State>(&folder(run, step).join(STATE)).map(|(state, _)| state);
    let newest = read(last)?;
    let found = hash(&run.join(file))?;
    if newest.files.get(file) == Some(&found) {
        return Ok(Some(last));
    }
    let Some(best) = newest.best.map(|best| best.step).filter(|best| folder(run, *best).exists()) else {
        return Ok(None);
    };
    Ok((read(best)?.files.get(file) == Some(&found)).then_some(best))
}

/// Returns the newest intact checkpoint. Broken ones are skipped with a warning and left in place.
///
/// # Errors
/// Fails if checkpoints exist and none is intact.
pub fn newest(run: &Path) -> Result<Option<(PathBuf, State)>> {
    let mut reasons = Vec::new();
    for step in steps(run)?.into_iter().rev() {
        let dir = folder(run, step);
        match check(&dir) {
            Ok(state) => return Ok(Some((dir, state))),
            Err(error) => {
                tracing::warn!("skipping a broken checkpoint: {error}");
                reasons.push(error.to_string());
            }
        }
    }
    match reasons.is_empty() {
        true => Ok(None),
        false => {
            let message = format!("no checkpoint is whole: {}", reasons.join("; "));
            Err(Error::Checkpoint { path: run.to_path_buf(), message })
        }
    }
}

fn check(dir: &Path) -> Result<State> {
    let path = dir.join(STATE);
    let refuse = |path: &Path, message: String| Error::Checkpoint { path: path.to_path_buf(), message };
    let (state, seal): (State, Seal) = sealed::read(&path)?;
    if folder(Path::new(""), state.step) != Path::new(dir.file_name().unwrap_or_default()) {
        return Err(refuse(&path, format!("is the state after {} steps", state.step)));
    }
    let weights = state.files.keys().any(|file| file.ends_with(".safetensors") && file != OPTIMISER);
    if !state.files.contains_key(OPTIMISER) || !weights {
        return Err(refuse(&path, format!("does not have the hashes of {OPTIMISER} and of a model")));
    }
    for (name, expected) in &state.files {
        let path = dir.join(name);
        let found = hash(&path)?;
        if *expected != found {
            let message = format!("is corrupt: expected hash {expected}, found {found}");
            return Err(refuse(&path, message));
        }
    }
    if seal == Seal::Absent {
        tracing::warn!(
            "{}: an older pcrm wrote it without a hash of its own; damage to its numbers would not be \
             noticed",
            path.display()
        );
    }
    Ok(state)
}

/// Restores the weights and moments of a checkpoint's parts.
///
/// # Errors
/// Fails if tensors do not fit a model.
pub fn restore(dir: &Path, state: &State, parts: &mut [(&str, &mut dyn CheckpointPart)]) -> Result<()> {
    parts.iter_mut().try_for_each(|(name, part)| part.read(&dir.join(name), state.step))
}

/// Restores the weights of a checkpoint's main model, if the checkpoint is intact.
///
/// # Errors
/// Fails if the checkpoint is not intact or its tensors do not fit the model.
pub fn restore_weights(dir: &Path, model: &impl Trainable) -> Result<()> {
    check(dir)?;
    put_weights(dir, model)
}

fn put_weights(dir: &Path, model: &impl Trainable) -> Result<()> {
    let unfit = |error: Error| Error::Checkpoint { path: dir.to_path_buf(), message: error.to_string() };
    model.restore(dir).map_err(unfit)
}

#[cfg(test)]
mod tests;
