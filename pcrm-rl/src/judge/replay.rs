//! `replay`: verdicts recorded by `pcrm judge` or by people.
//!
//! The file has JSON lines with `prompt`, `first` and `second` (the answers in the order in which they were
//! shown) and `verdict`: `"first"`, `"second"`, `"tie"`, or a number from 0 to 1, the preference for the
//! first answer. With `symmetric`, a verdict in one order also counts for the other, as for people who saw a
//! pair once.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use pcrm_core::data::conversation::{Content, Message};
use pcrm_core::data::prompt_id::PromptId;
use pcrm_core::erased_serde;
use serde::Deserialize;
use serde_json::Value;

use super::{
    FIRST, Judge, JudgePlugin, OpenJudge, Opening, Preference, Question, Reply, SECOND, TIE, Take, Usage,
};
use crate::error::{Error, Result};

/// Configuration of recorded verdicts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// File of verdicts.
    file: PathBuf,
    /// True if a verdict counts for both orders.
    #[serde(default)]
    symmetric: bool,
    /// Name of the judge that gave them, if the file has several.
    #[serde(default)]
    judge: Option<String>,
}

type Key = (PromptId, String, String);

struct Replay {
    name: String,
    symmetric: bool,
    verdicts: HashMap<Key, Result<Preference, String>>,
}

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    prompt: Content,
    first: Value,
    second: Value,
    /// Verdict; `null` if the judge gave none.
    verdict: Value,
    #[serde(default)]
    judge: Option<String>,
}

impl OpenJudge for Config {
    fn open(&self, _: &mut Opening<'_>) -> Result<Box<dyn Judge>> {
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = self.judge.clone().unwrap_or(format!("replay ({stem})"));
        let mut replay = Replay { name, symmetric: self.symmetric, verdicts: HashMap::new() };
        let file = std::fs::File::open(&self.file).map_err(pcrm_core::Error::io(&self.file))?;
        let mut judges = std::collections::BTreeSet::new();
        for (at, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(pcrm_core::Error::io(&self.file))?;
            if line.trim().is_empty() {
                continue;
            }
            let place = |message: String| {
                Error::judge(&replay.name, format!("{}:{}: {message}", self.file.display(), at + 1))
            };
            let line: Line = serde_json::from_str(&line).map_err(|error| place(error.to_string()))?;
            if self.judge.as_ref().is_some_and(|wanted| line.judge.as_ref() != Some(wanted)) {
                continue;
            }
            judges.insert(line.judge.clone());
            if judges.len() > 1 {
                let names: Vec<String> = judges.into_iter().flatten().collect();
                return Err(place(format!(
                    "the verdicts of several judges ({}, ..); name one: {{\"kind\": \"replay\", \"file\": \
                     .., \"judge\": ..}}",
                    names.join(", ")
                )));
            }
            let [first, second] = [&line.first, &line.second].map(answer);
            let (Some(first), Some(second)) = (first, second) else {
                return Err(place(
                    "expected answers in first and second: texts or assistant messages".into(),
                ));
            };
            let verdict = match &line.verdict {
                Value::Null => Err("the recorded judge gave no verdict".to_owned()),
                value => Ok(preference(value).map_err(place)?),
            };
            let key = (PromptId::of_answer(Some(&line.prompt), &Content::Text(String::new())), first, second);
            if replay.verdicts.get(&key).is_some_and(|known| *known != verdict) {
                return Err(place("a second, different verdict on the same answers".to_owned()));
            }
            replay.verdicts.insert(key, verdict);
        }
        match replay.verdicts.is_empty() {
            true => Err(Error::judge(&replay.name, format!("{} has no verdicts", self.file.display()))),
            false => Ok(Box::new(replay)),
        }
    }
}

/// Returns an answer as text.
fn answer(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(_) => {
            let turns: Vec<Message> = serde_json::from_value(value.clone()).ok()?;
            turns.last().map(|turn| turn.content.clone())
        }
        _ => None,
    }
}

/// Parses a verdict as written by files and programs.
pub(super) fn preference(value: &Value) -> Result<Preference, String> {
    match value {
        Value::String(word) => match word.as_str() {
            "first" => Ok(FIRST),
            "second" => Ok(SECOND),
            "tie" => Ok(TIE),
            _ => Err(()),
        },
        value => value.as_f64().filter(|number| (0.0..=1.0).contains(number)).ok_or(()),
    }
    .map_err(|()| {
        format!("the verdict is {value}; expected \"first\", \"second\", \"tie\" or a number from 0 to 1")
    })
}

impl Judge for Replay {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_symmetric(&self) -> bool {
        self.symmetric
    }

    fn judge(&mut self, questions: &[Question<'_>], _: &AtomicBool, take: &mut Take<'_>) -> Result<()> {
        for (at, question) in questions.iter().enumerate() {
            let prompt = PromptId::of_answer(Some(&question.prompt.prompt), &Content::Text(String::new()));
            let [first, second] = [question.first, question.second].map(str::to_owned);
            let turned = || {
                let other = self.verdicts.get(&(prompt, second.clone(), first.clone()));
                other.filter(|_| self.symmetric).map(|other| other.clone().map(|preference| 1.0 - preference))
            };
            let own = self.verdicts.get(&(prompt, first.clone(), second.clone())).cloned();
            let verdict = own
                .or_else(turned)
                .unwrap_or_else(|| Err("no verdict is recorded for these answers".to_owned()));
            take(at, Reply { verdict, text: None, usage: Usage::default() })?;
        }
        Ok(())
    }
}

pcrm_core::inventory::submit! {
    JudgePlugin {
        name: "replay",
        about: "recorded verdicts (file): prompt, first, second, verdict a line; symmetric for those of \
             people",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Config>(data)?)),
    }
}
