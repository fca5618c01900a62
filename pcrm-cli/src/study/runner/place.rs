//! The place of a run: its options and folder, whether it began, its owner, its messages.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pcrm_core::disk::FolderLock;
use pcrm_eval::study::plan::ROOT;
use pcrm_rl::{checkpoint, manifest};
use toml::{Table, Value};

use super::{PATIENCE, PAUSE};

/// The most characters kept of a failed run's messages.
const MESSAGE: usize = 600;

/// Returns true if a run left something to resume.
pub(super) fn begun(place: &Path) -> Result<bool> {
    Ok(place.is_dir()
        && (!checkpoint::steps(place)?.is_empty()
            || place.join(manifest::FILE).exists()
            || place.join("samples.jsonl.part").exists()))
}

/// Opens the log of a run, empty and locked, after a process of a killed study that still writes to it has ended.
/// The process that gets the log as its standard error holds the lock for as long as it lives, even before it
/// takes its folder.
pub(super) fn own_log(path: &Path) -> Result<File> {
    let of_log = || path.display().to_string();
    let file = File::options().write(true).create(true).truncate(false).open(path).with_context(of_log)?;
    let began = Instant::now();
    // Other systems than Unix give a lock to one process only, and keep all others from writing.
    while cfg!(unix) && matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        ensure!(
            began.elapsed() < PATIENCE,
            "{}: a process of an earlier call still writes to it; wait until it has ended",
            path.display()
        );
        std::thread::sleep(PAUSE);
    }
    file.set_len(0).with_context(of_log)?;
    Ok(file)
}

/// Waits until a process of a killed study has left this folder.
pub(super) fn wait_for(place: &Path) -> Result<()> {
    let began = Instant::now();
    while place.is_dir() {
        match FolderLock::take(place) {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
    Ok(())
}

pub(super) fn remove(place: &Path) -> Result<()> {
    let removed = match place.is_dir() {
        true => fs::remove_dir_all(place),
        false => fs::remove_file(place),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| place.display().to_string())
        }
        _ => Ok(()),
    }
}

/// Returns the end of a failed run's messages.
pub(super) fn last_words(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let error =
        lines.iter().rposition(|line| line.starts_with("error: ")).unwrap_or(lines.len().saturating_sub(3));
    let words = lines[error..].join(" ");
    match words.is_empty() {
        true => "it ended without a message".to_owned(),
        false => words.chars().take(MESSAGE).collect(),
    }
}

/// Returns the options with the study's folder filled in.
pub(super) fn placed(options: &Table, output: &Path) -> Table {
    fn of(value: &Value, root: &str) -> Value {
        match value {
            Value::String(text) => Value::String(text.replace(ROOT, root)),
            Value::Array(values) => Value::Array(values.iter().map(|value| of(value, root)).collect()),
            other => other.clone(),
        }
    }
    let root = output.display().to_string();
    options.iter().map(|(key, value)| (key.clone(), of(value, &root))).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Protects: a run does not begin while a process that a killed study left is at work on it, wherever that
    /// process is in its work.
    #[test]
    fn a_run_waits_for_the_process_of_a_killed_study() {
        let dir = tempfile::tempdir().unwrap();
        let (log, done) = (dir.path().join("run.log"), dir.path().join("done"));
        fs::write(&log, "the messages of an earlier call\n").unwrap();
        let mut left = {
            let messages = own_log(&log).unwrap();
            assert_eq!(fs::read(&log).unwrap(), b"");
            let mut command = Command::new("sh");
            command.args(["-c", "sleep 0.5; echo last words >&2; touch done"]).current_dir(dir.path());
            command.stdin(Stdio::null()).stderr(messages).spawn().unwrap()
        };
        let again = own_log(&log).unwrap();
        assert!(done.exists(), "it did not wait");
        assert_eq!(fs::read(&log).unwrap(), b"", "the log holds messages of another process");
        drop(again);
        assert!(left.wait().unwrap().success());
    }
}
