//! Texts for language model training: prompts with completions, conversations, plain texts.

use std::path::PathBuf;

use super::asked::{Asked, beside};
use super::conversation::Content;
use super::load::{Found, ReadOptions, ReadRow, Reader, Record, Refusal, load};
use super::preference::{AnswerSet, Preference, content_at, read_pair, refuse_template_columns};
use super::readable::implicit_prompt;
use super::report::{Origin, ProblemKind, Report};
use super::schema::{Schema, completion_key};
use super::survey::{Finding, Severity, Tally, many};
use super::turns::Turns;
use crate::error::Result;

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

/// Reads completions from files and folders of JSON lines, JSON or Parquet.
///
/// Rows have a prompt and a completion (`prompt` and `completion`, `response` or `answer`; `question` and
/// `answer`; `instruction`, `input` and `output`), a conversation (`messages`, `conversations`) or a `text`.
/// In preference pairs the chosen answer is the completion; the report contains a note about it.
///
/// # Errors
/// Fails in the same cases as [`load_preferences`](super::preference::load_preferences).
pub fn load_completions(
    paths: &[PathBuf],
    options: impl Into<ReadOptions>,
) -> Result<(Vec<Completion>, Report)> {
    load(paths, &options.into(), &mut Completions::default())
}

/// Reader of completions that counts those taken from pairs.
#[derive(Default)]
struct Completions {
    chosen: Tally,
}

impl Reader for Completions {
    type Row = Completion;

    fn schema_of(&self, record: &Record) -> Result<Schema, String> {
        Schema::of_row(record)
    }

    fn read(&mut self, found: Found<'_>, out: &mut Vec<ReadRow<Completion>>) {
        let Found { schema, record, origin, .. } = found;
        let row = read_completion(schema, record, &origin);
        if row.is_ok() && schema.is_pair() {
            self.chosen.add(&origin);
        }
        out.push((origin, row));
    }

    fn findings(&self) -> Vec<Finding> {
        if self.chosen.is_empty() {
            return Vec::new();
        }
        let found = format!(
            "{} of preferences: the chosen answer is the completion, the rejected one is not used",
            many(self.chosen.count, "record")
        );
        let advice = "To learn from both answers, train on preferences";
        vec![Finding::new("chosen_as_completion", Severity::Note, found, advice).tallied(&self.chosen)]
    }
}

/// Reads a record whose schema is known.
fn read_completion(schema: Schema, record: &Record, origin: &Origin) -> Result<Completion, Refusal> {
    if schema.is_many() {
        let message = format!(
            "{schema}: several answers per record; expected one, or pairs as written by `pcrm data convert`"
        );
        return Err((ProblemKind::Unsupported, message));
    }
    if schema.is_pair() {
        let [chosen, _] = answers_of(&read_pair(schema, record, origin.clone())?);
        return Ok(chosen);
    }
    let asked = Asked::of(record).map_err(|message| (ProblemKind::Malformed, message))?;
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
