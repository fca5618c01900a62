//! Files that a run reads and digests at different times, and that must not change in between.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::slice::Slice;

/// The state of files before a run reads them.
#[derive(Debug)]
pub struct Unread(Vec<(PathBuf, State)>);

/// Properties of a file that change with its content.
#[derive(Debug, PartialEq, Eq)]
struct State {
    length: u64,
    modified: Option<SystemTime>,
    /// The inode number, which changes if another file is renamed over this one.
    number: u64,
}

impl State {
    fn of(path: &Path) -> Result<Self> {
        let (path, _) = Slice::of(path)?;
        let found = fs::metadata(&path).with_context(|| path.display().to_string())?;
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(&found);
        #[cfg(not(unix))]
        let number = 0;
        Ok(Self { length: found.len(), modified: found.modified().ok(), number })
    }
}

impl Unread {
    /// Records the state of data files and of the files in a model's folder.
    ///
    /// # Errors
    /// Fails if a file does not exist.
    pub fn note(data: impl IntoIterator<Item = PathBuf>, model: &Path) -> Result<Self> {
        let mut files: Vec<PathBuf> = data.into_iter().collect();
        for entry in fs::read_dir(model).with_context(|| format!("--model {}", model.display()))? {
            let path = entry?.path();
            files.extend(path.is_file().then_some(path));
        }
        let noted = files.into_iter().map(|path| Ok((path.clone(), State::of(&path)?)));
        noted.collect::<Result<_>>().map(Self)
    }

    /// Refuses files that changed: the run would read one content and record another.
    ///
    /// # Errors
    /// Fails with the first file that changed.
    pub fn unchanged(&self) -> Result<()> {
        for (path, before) in &self.0 {
            ensure!(State::of(path)? == *before, "{}: changed while it was read; run again", path.display());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: writing to or replacing a file while a run reads it is detected.
    #[test]
    fn files_that_change_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (data, other) = (dir.path().join("a.jsonl"), dir.path().join("b"));
        fs::write(&data, "{}\n").unwrap();
        let unread = Unread::note([data.clone()], dir.path()).unwrap();
        unread.unchanged().unwrap();
        fs::write(&other, "{}\n").unwrap();
        fs::rename(&other, &data).unwrap();
        assert!(unread.unchanged().unwrap_err().to_string().contains("a.jsonl: changed while it was read"));
        let unread = Unread::note([data.clone()], dir.path()).unwrap();
        fs::write(&data, "{}\n{}\n").unwrap();
        assert!(unread.unchanged().is_err());
    }
}
