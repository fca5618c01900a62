//! `command`: a program as a judge, a long-lived process that reads and writes JSON, one object per line.
//!
//! The process first writes `{"ready": true}`. For every question it reads `{"id": 7, "prompt": .., "first":
//! "..", "second": "..", "columns": {..}}` and writes `{"id": 7, "verdict": "first"}`. The verdict is
//! `"first"`, `"second"`, `"tie"`, or a number from 0 to 1, the preference for the first answer; `null` means
//! no verdict.
//!
//! Verdicts are kept under the command, its working folder and the digests of the files that it names, so
//! that an edited program judges again.

mod words;

use std::path::Path;
use std::process::Command as Process;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use pcrm_core::{digest, erased_serde};
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value, json};

use self::words::words;
use super::replay::preference;
use super::{Judge, JudgePlugin, OpenJudge, Opening, Preference, Question, Reply, Take, Usage};
use crate::error::{Error, Result};
use crate::reward_source::program::child::Child;
use crate::reward_source::program::reply::ready;

/// Configuration of a program as a judge.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Command, run by the shell.
    command: String,
    /// Time limit for one verdict, in seconds.
    #[serde(default = "timeout")]
    timeout: f64,
    /// Time limit from the start to the ready line, in seconds.
    #[serde(default = "start_timeout")]
    start_timeout: f64,
}

fn timeout() -> f64 {
    180.0
}

fn start_timeout() -> f64 {
    300.0
}

struct CommandJudge {
    name: String,
    config: Config,
    /// Everything but the question that determines a verdict.
    program: Value,
}

impl Config {
    /// Returns the command, its working folder, and the digest of every file that it names.
    fn program(&self) -> Result<Value> {
        let here = std::env::current_dir().map_err(pcrm_core::Error::io(Path::new(".")))?;
        let mut files = Map::new();
        for word in words(&self.command) {
            let path = here.join(&word);
            if path.is_file() && !files.contains_key(&word) {
                files.insert(word, digest::file(&path)?.into());
            }
        }
        Ok(json!({ "command": self.command, "directory": here.to_string_lossy(), "files": files }))
    }
}

impl OpenJudge for Config {
    fn open(&self, _: &mut Opening<'_>) -> Result<Box<dyn Judge>> {
        let program = self.command.split_whitespace().next().unwrap_or_default();
        let name = program.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        Ok(Box::new(CommandJudge { name, config: self.clone(), program: self.program()? }))
    }
}

impl CommandJudge {
    /// Starts the program and waits for its ready line; `None` once `stop` is set.
    fn start(&self, stop: &AtomicBool) -> Result<Option<Child>, String> {
        let (shell, option) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
        let mut command = Process::new(shell);
        command.args([option, &self.config.command]);
        let mut child = Child::start(command, None).map_err(|error| format!("cannot start: {error}"))?;
        let wait = Duration::from_secs_f64(self.config.start_timeout);
        let line = child.line_unless(stop, wait, "get ready").map_err(|failure| failure.message())?;
        let Some(line) = line else { return Ok(None) };
        match ready(&line) {
            Ok(_) => Ok(Some(child)),
            Err(message) => Err(child.abandoned(message)),
        }
    }
}

impl Judge for CommandJudge {
    fn name(&self) -> &str {
        &self.name
    }

    fn content(&self, question: &Question<'_>) -> Result<Option<Value>> {
        let mut content = self.program.clone();
        content["question"] = line(0, question);
        Ok(Some(content))
    }

    fn read(&self, text: &str) -> Result<Preference, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match &value["verdict"] {
            Value::Null => Err("the program gave no verdict".to_owned()),
            verdict => preference(verdict),
        }
    }

    fn judge(&mut self, questions: &[Question<'_>], stop: &AtomicBool, take: &mut Take<'_>) -> Result<()> {
        if questions.is_empty() {
            return Ok(());
        }
        let stopped = || Error::Interrupted("stopped".to_owned());
        let started = self.start(stop).map_err(|message| Error::judge(&self.name, message))?;
        let mut child = started.ok_or_else(stopped)?;
        for (at, question) in questions.iter().enumerate() {
            let refuse = |message: String| {
                Err(Error::judge(&self.name, format!("{}: {message}", question.prompt.origin)))
            };
            let wait = Duration::from_secs_f64(self.config.timeout);
            let text = match child.exchange_unless(stop, &line(at, question).to_string(), wait) {
                Ok(Some(text)) => text,
                Ok(None) => return Err(stopped()),
                Err(failure) => {
                    let message = format!("{}: {}", question.prompt.origin, failure.message());
                    return Err(Error::unfinished(&self.name, message));
                }
            };
            let value: Value = serde_json::from_str(&text).unwrap_or_default();
            if value["id"].as_u64() != Some(at as u64) || value.get("verdict").is_none() {
                let message = format!(
                    "it wrote {:?}; expected {{\"id\": {at}, \"verdict\": ..}}",
                    pcrm_core::text::visible_line(&text)
                );
                return refuse(child.abandoned(message));
            }
            let verdict = match self.read(&text) {
                Err(message) if !value["verdict"].is_null() => return refuse(child.abandoned(message)),
                verdict => verdict,
            };
            take(at, Reply { verdict, text: Some(text), usage: Usage::default() })?;
        }
        Ok(())
    }
}

fn line(id: usize, question: &Question<'_>) -> Value {
    json!({
        "id": id,
        "prompt": question.prompt.prompt,
        "first": question.first,
        "second": question.second,
        "columns": question.prompt.columns,
    })
}

fn build(data: &mut dyn erased_serde::Deserializer<'_>) -> erased_serde::Result<Box<dyn OpenJudge>> {
    let config: Config = erased_serde::deserialize(data)?;
    if config.command.trim().is_empty() {
        return Err(erased_serde::Error::custom("the command is empty; expected a program"));
    }
    for (name, seconds) in [("timeout", config.timeout), ("start_timeout", config.start_timeout)] {
        if !(seconds > 0.0 && seconds <= 1e9) {
            let message = format!("{name} is {seconds}; expected a positive number of seconds");
            return Err(erased_serde::Error::custom(message));
        }
    }
    Ok(Box::new(config))
}

pcrm_core::inventory::submit! {
    JudgePlugin {
        name: "command",
        about: "a program (command) that reads and writes JSON lines; timeout 180 s, start_timeout 300 s",
        build,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: verdicts are kept under the content of the program's files, so that an edited program is
    /// another judge.
    #[test]
    fn an_edited_program_is_another_judge() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("judge.py");
        let command = format!("python {}", script.display());
        let config = Config { command, timeout: timeout(), start_timeout: start_timeout() };
        let without = config.program().unwrap();
        assert!(!without["directory"].as_str().unwrap().is_empty());
        std::fs::write(&script, "first").unwrap();
        let first = config.program().unwrap();
        std::fs::write(&script, "second").unwrap();
        let second = config.program().unwrap();
        assert!(without != first && first != second, "{first} {second}");
        std::fs::write(&script, "first").unwrap();
        assert_eq!(config.program().unwrap(), first);
    }

    /// Protects: a signal ends the wait for a program that never gets ready, long before the limit.
    #[cfg(unix)]
    #[test]
    fn a_stop_ends_the_wait_for_a_program() {
        use std::sync::atomic::Ordering;
        let config = Config { command: "cat".to_owned(), timeout: timeout(), start_timeout: start_timeout() };
        let program = config.program().unwrap();
        let judge = CommandJudge { name: "cat".to_owned(), config, program };
        let stop = AtomicBool::new(false);
        let started = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                stop.store(true, Ordering::Relaxed);
            });
            judge.start(&stop)
        });
        assert!(started.unwrap().is_none());
    }
}
