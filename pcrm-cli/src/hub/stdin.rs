//! Standard input as data: copied to a temporary file, because data is read more than once.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::progress::say;

/// The name of standard input in options.
pub const NAME: &str = "-";

/// The name of the copy.
const FILE: &str = "stdin";

/// The folder of the copy, removed when the command ends.
static COPY: Mutex<Option<TempDir>> = Mutex::new(None);

/// Copies standard input to a file and returns its path; later calls return the same path. The input may have
/// any format that a file may have.
///
/// # Errors
/// Fails if standard input is empty or cannot be copied.
pub fn file() -> Result<PathBuf> {
    let mut copy = COPY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = copy.as_ref() {
        return Ok(folder.path().join(FILE));
    }
    let input = io::stdin();
    if input.is_terminal() {
        say("reading JSON lines from standard input; Ctrl-D ends them");
    }
    let folder = tempfile::Builder::new().prefix("pcrm-").tempdir().context("a temporary folder")?;
    let path = folder.path().join(FILE);
    let mut file = File::create(&path).with_context(|| path.display().to_string())?;
    let bytes = io::copy(&mut input.lock(), &mut file).context("reading standard input")?;
    file.flush()?;
    ensure!(bytes > 0, "standard input is empty; expected JSON lines");
    *copy = Some(folder);
    Ok(path)
}

/// Removes the copy, if any.
pub fn remove() {
    drop(COPY.lock().unwrap_or_else(PoisonError::into_inner).take());
}
