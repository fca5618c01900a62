//! A lock that lets one process at a time write to a folder.
//!
//! The lock is the system's, on a file in the folder: it ends with the process that holds it, however that
//! ends. The file names that process. It is removed when the lock is dropped; a file left by a killed process
//! locks nobody out.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::leads_to;
use crate::error::{Error, Result};

/// The name of the locked file in a folder.
const NAME: &str = ".pcrm.lock";

/// A folder locked by this process until the value is dropped.
#[derive(Debug)]
pub struct FolderLock {
    dir: PathBuf,
    file: File,
    /// True if locking created the folder.
    made: bool,
    /// True if an earlier holder was killed.
    left: bool,
}

/// The content of the file: the holder of the folder.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    process: u32,
    /// Seconds since 1970.
    started: u64,
}

impl FolderLock {
    /// Locks a folder, creating it if necessary.
    ///
    /// # Errors
    /// Fails if another process holds the folder (the message names it), and if the folder cannot be created
    /// or written to.
    pub fn take(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let made = !dir.exists();
        loop {
            fs::create_dir_all(dir).map_err(Error::io(dir))?;
            let left = path.exists();
            let mut options = OpenOptions::new();
            let mut file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(Error::io(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(refusal(dir, &mut file)),
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(
                        "{}: cannot be locked ({error}); a second run could write to it at the same time",
                        dir.display()
                    );
                }
            }
            // The previous holder may have removed the file that was opened here.
            if !leads_to(&path, &file) {
                continue;
            }
            let holder = Holder { process: std::process::id(), started: now() };
            let text = serde_json::to_string(&holder).map_err(|error| Error::file(&path, error))?;
            let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
            written.map_err(Error::io(&path))?;
            return Ok(Self { dir: dir.to_path_buf(), file, made, left });
        }
    }

    /// Returns whether an earlier holder was killed.
    pub fn was_left(&self) -> bool {
        self.left
    }

    /// Checks that the folder was not deleted or moved since it was locked.
    ///
    /// # Errors
    /// Fails if it was.
    pub fn still_there(&self) -> Result<()> {
        match leads_to(&self.dir.join(NAME), &self.file) {
            true => Ok(()),
            false => Err(Error::file(&self.dir, "was deleted or moved during the run")),
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let path = self.dir.join(NAME);
        if leads_to(&path, &self.file) {
            let _ = fs::remove_file(&path);
        }
        if self.made {
            // Remove the folder if nothing was written to it; removal of a non-empty one fails.
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// Returns the error for a folder that another process holds.
fn refusal(dir: &Path, file: &mut File) -> Error {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let holder = read.ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok());
    let who = match holder {
        Some(Holder { process, started }) => {
            let since = Duration::from_secs(now().saturating_sub(started));
            format!("process {process}, started {} ago,", ago(since))
        }
        None => "another process".to_owned(),
    };
    Error::file(dir, format!("{who} is writing to this folder; wait for it, or name another folder"))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Formats a duration in its largest unit.
fn ago(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a folder has one holder, who is named; a dropped lock leaves nothing, and the file of a
    /// killed process locks nobody out.
    #[test]
    fn a_folder_has_one_holder() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("new");
        let held = FolderLock::take(&dir).unwrap();
        assert!(!held.was_left());
        let refused = FolderLock::take(&dir).unwrap_err().to_string();
        let process = format!("process {}, started", std::process::id());
        assert!(refused.contains(&process) && refused.contains("is writing to this folder"), "{refused}");
        drop(held);
        assert!(!dir.exists(), "a folder that nothing was written to stays");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(NAME), r#"{"process":1,"started":0}"#).unwrap();
        let held = FolderLock::take(&dir).unwrap();
        assert!(held.was_left());
        held.still_there().unwrap();
        fs::remove_file(dir.join(NAME)).unwrap();
        assert!(held.still_there().unwrap_err().to_string().contains("deleted or moved"));
    }

    /// Protects: durations are shown in a natural unit.
    #[test]
    fn times_are_said_in_their_largest_unit() {
        let said = [7, 119, 120, 7199, 7200].map(|seconds| ago(Duration::from_secs(seconds)));
        assert_eq!(said, ["7 s", "119 s", "2 min", "119 min", "2 h"]);
    }
}
