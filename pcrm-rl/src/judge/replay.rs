//! `replay`: verdicts recorded by `pcrm judge` or by people.
//!
//! The file has JSON lines with `prompt`, `first` and `second` (the answers in the order shown) and
//! `verdict`: `"first"`, `"second"`, `"tie"`, or a number from 0 to 1, the preference for the first answer.
//! With `symmetric`, a verdict in one order also counts for the other, as for people who saw a pair once; of
//! verdicts in both orders, the mean counts, which is a tie if they contradict each other.

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

/// A line of a file, for messages.
const EXAMPLE: &str = r#"{"prompt": "..", "first": "..", "second": "..", "verdict": "first"}"#;

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
            let line: Line = serde_json::from_str(&line)
                .map_err(|error| place(format!("{error}; expected a verdict such as {EXAMPLE}")))?;
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
            let turned = self.verdicts.get(&(prompt, second.clone(), first.clone()));
            let turned = turned.filter(|_| self.symmetric).cloned().map(|one| one.map(|other| 1.0 - other));
            let verdict = match (self.verdicts.get(&(prompt, first, second)).cloned(), turned) {
                (Some(Ok(own)), Some(Ok(turned))) => Ok(f64::midpoint(own, turned)),
                (Some(Err(_)), Some(Ok(turned))) => Ok(turned),
                (own, turned) => own
                    .or(turned)
                    .unwrap_or_else(|| Err("no verdict is recorded for these answers".to_owned())),
            };
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

#[cfg(test)]
mod tests {
    use pcrm_core::data::prompts::Prompt;
    use pcrm_core::data::report::Origin;

    use super::super::Budget;
    use super::*;
    use crate::reward_source::{Spec, Weighted};

    /// Protects: symmetric verdicts do not depend on the order of the answers: contradicting ones are a tie,
    /// and a missing one is replaced by that of the other order.
    #[test]
    fn symmetric_verdicts_do_not_depend_on_the_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("people.jsonl");
        let line = |first: &str, second: &str, verdict: Value| {
            serde_json::json!({"prompt": "q", "first": first, "second": second, "verdict": verdict})
                .to_string()
                + "\n"
        };
        let lines = [
            line("a", "b", "first".into()),
            line("b", "a", "first".into()),
            line("a", "c", "first".into()),
            line("c", "a", "second".into()),
            line("a", "d", Value::Null),
            line("d", "a", "first".into()),
            line("e", "a", 0.25.into()),
        ];
        std::fs::write(&file, lines.concat()).unwrap();
        let prompt = Prompt {
            origin: Origin { file: file.as_path().into(), line: 1, record: 1 },
            prompt: Content::Text("q".to_owned()),
            columns: serde_json::Map::new(),
        };
        let verdicts = |symmetric: bool, pairs: &[(&str, &str)]| -> Vec<Option<f64>> {
            let config = Config { file: file.clone(), symmetric, judge: None };
            let mut rewards = |_: &[Spec]| -> Result<Weighted> { unreachable!() };
            let mut opening = Opening { api_key: None, budget: Budget::default(), rewards: &mut rewards };
            let mut judge = config.open(&mut opening).unwrap();
            let questions: Vec<Question<'_>> =
                pairs.iter().map(|(first, second)| Question { prompt: &prompt, first, second }).collect();
            let mut found = vec![None; pairs.len()];
            let mut take = |at: usize, reply: Reply| {
                found[at] = reply.verdict.ok();
                Ok(())
            };
            judge.judge(&questions, &AtomicBool::new(false), &mut take).unwrap();
            found
        };
        let pairs = [("a", "b"), ("a", "c"), ("a", "d"), ("a", "e")];
        let turned = pairs.map(|(first, second)| (second, first));
        assert_eq!(verdicts(true, &pairs), [Some(0.5), Some(1.0), Some(0.0), Some(0.75)]);
        assert_eq!(verdicts(true, &turned), [Some(0.5), Some(0.0), Some(1.0), Some(0.25)]);
        assert_eq!(verdicts(false, &pairs), [Some(1.0), Some(1.0), None, None]);
    }
}
