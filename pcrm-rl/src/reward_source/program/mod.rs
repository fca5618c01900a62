//! Programs as reward sources: a long-lived process that reads and writes JSON, one object per line.
//!
//! The process first writes `{"ready": true}`. For every batch it reads
//!
//! ```json
//! {"id": 7, "step": 3, "prompts": ["2+2?"], "completions": [" 4"], "completion_ids": [[19]],
//!  "columns": {"gold": ["4"]}, "prompt_texts": ["2+2?"], "sequences": ["2+2? 4</s>"], "ended": [true]}
//! ```
//!
//! and writes `{"id": 7, "rewards": [1.0]}`: one number per answer, or null for one that it does not score.
//! `logs` may have additional numbers by name, `columns` values for a table of samples, and `error` a message
//! why there are no rewards. A prompt is text or a list of messages, as in the data; `prompt_texts` and
//! `sequences` are what the policy read and wrote, including special tokens. Any other output on standard
//! output is an error; standard error is free.

pub(crate) mod child;
mod command;
pub(crate) mod group;
mod python;
pub(crate) mod reply;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::child::{Child, Failure};
use super::{Answer, Answers, Preparation, Scored};
use crate::error::{Error, Result};

/// Time limits of a program, in seconds.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Limit for a batch.
    timeout: f64,
    /// Limit from the start to the ready line.
    start_timeout: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: 180.0, start_timeout: 300.0 }
    }
}

impl Limits {
    fn check(&self) -> Result<(), String> {
        for (name, seconds) in [("timeout", self.timeout), ("start_timeout", self.start_timeout)] {
            if !(seconds > 0.0 && seconds <= 1e9) {
                return Err(format!("{name} is {seconds}; expected a positive number of seconds"));
            }
        }
        Ok(())
    }
}

/// A program that scores answers.
struct Program {
    name: String,
    program: OsString,
    arguments: Vec<OsString>,
    limits: Limits,
    /// Hint for a program that cannot be started.
    hint: &'static str,
    child: Option<Child>,
    next_id: u64,
    log: Option<PathBuf>,
    /// Calling convention of a function, as the program reported it.
    form: Option<String>,
}

impl Program {
    fn new(name: String, program: impl Into<OsString>, arguments: Vec<OsString>, limits: Limits) -> Self {
        let program = program.into();
        Self { name, program, arguments, limits, hint: "", child: None, next_id: 0, log: None, form: None }
    }

    /// Starts the program, so that its notes are available before the first rollout.
    fn prepare(&mut self, run: &Preparation<'_>) -> Result<()> {
        let file = |dir: &Path| dir.join(format!("reward-{}.log", file_name(&self.name)));
        self.log = run.logs.map(file);
        self.started().map(drop).map_err(|failure| self.error(&failure.message()))
    }

    /// Sends a batch and reads its rewards. A program that dies or times out is restarted, once per batch.
    fn score(&mut self, batch: &Answers<'_>) -> Result<Scored> {
        let id = self.next_id;
        self.next_id += 1;
        let line = request(id, batch).to_string();
        let reply = match self.ask(&line) {
            Err(Failure::Gone(message)) => {
                tracing::warn!("reward {:?}: {message}; it is started again", self.name);
                self.ask(&line).map_err(|failure| match failure {
                    Failure::Gone(message) => format!("{message}, after it was started again for this batch"),
                    Failure::Said(message) => message,
                })
            }
            other => other.map_err(|failure| failure.message()),
        };
        let scored = reply.and_then(|reply| reply::read(&reply, id, batch));
        // After an error, later output could be mistaken for the answer to another batch.
        scored.map_err(|message| match self.child.take() {
            Some(child) => self.error(&child.abandoned(message)),
            None => self.error(&message),
        })
    }

    fn ask(&mut self, line: &str) -> Result<String, Failure> {
        let timeout = Duration::from_secs_f64(self.limits.timeout);
        let reply = self.started()?.exchange(line, timeout);
        if reply.is_err() {
            self.child = None;
        }
        reply
    }

    fn started(&mut self) -> Result<&mut Child, Failure> {
        let child = match self.child.take() {
            Some(child) => child,
            None => self.start()?,
        };
        Ok(self.child.insert(child))
    }

    fn start(&mut self) -> Result<Child, Failure> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        let mut child = Child::start(command, self.log.as_deref()).map_err(|error| {
            let program = self.program.to_string_lossy();
            Failure::Said(format!("cannot start {program:?}: {error}{}", self.hint))
        })?;
        let line = child.line(Duration::from_secs_f64(self.limits.start_timeout), "get ready")?;
        match reply::ready(&line) {
            Ok(form) => {
                self.form = form;
                Ok(child)
            }
            Err(message) => Err(Failure::Said(child.abandoned(message))),
        }
    }

    /// Asks the program to exit, without waiting for its end.
    fn close(&mut self) {
        if let Some(child) = &mut self.child {
            child.close();
        }
    }

    fn error(&self, message: &str) -> Error {
        Error::reward(&self.name, message)
    }
}

/// Returns the request for a batch.
fn request(id: u64, batch: &Answers<'_>) -> Value {
    let all = |value: &dyn Fn(&Answer<'_>) -> Value| -> Value { batch.rows.iter().map(value).collect() };
    let columns = batch.columns().into_iter().map(|name| {
        let values = all(&|answer| answer.column(name).cloned().unwrap_or(Value::Null));
        (name.to_owned(), values)
    });
    json!({
        "id": id,
        "step": batch.step,
        "prompts": all(&|answer| json!(answer.prompt.prompt)),
        "completions": all(&|answer| json!(answer.completion())),
        "completion_ids": all(&|answer| json!(answer.completion_ids)),
        "columns": columns.collect::<Map<String, Value>>(),
        "prompt_texts": all(&|answer| json!(answer.texts.prompt)),
        "sequences": all(&|answer| json!(answer.texts.sequence)),
        "ended": all(&|answer| json!(answer.ended)),
    })
}

/// Converts a name to a file name.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    name.chars().map(plain).collect()
}

#[cfg(all(test, unix))]
mod tests;
