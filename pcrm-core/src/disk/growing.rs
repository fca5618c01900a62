//! A file of lines that is written under a temporary name, survives a killed process, and is renamed when
//! complete.
//!
//! Lines come in groups of a fixed size, such as the samples of a prompt; a later run continues after the
//! last complete group. A second file beside the lines records the options they depend on, and lines of other
//! options are never continued.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::leads_to;
use super::sealed;
use super::whole::{folder_of, sync_dir};
use crate::error::{Error, Result};

/// The options and files that lines depend on.
pub type Origins = BTreeMap<String, Value>;

/// A file of lines in progress.
#[derive(Debug)]
pub struct GrowingFile {
    path: PathBuf,
    file: File,
    groups: usize,
}

impl GrowingFile {
    /// Creates the lines of `path`, or continues those of the same origins that a stopped process left.
    ///
    /// # Errors
    /// Fails if the file exists, if unfinished lines have other origins or `resume` is false, and if another
    /// process writes them.
    pub fn open(path: &Path, origins: &Origins, group: usize, resume: bool) -> Result<Self> {
        let (lines, notes) = (beside(path, "part"), beside(path, "part.json"));
        let mut file = loop {
            absent(path)?;
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            let opened = options.open(&lines).map_err(Error::io(&lines))?;
            if let Some(file) = locked(path, opened)? {
                break file;
            }
        };
        // Decide only under the lock: until then, another process could write or finish these lines.
        let begun = file.metadata().map_err(Error::io(&lines))?.len() > 0;
        if begun && !resume {
            let message = "left by a stopped run; pass --resume to continue it, or remove it";
            return Err(Error::file(&lines, message));
        }
        if begun && notes.exists() {
            let (found, _): (Origins, _) = sealed::read(&notes)?;
            if let Some(message) = difference(&found, origins) {
                return Err(Error::file(&lines, message));
            }
        } else {
            // The origins of lines without a record are unknown: start again.
            file.set_len(0).map_err(Error::io(&lines))?;
            sealed::write(&notes, origins)?;
        }
        let (groups, bytes) = whole_groups(&file, group).map_err(Error::io(&lines))?;
        file.set_len(bytes).map_err(Error::io(&lines))?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(Error::io(&lines))?;
        Ok(Self { path: path.to_path_buf(), file, groups })
    }

    /// Returns true if a stopped process left lines of `path`.
    #[must_use]
    pub fn is_begun(path: &Path) -> bool {
        fs::metadata(beside(path, "part")).is_ok_and(|lines| lines.len() > 0)
    }

    /// Returns the number of complete groups.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Appends a group of terminated lines.
    ///
    /// # Errors
    /// Fails if the disk is full.
    pub fn append(&mut self, group: &str) -> Result<()> {
        self.groups += 1;
        self.file.write_all(group.as_bytes()).map_err(Error::io(beside(&self.path, "part")))
    }

    /// Returns the lines so far.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn text(&self) -> Result<String> {
        let lines = beside(&self.path, "part");
        fs::read_to_string(&lines).map_err(Error::io(&lines))
    }

    /// Renames the file to its final name.
    ///
    /// # Errors
    /// Fails if the disk fails, if the file was deleted or replaced, or if a file of the final name exists by
    /// now.
    pub fn finish(self) -> Result<()> {
        let (lines, notes) = (beside(&self.path, "part"), beside(&self.path, "part.json"));
        self.file.sync_all().map_err(Error::io(&lines))?;
        if !leads_to(&lines, &self.file) {
            return Err(Error::file(&lines, "was deleted or replaced during the run"));
        }
        absent(&self.path)?;
        fs::rename(&lines, &self.path).map_err(Error::io(&self.path))?;
        fs::remove_file(&notes).map_err(Error::io(&notes))?;
        sync_dir(folder_of(&self.path))
    }
}

/// Refuses a final file that exists.
fn absent(path: &Path) -> Result<()> {
    match path.exists() {
        true => Err(Error::file(
            path,
            "already exists; expected a new file (a complete run has nothing to resume)",
        )),
        false => Ok(()),
    }
}

/// Locks the opened lines of `path`. Returns `None` if they were finished or removed since they were opened, so that
/// their name belongs to another file or to none.
fn locked(path: &Path, file: File) -> Result<Option<File>> {
    let lines = beside(path, "part");
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::file(&lines, "another process is writing it")),
        Err(TryLockError::Error(error)) => tracing::warn!("{}: cannot be locked ({error})", lines.display()),
    }
    if !leads_to(&lines, &file) {
        return Ok(None);
    }
    // These lines are new: another process has finished the file since.
    if path.exists() && file.metadata().map_err(Error::io(&lines))?.len() == 0 {
        fs::remove_file(&lines).map_err(Error::io(&lines))?;
        return Ok(None);
    }
    Ok(Some(file))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// Describes the first difference between the origins of existing lines and the wanted ones.
fn difference(found: &Origins, wanted: &Origins) -> Option<String> {
    let keys = found.keys().chain(wanted.keys());
    let key = keys.into_iter().find(|key| found.get(*key) != wanted.get(*key))?;
    let of = |origins: &Origins| origins.get(key).map_or("nothing".to_owned(), ToString::to_string);
    Some(format!(
        "left by a stopped run with {key} {}, not {}; remove it to start again",
        of(found),
        of(wanted)
    ))
}

/// Returns the number of complete groups of a file, and their bytes.
fn whole_groups(file: &File, group: usize) -> std::io::Result<(usize, u64)> {
    let mut reader = BufReader::new(file);
    let (mut lines, mut bytes, mut whole) = (0usize, 0u64, 0u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Ok((lines / group, whole));
        }
        (lines, bytes) = (lines + 1, bytes + read as u64);
        if lines.is_multiple_of(group) {
            whole = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(seed: u64) -> Origins {
        Origins::from([("seed".to_owned(), seed.into())])
    }

    /// Protects: a later run continues after the last complete group, and the result equals that of an
    /// uninterrupted run.
    #[test]
    fn lines_are_taken_up_after_the_last_whole_group() -> Result<()> {
        let dir = tempfile::tempdir().map_err(Error::io("temp"))?;
        let path = dir.path().join("out.jsonl");
        let mut file = GrowingFile::open(&path, &origins(1), 2, false)?;
        file.append("a1\na2\n")?;
        file.append("b1\nb2\n")?;
        drop(file);
        for torn in ["c1\nc2", "c1\n", "c"] {
            let part = beside(&path, "part");
            fs::write(&part, format!("a1\na2\nb1\nb2\n{torn}")).map_err(Error::io(&part))?;
            let file = GrowingFile::open(&path, &origins(1), 2, true)?;
            assert_eq!(file.groups(), 2, "{torn:?}");
        }
        let mut file = GrowingFile::open(&path, &origins(1), 2, true)?;
        file.append("c1\nc2\n")?;
        file.finish()?;
        assert_eq!(fs::read_to_string(&path).unwrap(), "a1\na2\nb1\nb2\nc1\nc2\n");
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 1, "temporary files remain");
        Ok(())
    }

    /// Protects: a process that opened lines before another one finished them leaves the finished file alone, and so
    /// does one that made new lines after that.
    #[test]
    fn lines_that_were_finished_meanwhile_stay_whole() -> Result<()> {
        let dir = tempfile::tempdir().map_err(Error::io("temp"))?;
        let path = dir.path().join("out.jsonl");
        let lines = beside(&path, "part");
        let opened = || {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&lines)
                .map_err(Error::io(&lines))
        };
        let mut file = GrowingFile::open(&path, &origins(1), 1, false)?;
        file.append("a\n")?;
        let early = opened()?;
        file.finish()?;
        assert!(locked(&path, early)?.is_none(), "the finished file is taken for lines");
        assert!(locked(&path, opened()?)?.is_none(), "new lines beside the finished file");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\n");
        assert!(!lines.exists());
        Ok(())
    }

    /// Protects: the final name gets the lines of this run alone, and no file of that name is replaced.
    #[test]
    fn other_files_are_not_taken_for_the_lines() -> Result<()> {
        let dir = tempfile::tempdir().map_err(Error::io("temp"))?;
        let path = dir.path().join("out.jsonl");
        let lines = beside(&path, "part");
        let begun = || -> Result<GrowingFile> {
            let mut file = GrowingFile::open(&path, &origins(1), 1, true)?;
            file.append("a\n")?;
            Ok(file)
        };
        let write = |path: &Path| fs::write(path, "of another\n").map_err(Error::io(path));
        let said = |file: GrowingFile| file.finish().err().map(|error| error.to_string()).unwrap_or_default();
        let file = begun()?;
        write(&path)?;
        assert!(said(file).contains("already exists"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "of another\n");
        fs::remove_file(&path).map_err(Error::io(&path))?;
        let file = begun()?;
        fs::remove_file(&lines).map_err(Error::io(&lines))?;
        write(&lines)?;
        assert!(said(file).contains("was deleted or replaced"));
        assert!(!path.exists() && lines.exists());
        Ok(())
    }

    /// Protects: lines are only continued on request, with equal options, and by one process.
    #[test]
    fn other_lines_are_not_continued() -> Result<()> {
        let dir = tempfile::tempdir().map_err(Error::io("temp"))?;
        let path = dir.path().join("out.jsonl");
        let refusal = |seed: u64, resume: bool| {
            GrowingFile::open(&path, &origins(seed), 1, resume)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        let mut file = GrowingFile::open(&path, &origins(1), 1, false)?;
        file.append("a\n")?;
        assert!(refusal(1, true).contains("another process is writing it"));
        drop(file);
        assert!(refusal(1, false).contains("pass --resume to continue it"));
        assert!(refusal(2, true).contains("with seed 1, not 2"), "{}", refusal(2, true));
        GrowingFile::open(&path, &origins(1), 1, true)?.finish()?;
        assert!(refusal(1, true).contains("already exists"));
        Ok(())
    }
}
