//! Checks that all processes of a run see the same folder.

use std::fs;
use std::path::{Path, absolute};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::whole::temporary;
use crate::collective::Collective;
use crate::error::{Error, Result};

/// Time limit for seeing another process's file. Some network file systems show new files late.
const PATIENCE: Duration = Duration::from_secs(5);

/// Checks that all processes of a run see the same folder: the first one creates a file of a new name there, and
/// removes it when the others have looked. Every process must call this.
///
/// # Errors
/// Fails on every process if one does not see the file, and if the folder is not writable or a process is gone.
pub fn check(collective: &dyn Collective, dir: &Path) -> Result<()> {
    if collective.world() == 1 {
        return Ok(());
    }
    let mark = match collective.is_first() {
        true => Some(temporary(dir)?),
        false => None,
    };
    let name = mark.as_ref().and_then(|mark| mark.path().file_name()?.to_str()).unwrap_or_default();
    let names = collective.gather(name.as_bytes())?;
    let name = names.first().map_or_else(Default::default, |name| String::from_utf8_lossy(name));
    let sees = mark.is_some() || appears(&dir.join(name.as_ref()));
    let all = collective.gather(&[u8::from(sees)])?;
    drop(mark);
    let blind: Vec<String> = (0..all.len())
        .filter(|rank| all[*rank].first() != Some(&1))
        .map(|rank| format!("rank {rank}"))
        .collect();
    match blind.is_empty() {
        true => Ok(()),
        false => {
            let message = format!(
                "files that rank 0 writes here are not seen by {}; expected one folder, on a file system that all \
                 processes share",
                blind.join(", ")
            );
            Err(Error::file(dir, message))
        }
    }
}

/// Returns true if a file of this name exists or appears within [`PATIENCE`].
fn appears(path: &Path) -> bool {
    let path = absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let folders: Vec<&Path> = path.ancestors().skip(1).collect();
    let begun = Instant::now();
    loop {
        // NFS clients remember that a name was absent; opening its folder makes them ask the server.
        folders.iter().rev().for_each(|folder| drop(fs::read_dir(folder)));
        if path.exists() {
            return true;
        }
        if begun.elapsed() > PATIENCE {
            return false;
        }
        sleep(PATIENCE / 50);
    }
}
