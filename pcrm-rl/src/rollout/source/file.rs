//! Samples that someone else made, from a file of JSON lines.
//!
//! A line is an answer: `{"prompt_ids": [1, 2], "completion_ids": [3, 4], "log_probs": [-0.5, -1.25],
//! "finish_reason": "stop"}`. Log-probabilities come from the sampler, at the temperature of the run. The
//! answers to a prompt are used in the order of the file: each pass over the prompts takes the next ones, and
//! after the last one it starts over.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use pcrm_core::model::LanguageModel;
use serde_json::Value;

use super::super::{Finish, Sample};
use super::{Pending, RolloutSource, SampleRequest, Sampled};
use crate::error::{Error, Result};
use crate::lanes::Lanes;
use crate::rollout::answer;

/// The keys of a line.
const KEYS: [&str; 4] = ["prompt_ids", "completion_ids", "log_probs", "finish_reason"];

/// A file of samples.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    /// Answers by the tokens of their prompt.
    answers: HashMap<Vec<u32>, Vec<Sample>>,
}

impl FileSource {
    /// Reads a file. `ends` are the tokens that end an answer, `vocabulary` is their number.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or if a line is not an answer; the error names line and field.
    pub fn open(path: &Path, ends: &BTreeSet<u32>, vocabulary: usize) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(pcrm_core::Error::io(path))?;
        let mut answers: HashMap<Vec<u32>, Vec<Sample>> = HashMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let read = serde_json::from_str(line)
                .map_err(|error| format!("is not JSON: {error}"))
                .and_then(|value: Value| read(&value, ends, vocabulary));
            let refused = |message| Error::rollouts(name(path), format!("line {}: {message}", number + 1));
            let (prompt, sample) = read.map_err(refused)?;
            answers.entry(prompt).or_default().push(sample);
        }
        match answers.is_empty() {
            true => Err(Error::rollouts(name(path), "has no answer")),
            false => Ok(Self { path: path.to_path_buf(), answers }),
        }
    }

    /// Returns the total number of answers, and the number of unused ones, whose prompts are not among `prompts`.
    pub fn unused<'a>(&self, prompts: impl IntoIterator<Item = &'a [u32]>) -> (usize, usize) {
        let known: HashSet<&[u32]> = prompts.into_iter().collect();
        let count = |used: bool| {
            let all = self.answers.iter().filter(|(prompt, _)| !used || !known.contains(prompt.as_slice()));
            all.map(|(_, answers)| answers.len()).sum()
        };
        (count(false), count(true))
    }

    fn of(&self, ask: &SampleRequest) -> Sampled {
        let mut all = Vec::with_capacity(ask.prompts.len());
        for (at, prompt) in ask.prompts.iter().enumerate() {
            let known = self.answers.get(&prompt.ids).map_or(&[][..], Vec::as_slice);
            if known.len() < ask.samples {
                let message = format!(
                    "has {} answers to prompt {} of a rollout ({} tokens, {:?}..), expected at least {}",
                    known.len(),
                    at + 1,
                    prompt.ids.len(),
                    &prompt.ids[..prompt.ids.len().min(8)],
                    ask.samples
                );
                return Err(Error::rollouts(self.name(), message));
            }
            let most = ask.sampling.max_tokens;
            if let Some(long) = known.iter().find(|sample| sample.ids.len() > most) {
                let message = format!(
                    "has an answer of {} tokens, longer than --max-completion-length {most}",
                    long.ids.len()
                );
                return Err(Error::rollouts(self.name(), message));
            }
            let first = (ask.pass as usize).wrapping_mul(ask.samples);
            let taken = (0..ask.samples).map(|at| known[first.wrapping_add(at) % known.len()].clone());
            all.push(taken.collect());
        }
        Ok(all)
    }
}

fn name(path: &Path) -> String {
    format!("file {}", path.display())
}

/// Reads a line: the tokens of a prompt, and an answer.
fn read(line: &Value, ends: &BTreeSet<u32>, vocabulary: usize) -> Result<(Vec<u32>, Sample), String> {
    let Value::Object(fields) = line else {
        return Err(format!("is {line}; expected an object with {}", KEYS.join(", ")));
    };
    if let Some(key) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("unknown key {key:?}; expected {}", KEYS.join(", ")));
    }
    let prompt = answer::ids(&line["prompt_ids"], "prompt_ids", vocabulary)?;
    let ids = answer::ids(&line["completion_ids"], "completion_ids", vocabulary)?;
    answer::ends_last(&ids, "completion_ids", ends)?;
    let log_probs = answer::log_probs(&line["log_probs"], "log_probs", ids.len())?;
    let last = ids.last().copied().unwrap_or_default();
    let finish = match line["finish_reason"].as_str() {
        _ if ends.contains(&last) => Finish::Token(last),
        Some("length") => Finish::Length,
        _ => {
            return Err(format!(
                "finish_reason is {}, and the last token, {last}, is none of {ends:?}, which end answers; \
                 expected \"length\" for an answer that was cut off",
                line["finish_reason"]
            ));
        }
    };
    Ok((prompt, Sample { ids, log_probs, filtered: None, finish }))
}

impl RolloutSource for FileSource {
    fn name(&self) -> String {
        name(&self.path)
    }

    fn publish(&mut self, _policy: &LanguageModel, _version: u64, _lanes: &Lanes) -> Result<()> {
        Ok(())
    }

    fn begin(&mut self, ask: SampleRequest) -> Result<Pending> {
        Ok(Pending::Waiting(ask))
    }

    fn finish(&mut self, pending: Pending, _interrupted: &AtomicBool) -> Sampled {
        match pending {
            Pending::Waiting(ask) => self.of(&ask),
            Pending::Working(_) => Err(Error::rollouts(self.name(), "was asked by another source")),
        }
    }

    fn answers_any(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{Prompt, Sampling};

    fn opened(lines: &[&str]) -> Result<FileSource> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("samples.jsonl");
        fs::write(&path, lines.join("\n")).unwrap();
        FileSource::open(&path, &BTreeSet::from([2]), 10)
    }

    /// Protects: each pass takes the next answers to a prompt, and too few of them are an error.
    #[test]
    fn passes_take_the_next_answers() {
        let line = |id: u32| {
            format!(r#"{{"prompt_ids": [1], "completion_ids": [{id}, 2], "log_probs": [-0.5, -1]}}"#)
        };
        let lines = [line(3), line(4), String::new(), line(5)];
        let mut source = opened(&lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let mut take = |pass, samples| -> Result<Vec<u32>> {
            let prompts = vec![Prompt { number: 0, ids: vec![1] }];
            let ask = SampleRequest { prompts, samples, sampling: Sampling::default(), version: 0, pass };
            let pending = source.begin(ask)?;
            let made = source.finish(pending, &AtomicBool::new(false))?;
            assert!(
                made[0].iter().all(|one| one.finish == Finish::Token(2) && one.log_probs == [-0.5, -1.0])
            );
            Ok(made[0].iter().map(|sample| sample.ids[0]).collect())
        };
        assert_eq!(take(0, 2).unwrap(), [3, 4]);
        assert_eq!(take(1, 2).unwrap(), [5, 3]);
        let message = take(0, 4).unwrap_err().to_string();
        assert!(
            message.contains("has 3 answers to prompt 1") && message.ends_with("at least 4"),
            "{message}"
        );
    }

    /// Protects: a broken line is named with its field and value.
    #[test]
    fn broken_lines_are_named() {
        let good = r#"{"prompt_ids": [1], "completion_ids": [3, 2], "log_probs": [-0.5, -1]}"#;
        for (line, part) in [
            ("{", "line 2: is not JSON"),
            (r#"{"completion_ids": [3, 2]}"#, "line 2: prompt_ids is missing"),
            (&good.replace("[3, 2]", "[3.5, 2]"), "completion_ids[0] is 3.5; expected a token id below 10"),
            (&good.replace("[3, 2]", "[3, 10]"), "completion_ids[1] is 10; expected a token id below 10"),
            (&good.replace("-0.5, -1", "-0.5"), "log_probs has 1 numbers, expected 2"),
            (&good.replace("-0.5", "null"), "log_probs[0] is null; expected a log-probability"),
            (&good.replace("-0.5", "0.5"), "log_probs[0] is 0.5; expected a log-probability"),
            (
                &good.replace("[3, 2]", "[2, 3]"),
                "completion_ids[0] is 2, which ends answers; expected it last of 2 tokens",
            ),
            (&good.replace("[3, 2]", "[2, 2]"), "completion_ids[0] is 2, which ends answers"),
            (&good.replace("log_probs", "logprobs"), "unknown key \"logprobs\"; expected prompt_ids, "),
            ("[1]", "line 2: is [1]; expected an object with prompt_ids, "),
            (&good.replace("[3, 2]", "[3, 4]"), "finish_reason is null, and the last token, 4"),
        ] {
            let message = opened(&[good, line]).unwrap_err().to_string();
            assert!(message.contains(part), "{message}: expected {part}");
        }
        let other = good.replace("[1]", "[7]");
        let found = opened(&[good, &other, &other]).unwrap().unused([&[1][..], &[5]]);
        assert_eq!(found, (3, 2));
        assert!(opened(&[]).unwrap_err().to_string().ends_with("has no answer"));
    }
}
