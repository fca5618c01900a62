//! The files that keep metrics: `metrics.jsonl`, and events for TensorBoard made of the same lines.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use pcrm_core::{Error, disk};
use serde::Serialize;
use serde_json::Value;

use crate::error::Result;
use crate::tensorboard::{self, EventFile};

/// `metrics.jsonl`: a line per logged step and per evaluation; and the same for TensorBoard, in the folder
/// `tensorboard` beside it.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
    lines: u64,
    events: Option<EventFile>,
}

impl MetricsFile {
    /// Opens the file of a run that has made `step` steps, and drops lines of later steps: they will come again.
    /// So will an evaluation of this step where it is owed. Lines that are no JSON are dropped too.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(path: &Path, step: u64, evaluation_owed: bool) -> Result<Self> {
        let (file, kept) = taken_up(path, step, evaluation_owed)?;
        let events = EventFile::open(&path.with_file_name(tensorboard::FOLDER), &kept);
        let events = events.map_err(|error| tracing::warn!("no events for TensorBoard: {error}")).ok();
        Ok(Self { path: path.to_path_buf(), file, lines: kept.len() as u64, events })
    }

    /// Opens a file of lines with a `step`, as [`MetricsFile::open`] does, without events.
    ///
    /// # Errors
    /// The disk's.
    pub fn plain(path: &Path, step: u64) -> Result<Self> {
        let (file, kept) = taken_up(path, step, false)?;
        Ok(Self { path: path.to_path_buf(), file, lines: kept.len() as u64, events: None })
    }

    /// The number of lines in the file.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Refuses a file that was deleted, moved or replaced since it was opened, as when somebody deletes the folder of a run.
    ///
    /// # Errors
    /// As said.
    pub fn still_there(&self) -> Result<()> {
        match disk::leads_to(&self.path, &self.file) {
            true => Ok(()),
            false => {
                let message = "was deleted, moved or replaced while the run was writing to it";
                Err(Error::file(&self.path, message).into())
            }
        }
    }

    /// Appends a line; what cannot be written for TensorBoard is a warning.
    ///
    /// # Errors
    /// A file that is no longer there; the disk's.
    pub fn line(&mut self, value: &impl Serialize) -> Result<()> {
        self.still_there()?;
        let value = serde_json::to_value(value).map_err(|error| Error::file(&self.path, error))?;
        self.file.write_all(format!("{value}\n").as_bytes()).map_err(Error::io(&self.path))?;
        self.lines += 1;
        if let Some(events) = &mut self.events
            && let Err(error) = events.line(&value)
        {
            tracing::warn!("no more events for TensorBoard: {error}");
            self.events = None;
        }
        Ok(())
    }
}

/// Drops the lines of later steps, and opens the file to append to it. Gives the lines that stay.
fn taken_up(path: &Path, step: u64, evaluation_owed: bool) -> Result<(File, Vec<Value>)> {
    let mut kept = Vec::new();
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => {
            for line in BufReader::new(file).split(b'\n') {
                let line = line.map_err(Error::io(path))?;
                let Ok(line) = str::from_utf8(&line) else { continue };
                let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
                let again = evaluation_owed && value.get("eval_loss").is_some();
                let stays = |made: u64| made < step || (made == step && !again);
                if value["step"].as_u64().is_some_and(stays) {
                    text.push_str(line);
                    text.push('\n');
                    kept.push(value);
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(path)(error).into()),
    }
    disk::whole::write(path, text.as_bytes())?;
    let file = OpenOptions::new().append(true).open(path).map_err(Error::io(path))?;
    Ok((file, kept))
}

/// All lines of a metrics file.
///
/// # Errors
/// A file that cannot be read or a line that is no JSON.
pub fn read(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let parse = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            Error::Line { path: path.to_path_buf(), line: at as u64 + 1, message: error.to_string() }.into()
        })
    };
    text.lines().enumerate().map(parse).collect()
}
