//! Removing checkpoints: outdated ones, all of them, and leftovers of interrupted writes.

use std::fs;
use std::path::{Path, PathBuf};

use super::{PREFIX, folder, steps};
use crate::error::Result;

/// Removes all but the newest `keep` checkpoints and the best one, and leftovers of interrupted writes.
///
/// Checkpoints beyond `made` steps are broken ones that the run skipped; they do not count and stay.
///
/// # Errors
/// Fails if the disk fails.
pub fn prune(run: &Path, keep: usize, made: u64, best: Option<u64>) -> Result<()> {
    let mut steps = steps(run)?;
    steps.retain(|step| *step <= made);
    let old = &steps[..steps.len().saturating_sub(keep.max(1))];
    for step in old.iter().filter(|step| Some(**step) != best) {
        remove(run, *step)?;
    }
    sweep(run)
}

/// Removes all checkpoints of a finished run, and leftovers of interrupted writes.
///
/// # Errors
/// Fails if the disk fails.
pub fn remove_all(run: &Path) -> Result<()> {
    for step in steps(run)? {
        remove(run, step)?;
    }
    sweep(run)
}

/// Removes a checkpoint. It is renamed first, since a process that ends while it removes files must not leave
/// half a checkpoint under a final name.
fn remove(run: &Path, step: u64) -> Result<()> {
    let old = set_aside(run, step)?;
    Ok(fs::remove_dir_all(&old).map_err(pcrm_core::Error::io(&old))?)
}

/// Renames a checkpoint to a name that [`sweep`] removes, and returns it.
pub(super) fn set_aside(run: &Path, step: u64) -> Result<PathBuf> {
    let (dir, old) = (folder(run, step), run.join(format!(".old-{PREFIX}{step}")));
    if old.exists() {
        fs::remove_dir_all(&old).map_err(pcrm_core::Error::io(&old))?;
    }
    fs::rename(&dir, &old).map_err(pcrm_core::Error::io(&dir))?;
    Ok(old)
}

/// Removes leftovers of interrupted writes. Only the process that holds the run's folder may call this.
///
/// # Errors
/// Fails if the disk fails.
pub fn sweep(run: &Path) -> Result<()> {
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
