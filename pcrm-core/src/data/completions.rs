//! Texts for language model training: prompts with completions, conversations, plain texts.

use std::path::PathBuf;

use serde_json::Value;

use super::asked::{PromptColumns, beside};
use super::conversation::Content;
use super::load::{Found, ReadOptions, ReadRow, Reader, Record, Refusal, load};
use super::preference::{
    AnswerSet, Preference, RankedSets, Ties, content_at, read_pair, refuse_template_columns,
};
use super::readable::implicit_prompt;
use super::report::{Origin, ProblemKind, Report};
use super::schema::{Schema, completion_key};
use super::survey::{Finding, Severity, Tally, many};
use super::turns::Turns;
use crate::error::Result;

/// The code of the finding about answers that their sampler cut off.
pub const CUT_OFF: &str = "cut_off";

/// A completion and its prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The file and line of the record.
    pub origin: Origin,
    /// The prompt; `None` for a plain text or a whole conversation.
    pub prompt: Option<Content>,
    /// The completion, the text or the conversation.
    pub completion: Content,
}

impl AsRef<Completion> for Completion {
    fn as_ref(&self) -> &Completion {
        self
    }
}

/// Reads completions from files and folders, in any format of [`records`](super::records).
///
/// Rows have a prompt and a completion (`prompt` and `completion`, `response` or `answer`; `question` and
/// `answer`; `instruction`, `input` and `output`), a conversation (`messages`, `conversations`) or a `text`.
/// In preference pairs the chosen answer is the completion, and in ranked records the best one, or the first of
/// several that are best; the report contains a note about it.
///
/// # Errors
/// Fails in the same cases as [`load_preferences`](super::preference::load_preferences).
pub fn load_completions(
    paths: &[PathBuf],
    options: impl Into<ReadOptions>,
) -> Result<(Vec<Completion>, Report)> {
    let ranked = RankedSets::new(Ties::Keep);
    load(
        paths,
        &options.into(),
        &mut Completions {
            ranked,
            chosen: Tally::default(),
            best: Tally::default(),
            cut: Tally::default(),
            untrained: Tally::default(),
        },
    )
}

/// Reader of completions that counts those taken from preferences.
struct Completions {
    ranked: RankedSets,
    chosen: Tally,
    best: Tally,
    /// Answers that their sampler cut off.
    cut: Tally,
    /// Records with turns that say not to be trained on.
    untrained: Tally,
}

impl Reader for Completions {
    type Row = Completion;

    fn schema_of(&self, record: &Record) -> Result<Schema, String> {
        Schema::of_row(record)
    }

    fn read(&mut self, found: Found<'_>, out: &mut Vec<ReadRow<Completion>>) {
        let Found { schema, record, source, origin } = found;
        if schema.is_many() {
            match self.ranked.read(schema, record, &origin) {
                Ok(sets) => self.take_best(sets.into_iter().map(|set| (set.origin.clone(), Ok(set))), out),
                Err(refusal) => out.push((origin, Err(refusal))),
            }
            return;
        }
        let row = read_completion(schema, record, &origin);
        if row.is_ok() && schema.is_pair() {
            self.chosen.add(&origin);
        }
        if row.is_ok() && source.get("finish").is_some_and(|finish| finish == "length") {
            self.cut.add(&origin);
        }
        if row.is_ok() && has_untrained_turns(source) {
            self.untrained.add(&origin);
        }
        out.push((origin, row));
    }

    fn end_file(&mut self, out: &mut Vec<ReadRow<Completion>>) -> Result<(), String> {
        let mut sets = Vec::new();
        self.ranked.end_file(&mut sets);
        self.take_best(sets, out);
        Ok(())
    }

    fn findings(&self) -> Vec<Finding> {
        let note = |code, tally: &Tally, used: &str, advice| {
            let found = format!("{} of preferences: {used} not used", many(tally.count, "record"));
            Finding::new(code, Severity::Note, found, advice).tallied(tally)
        };
        let mut findings = Vec::new();
        if !self.chosen.is_empty() {
            findings.push(note(
                "chosen_as_completion",
                &self.chosen,
                "the chosen answer is the completion, the rejected one is",
                "To learn from both answers, train on preferences",
            ));
        }
        if !self.best.is_empty() {
            findings.push(note(
                "best_as_completion",
                &self.best,
                "the answer ranked best (the first of equals) is the completion, the others are",
                "To learn from all answers, train on preferences",
            ));
        }
        if !self.cut.is_empty() {
            let found = format!(
                "{} cut off at a limit (finish: \"length\"): the end token is trained on after each of them",
                many(self.cut.count, "answer")
            );
            let advice = "The model learns to end there; leave these rows out, or sample with a larger limit";
            let finding = Finding::new(CUT_OFF, Severity::Warning, found, advice);
            findings.push(finding.tallied(&self.cut));
        }
        if !self.untrained.is_empty() {
            let found = format!(
                "{} with turns of \"weight\": 0 or \"train\": false: these keys are not read, as in TRL",
                many(self.untrained.count, "record")
            );
            let advice = "--train-on selects what is trained on: completion, assistant or everything";
            let finding = Finding::new("untrained_turns", Severity::Note, found, advice);
            findings.push(finding.tallied(&self.untrained));
        }
        findings
    }
}

/// Returns true if a turn says not to be trained on, in OpenAI's format (`weight`) or axolotl's (`train`).
fn has_untrained_turns(record: &Record) -> bool {
    let is_untrained = |turn: &Value| {
        let has_speaker = turn["role"].is_string() || turn["from"].is_string();
        has_speaker && (turn["weight"].as_f64() == Some(0.0) || turn["train"] == false)
    };
    record.values().filter_map(Value::as_array).flatten().any(is_untrained)
}

impl Completions {
    /// Adds the best answer of each set, with its prompt.
    fn take_best(
        &mut self,
        sets: impl IntoIterator<Item = ReadRow<AnswerSet>>,
        out: &mut Vec<ReadRow<Completion>>,
    ) {
        for (origin, set) in sets {
            let best = set.and_then(|set| match set.best() {
                Some(best) => Ok(Completion {
                    origin: set.origin.clone(),
                    prompt: set.prompt.clone(),
                    completion: best.clone(),
                }),
                None => Err((ProblemKind::Unranked, "no answer ranks first".to_owned())),
            });
            if best.is_ok() {
                self.best.add(&origin);
            }
            out.push((origin, best));
        }
    }
}

/// Reads a record whose schema is known.
fn read_completion(schema: Schema, record: &Record, origin: &Origin) -> Result<Completion, Refusal> {
    if schema.is_pair() {
        let [chosen, _] = answers_of(&read_pair(schema, record, origin.clone())?);
        return Ok(chosen);
    }
    let asked = PromptColumns::of(record).map_err(|message| (ProblemKind::Malformed, message))?;
    let (prompt, completion) = match schema {
        Schema::Messages => (None, Content::Messages(asked.conversation()?)),
        Schema::Text => (None, content_at(record, "text")?),
        Schema::Instruction => {
            beside(Some(Content::Messages(asked.as_turns()?)), content_at(record, "output")?)?
        }
        _ => {
            beside(asked.content(&[])?, content_at(record, completion_key(record).unwrap_or("completion"))?)?
        }
    };
    checked(Completion { origin: origin.clone(), prompt, completion }, record)
}

/// Returns the completion, or refuses it if it is empty or needs unsupported features.
pub(super) fn checked(row: Completion, record: &Record) -> Result<Completion, Refusal> {
    if row.completion.is_conversation() {
        refuse_template_columns(record)?;
    }
    if row.completion.is_blank() {
        let message = "the text to train on is empty; expected at least one word".to_owned();
        return Err((ProblemKind::EmptyAnswer, message));
    }
    Ok(row)
}

/// Returns both answers of a pair as completions of its prompt, the preferred first. A prompt that both
/// answers contain is separated from them, as TRL's `extract_prompt` does.
pub(super) fn answers_of(pair: &AnswerSet) -> [Completion; 2] {
    let Preference { origin, prompt, chosen, rejected, .. } = pair.view(&pair.comparisons[0]);
    let (prompt, answers) = match (prompt, chosen, rejected) {
        (None, Content::Messages(chosen), Content::Messages(rejected)) => {
            let turns = Turns::apart(Vec::new(), chosen, rejected);
            let prompt = (!turns.prompt.is_empty()).then_some(Content::Messages(turns.prompt));
            (prompt, [Content::Messages(turns.chosen), Content::Messages(turns.rejected)])
        }
        (None, Content::Text(chosen), Content::Text(rejected)) => {
            let cut = implicit_prompt(&[chosen, rejected]);
            let prompt = (cut > 0).then(|| Content::Text(chosen[..cut].to_owned()));
            (prompt, [chosen, rejected].map(|answer| Content::Text(answer[cut..].to_owned())))
        }
        (prompt, chosen, rejected) => (prompt.cloned(), [chosen.clone(), rejected.clone()]),
    };
    answers.map(|completion| Completion { origin: origin.clone(), prompt: prompt.clone(), completion })
}

#[cfg(test)]
mod tests;
