//! Atomic files: written under a temporary name, made durable and renamed.
//!
//! A writer locks its temporary file. An unlocked one was left by a killed writer, and [`sweep`] removes it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;

use serde::Serialize;
use tempfile::NamedTempFile;

use super::leads_to;
use crate::error::{Error, Result};

/// The prefix of the names of temporary files.
const PREFIX: &str = ".pcrm-";
/// The number of attempts to create a temporary file, because a sweep may remove a new one before its writer
/// locks it.
const TRIES: usize = 8;

/// Writes indented JSON atomically, like [`write()`].
///
/// # Errors
/// Fails if the disk is full or not writable.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| Error::file(path, error))?;
    text.push(b'\n');
    write(path, &text)
}

/// Writes a file under a temporary name, makes it durable and renames it, so that it exists completely or not
/// at all. A path of a device or pipe, such as `/dev/null`, is written to and never replaced.
///
/// # Errors
/// Fails if the disk is full or not writable.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes).map_err(Error::io(path)))
}

/// Writes a file like [`write()`], with its content written by `fill`.
pub(crate) fn write_with(path: &Path, fill: impl FnOnce(&mut BufWriter<&File>) -> Result<()>) -> Result<()> {
    if path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        let file = OpenOptions::new().write(true).open(path).map_err(Error::io(path))?;
        let mut writer = BufWriter::new(&file);
        fill(&mut writer)?;
        return writer.flush().map_err(Error::io(path));
    }
    let dir = folder_of(path);
    fs::create_dir_all(dir).map_err(Error::io(dir))?;
    let file = temporary(dir)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file.as_file());
    fill(&mut writer)?;
    writer.flush().map_err(Error::io(path))?;
    drop(writer);
    file.as_file().sync_all().map_err(Error::io(path))?;
    // Temporary files are private; final files have the usual permissions.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(Error::io(path))?;
    }
    file.persist(path).map_err(|error| Error::Io { path: path.to_path_buf(), cause: error.error })?;
    sync_dir(dir)
}

/// Returns the folder of a file.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a temporary file and locks it. On a file system without locks it stays unlocked, and no sweep
/// removes it.
pub(super) fn temporary(dir: &Path) -> Result<NamedTempFile> {
    for _ in 0..TRIES {
        let file = tempfile::Builder::new().prefix(PREFIX).tempfile_in(dir).map_err(Error::io(dir))?;
        let taken = matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock));
        if !taken && leads_to(file.path(), file.as_file()) {
            return Ok(file);
        }
    }
    Err(Error::file(dir, "temporary files disappear as soon as they are created"))
}

/// Makes renames inside a folder durable.
///
/// # Errors
/// Fails if the disk is full or not writable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io(dir))
}

/// Removes the temporary files of killed writers from a folder. A missing folder is not an error.
///
/// # Errors
/// Fails if the folder cannot be read or changed.
pub fn sweep(dir: &Path) -> Result<()> {
    sweep_where(dir, |name| name.starts_with(PREFIX))
}

/// Removes temporary files like [`sweep`], and those of older versions, named `.tmp` and six letters, from a
/// folder that no other process writes to.
///
/// # Errors
/// Fails if the folder cannot be read or changed.
pub fn sweep_own(dir: &Path) -> Result<()> {
    let is_older = |name: &str| {
        let letters = name.strip_prefix(".tmp").unwrap_or_default();
        letters.len() == 6 && letters.chars().all(|letter| letter.is_ascii_alphanumeric())
    };
    sweep_where(dir, |name| name.starts_with(PREFIX) || is_older(name))
}

fn sweep_where(dir: &Path, is_temporary: impl Fn(&str) -> bool) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        entries => entries.map_err(Error::io(dir))?,
    };
    for entry in entries {
        let entry = entry.map_err(Error::io(dir))?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file || !entry.file_name().to_str().is_some_and(&is_temporary) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() && leads_to(&path, &file) {
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a pipe gets the bytes and stays a pipe; as root, a rename would replace `/dev/null` for every
    /// program of the machine.
    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_written_to_and_stay() {
        use std::os::unix::fs::FileTypeExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let reader = std::thread::spawn({
            let path = path.clone();
            move || fs::read(path).unwrap()
        });
        write(&path, b"lines\n").unwrap();
        assert!(path.metadata().unwrap().file_type().is_fifo());
        assert_eq!(reader.join().unwrap(), b"lines\n");
        write(Path::new("/dev/null"), b"lines\n").unwrap();
        assert!(Path::new("/dev/null").metadata().unwrap().file_type().is_char_device());
    }

    /// Protects: files of killed writers are removed; files of running writers and other files stay.
    #[test]
    fn only_what_dead_writers_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in [".pcrm-AbC123", ".tmpAbC123", ".tmpfile", "data.jsonl"] {
            fs::write(path(name), "half of it").unwrap();
        }
        let living = temporary(dir.path()).unwrap();
        sweep(dir.path()).unwrap();
        assert!(!path(".pcrm-AbC123").exists() && path(".tmpAbC123").exists() && living.path().exists());
        sweep_own(dir.path()).unwrap();
        assert!(!path(".tmpAbC123").exists() && path(".tmpfile").exists() && path("data.jsonl").exists());
        assert!(living.path().exists());
        sweep(&path("absent")).unwrap();
    }
}
