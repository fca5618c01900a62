//! The files with metrics: `metrics.jsonl`, and TensorBoard events built from the same lines.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use pcrm_core::{Error, disk};
use serde::Serialize;
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::checkpoint::State;
use crate::error::Result;
use crate::tensorboard::{self, EventFile};

/// `metrics.jsonl`: a line per logged step and per evaluation; and the same for TensorBoard, in the folder
/// `tensorboard` beside it.
///
/// If several processes train, only the first one writes lines; the others ignore them.
pub struct MetricsFile {
    path: PathBuf,
    /// `None` in a process that does not write.
    file: Option<File>,
    lines: u64,
    /// Hash of all lines without their times.
    hash: Xxh3,
    events: Option<EventFile>,
}

/// The lines that stay in a file, as text and as values.
#[derive(Debug, Default)]
struct Kept {
    lines: Vec<String>,
    values: Vec<Value>,
}

impl fmt::Debug for MetricsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsFile")
            .field("path", &self.path)
            .field("lines", &self.lines)
            .finish_non_exhaustive()
    }
}

impl MetricsFile {
    /// Opens the file of a run in this state, and drops lines of later steps, which will be repeated. An
    /// evaluation of this step is dropped too if it is owed, and so are lines that are not JSON. A warning
    /// reports lines up to the state's step that are missing, or that the run did not write.
    ///
    /// # Errors
    /// Fails if the disk fails.
    pub fn open(path: &Path, state: &State) -> Result<Self> {
        let (file, kept) = taken_up(path, state.step, state.evaluation_owed)?;
        let events = EventFile::open(&path.with_file_name(tensorboard::FOLDER), &kept.values);
        let events = events.map_err(|error| tracing::warn!("no events for TensorBoard: {error}")).ok();
        let mut opened =
            Self { path: path.to_path_buf(), file: Some(file), lines: 0, hash: Xxh3::new(), events };
        for line in &kept.values {
            opened.count(line);
            if state.metrics_lines == Some(opened.lines)
                && state.metrics_digest.as_ref().is_some_and(|digest| *digest != opened.digest())
            {
                tracing::warn!(
                    "{}: its lines up to step {} are not those that the run wrote; they are kept as they \
                     are, and curves show them",
                    path.display(),
                    state.step
                );
            }
        }
        if let Some(lost) = state.metrics_lines.and_then(|lines| lines.checked_sub(opened.lines))
            && lost > 0
        {
            tracing::warn!(
                "{}: {lost} of the lines up to step {} are lost; curves have a gap there",
                path.display(),
                state.step
            );
        }
        Ok(opened)
    }

    /// Returns the file of a process that does not write.
    pub fn of_another(path: &Path) -> Self {
        Self { path: path.to_path_buf(), file: None, lines: 0, hash: Xxh3::new(), events: None }
    }

    /// Opens a file of lines with a `step`, as [`MetricsFile::open`] does, without events.
    ///
    /// # Errors
    /// Fails if the disk fails.
    pub fn plain(path: &Path, step: u64) -> Result<Self> {
        let (file, kept) = taken_up(path, step, false)?;
        let mut opened = Self { file: Some(file), ..Self::of_another(path) };
        kept.values.iter().for_each(|line| opened.count(line));
        Ok(opened)
    }

    /// Records the lines so far in the state for a checkpoint.
    pub fn note(&self, state: &mut State) {
        state.metrics_lines = Some(self.lines);
        state.metrics_digest = Some(self.digest());
    }

    /// Returns the hash (XXH3, 128 bits) of all lines without their times.
    fn digest(&self) -> String {
        format!("{:032x}", self.hash.digest128())
    }

    /// Counts a line, and hashes it without its times, which differ between runs.
    fn count(&mut self, line: &Value) {
        let is_time =
            |name: &str| name == "tokens_per_second" || name == "step_time" || name.starts_with("time/");
        for (name, value) in line.as_object().into_iter().flatten().filter(|(name, _)| !is_time(name)) {
            self.hash.update(format!("{name:?}: {value},").as_bytes());
        }
        self.hash.update(b"\n");
        self.lines += 1;
    }

    /// Refuses a file that was deleted, moved or replaced since it was opened, for example by deleting the
    /// run's folder.
    ///
    /// # Errors
    /// Fails for such a file.
    pub fn still_there(&self) -> Result<()> {
        match self.file.as_ref().is_none_or(|file| disk::leads_to(&self.path, file)) {
            true => Ok(()),
            false => {
                let message = "was deleted, moved or replaced while the run was writing to it";
                Err(Error::file(&self.path, message).into())
            }
        }
    }

    /// Appends a line. A failure to write for TensorBoard gives a warning.
    ///
    /// # Errors
    /// Fails if the file is gone or the disk fails.
    pub fn line(&mut self, value: &impl Serialize) -> Result<()> {
        self.still_there()?;
        let Some(file) = &mut self.file else { return Ok(()) };
        let value = serde_json::to_value(value).map_err(|error| Error::file(&self.path, error))?;
        file.write_all(format!("{value}\n").as_bytes()).map_err(Error::io(&self.path))?;
        self.count(&value);
        if let Some(events) = &mut self.events
            && let Err(error) = events.line(&value)
        {
            tracing::warn!("no more events for TensorBoard: {error}");
            self.events = None;
        }
        Ok(())
    }
}

/// Drops the lines of later steps, and opens the file for appending. Returns the remaining lines.
fn taken_up(path: &Path, step: u64, evaluation_owed: bool) -> Result<(File, Kept)> {
    let mut kept = Kept::default();
    match File::open(path) {
        Ok(file) => {
            for line in BufReader::new(file).split(b'\n') {
                let line = line.map_err(Error::io(path))?;
                let Ok(line) = str::from_utf8(&line) else { continue };
                let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
                let again = evaluation_owed && value.get("eval_loss").is_some();
                let stays = |made: u64| made < step || (made == step && !again);
                if value["step"].as_u64().is_some_and(stays) {
                    kept.lines.push(line.to_owned());
                    kept.values.push(value);
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(path)(error).into()),
    }
    let text: String = kept.lines.iter().flat_map(|line| [line, "\n"]).collect();
    disk::whole::write(path, text.as_bytes())?;
    let file = OpenOptions::new().append(true).open(path).map_err(Error::io(path))?;
    Ok((file, kept))
}

/// Reads all lines of a metrics file.
///
/// # Errors
/// Fails if the file cannot be read or a line is not JSON.
pub fn read(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let parse = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            Error::Line { path: path.to_path_buf(), line: at as u64 + 1, message: error.to_string() }.into()
        })
    };
    text.lines().enumerate().map(parse).collect()
}
