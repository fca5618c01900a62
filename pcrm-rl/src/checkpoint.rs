//! Checkpoints: all that a run needs to go on, bit for bit, as if it had never stopped.
//!
//! A checkpoint is a folder `checkpoint-STEP` that is also a reward model as `transformers` loads it. It is
//! written under a temporary name, made durable and renamed: a folder of that name is whole, unless the disk
//! harmed it, which the hashes in `state.json` tell.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use pcrm_core::model::{RewardModel, weights};
use pcrm_core::optim::AdamW;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;

const PREFIX: &str = "checkpoint-";
const STATE: &str = "state.json";
const WEIGHTS: &str = "model.safetensors";
const OPTIMISER: &str = "optimizer.safetensors";
const HASHED: [&str; 2] = [WEIGHTS, OPTIMISER];

/// What a run carries besides weights and moments.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// Steps made.
    pub step: u64,
    /// Tokens seen.
    pub num_tokens: u64,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Evaluations since the best one.
    pub evaluations_without_gain: u64,
    /// Whether the run was stopped where an evaluation was due: it is made first on going on.
    #[serde(default)]
    pub evaluation_owed: bool,
    /// The options, data and base model of the run.
    pub fingerprint: Fingerprint,
    /// Hashes (XXH3, 128 bits) of the other files.
    pub files: BTreeMap<String, String>,
}

/// An evaluation and its loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// After this many steps.
    pub step: u64,
    /// The evaluation's loss.
    pub loss: f64,
}

/// The folder of a run's checkpoint after `step` steps.
pub fn folder(run: &Path, step: u64) -> PathBuf {
    run.join(format!("{PREFIX}{step}"))
}

/// Writes a checkpoint; `state.files` is filled in.
///
/// # Errors
/// The disk's; checkpoints that were there are then as they were.
pub fn save(run: &Path, model: &RewardModel, optimiser: &AdamW, state: &mut State) -> Result<PathBuf> {
    fs::create_dir_all(run).map_err(pcrm_core::Error::io(run))?;
    let target = folder(run, state.step);
    let temporary = tempfile::Builder::new()
        .prefix(&format!(".{PREFIX}{}-", state.step))
        .tempdir_in(run)
        .map_err(pcrm_core::Error::io(run))?;
    let dir = temporary.path();
    model.save(dir)?;
    weights::save(&dir.join(OPTIMISER), &optimiser.state()?)?;
    state.files =
        HASHED.iter().map(|name| Ok(((*name).to_owned(), hash(&dir.join(name))?))).collect::<Result<_>>()?;
    weights::write_json(&dir.join(STATE), state)?;
    open_to_readers(dir)?;
    let old = run.join(format!(".old-{PREFIX}{}", state.step));
    if target.exists() {
        fs::rename(&target, &old).map_err(pcrm_core::Error::io(&target))?;
    }
    fs::rename(dir, &target).map_err(pcrm_core::Error::io(&target))?;
    let _ = temporary.keep(); // it has another name now
    weights::sync_dir(run)?;
    if old.exists() {
        fs::remove_dir_all(&old).map_err(pcrm_core::Error::io(&old))?;
    }
    Ok(target)
}

/// Temporary folders are private; what a user keeps has the usual permissions.
fn open_to_readers(dir: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(pcrm_core::Error::io(dir))?;
    }
    let _ = dir;
    Ok(())
}

fn hash(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(pcrm_core::Error::io(path))?;
    Ok(format!("{:032x}", xxh3_128(&bytes)))
}

/// The steps of all checkpoints of a run, ascending.
///
/// # Errors
/// The disk's.
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

/// The newest checkpoint that is whole; broken ones are told of, passed over and left where they are.
///
/// # Errors
/// Checkpoints exist and none is whole.
pub fn newest(run: &Path) -> Result<Option<(PathBuf, State)>> {
    let mut reasons = Vec::new();
    for step in steps(run)?.into_iter().rev() {
        let dir = folder(run, step);
        match check(&dir) {
            Ok(state) => return Ok(Some((dir, state))),
            Err(error) => {
                tracing::warn!("passing over a broken checkpoint: {error}");
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
    let file = File::open(&path).map_err(pcrm_core::Error::io(&path))?;
    let state: State = serde_json::from_reader(file).map_err(|error| refuse(&path, error.to_string()))?;
    for name in HASHED {
        let path = dir.join(name);
        let found = hash(&path)?;
        match state.files.get(name) {
            Some(expected) if *expected == found => {}
            Some(expected) => {
                let message = format!("is corrupt: its hash is {found}, {expected} was written");
                return Err(refuse(&path, message));
            }
            None => return Err(refuse(&dir.join(STATE), format!("has no hash of {name}"))),
        }
    }
    Ok(state)
}

/// Puts a checkpoint's weights and moments in place.
///
/// # Errors
/// Tensors that do not fit the model.
pub fn restore(dir: &Path, state: &State, model: &RewardModel, optimiser: &mut AdamW) -> Result<()> {
    put_weights(dir, model)?;
    let moments = weights::load_file(&dir.join(OPTIMISER))?;
    optimiser.restore(moments, state.step).map_err(|error| unfit(dir, OPTIMISER, &error))
}

/// Puts a checkpoint's weights in place, if it is whole.
///
/// # Errors
/// A checkpoint that is not whole; tensors that do not fit the model.
pub fn restore_weights(dir: &Path, model: &RewardModel) -> Result<()> {
    check(dir)?;
    put_weights(dir, model)
}

fn put_weights(dir: &Path, model: &RewardModel) -> Result<()> {
    let tensors = weights::load_file(&dir.join(WEIGHTS))?;
    model.restore(tensors).map_err(|error| unfit(dir, WEIGHTS, &error))
}

fn unfit(dir: &Path, name: &str, error: &pcrm_core::Error) -> Error {
    Error::Checkpoint { path: dir.join(name), message: error.to_string() }
}

/// Removes all but the newest `keep` checkpoints and the best one, and what interrupted writes left.
///
/// Checkpoints beyond `made` steps are broken ones that the run passed over; they do not count and stay.
///
/// # Errors
/// The disk's.
pub fn prune(run: &Path, keep: usize, made: u64, best: Option<u64>) -> Result<()> {
    let mut steps = steps(run)?;
    steps.retain(|step| *step <= made);
    let old = &steps[..steps.len().saturating_sub(keep.max(1))];
    for step in old.iter().filter(|step| Some(**step) != best) {
        let dir = folder(run, *step);
        fs::remove_dir_all(&dir).map_err(pcrm_core::Error::io(&dir))?;
    }
    for entry in fs::read_dir(run).map_err(pcrm_core::Error::io(run))? {
        let entry = entry.map_err(pcrm_core::Error::io(run))?;
        let name = entry.file_name();
        let left = [format!(".{PREFIX}"), format!(".old-{PREFIX}")];
        if name.to_str().is_some_and(|name| left.iter().any(|prefix| name.starts_with(prefix))) {
            fs::remove_dir_all(entry.path()).map_err(pcrm_core::Error::io(entry.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the best loss keeps its bits, on which the choice of the best weights after going on
    /// depends.
    #[test]
    fn the_best_loss_is_read_as_it_was_written() {
        for step in 1..2000u64 {
            let loss = f64::from_bits(0.5f64.to_bits() + step * 0x1234_5678_9abc % (1 << 53));
            let best = Best { step, loss };
            let text = serde_json::to_string(&best).unwrap_or_default();
            assert_eq!(serde_json::from_str::<Best>(&text).ok(), Some(best), "{text}");
        }
    }
}
