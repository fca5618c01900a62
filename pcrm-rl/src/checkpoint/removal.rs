//! Removing and replacing checkpoints: outdated ones, all of them, and leftovers of interrupted writes.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use pcrm_core::Error;

use super::{PREFIX, folder, steps};
use crate::error::Result;

/// Prefix of the names of checkpoints that are being removed, or whose removal was interrupted.
const REMOVED: &str = ".old-";
/// Prefix of the name of a complete checkpoint that is being replaced, until the new one has its name.
const REPLACED: &str = ".replaced-";

/// Removes all but the newest `keep` checkpoints and the best one, and leftovers of interrupted writes.
///
/// Checkpoints beyond `made` steps are broken ones that the run skipped; they do not count and stay.
///
/// # Errors
/// Fails if the disk fails.
pub fn prune(run: &Path, keep: usize, made: u64, best: Option<u64>) -> Result<()> {
    sweep(run)?;
    let mut steps = steps(run)?;
    steps.retain(|step| *step <= made);
    let old = &steps[..steps.len().saturating_sub(keep.max(1))];
    for step in old.iter().filter(|step| Some(**step) != best) {
        remove(run, *step)?;
    }
    Ok(())
}

/// Removes all checkpoints of a finished run, and leftovers of interrupted writes.
///
/// # Errors
/// Fails if the disk fails.
pub fn remove_all(run: &Path) -> Result<()> {
    sweep(run)?;
    for step in steps(run)? {
        remove(run, step)?;
    }
    Ok(())
}

/// Removes a checkpoint. It is renamed first, since a process that ends while it removes files must not leave
/// half a checkpoint under a final name.
fn remove(run: &Path, step: u64) -> Result<()> {
    let old = set_aside(run, step, REMOVED)?;
    Ok(fs::remove_dir_all(&old).map_err(Error::io(&old))?)
}

/// Renames a checkpoint to make room for another one of its step, and returns the new name. [`recover`] finds it
/// there, and [`sweep`] removes it once the other one is in place.
pub(super) fn replaced(run: &Path, step: u64) -> Result<PathBuf> {
    set_aside(run, step, REPLACED)
}

fn set_aside(run: &Path, step: u64, prefix: &str) -> Result<PathBuf> {
    let (dir, old) = (folder(run, step), run.join(format!("{prefix}{PREFIX}{step}")));
    if old.exists() {
        fs::remove_dir_all(&old).map_err(Error::io(&old))?;
    }
    fs::rename(&dir, &old).map_err(Error::io(&dir))?;
    Ok(old)
}

/// Renames a replaced checkpoint back to its own name.
pub(super) fn put_back(old: &Path, target: &Path) -> Result<()> {
    Ok(fs::rename(old, target).map_err(Error::io(target))?)
}

/// Restores the name of a checkpoint that a process was replacing when it was killed. Only the process that holds the
/// run's folder may call this.
///
/// # Errors
/// Fails if the disk fails.
pub fn recover(run: &Path) -> Result<()> {
    for (entry, name) in entries(run)? {
        let step = name.strip_prefix(REPLACED).and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        if let Some(target) = step.map(|step: u64| folder(run, step)).filter(|target| !target.exists()) {
            put_back(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Puts replaced checkpoints back ([`recover`]), then removes leftovers of interrupted writes. Only the process
/// that holds the run's folder may call this.
///
/// # Errors
/// Fails if the disk fails.
pub fn sweep(run: &Path) -> Result<()> {
    recover(run)?;
    let left = [".", REMOVED, REPLACED].map(|prefix| format!("{prefix}{PREFIX}"));
    for (entry, name) in entries(run)? {
        if left.iter().any(|prefix| name.starts_with(prefix)) {
            fs::remove_dir_all(entry.path()).map_err(Error::io(entry.path()))?;
        }
    }
    Ok(())
}

/// Returns the entries of a run's folder with their names; none if the folder does not exist.
fn entries(run: &Path) -> Result<Vec<(DirEntry, String)>> {
    if !run.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(run).map_err(Error::io(run))? {
        let entry = entry.map_err(Error::io(run))?;
        let name = entry.file_name().to_str().map(str::to_owned);
        found.extend(name.map(|name| (entry, name)));
    }
    Ok(found)
}
