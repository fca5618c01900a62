//! The place of a run: its options and folder, whether it began, its owner, its messages.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
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
