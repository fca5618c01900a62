//! Answers labelled desirable or undesirable, the rows that KTO trains on.

use std::path::PathBuf;

use serde_json::Value;

use super::asked::{PromptColumns, beside};
use super::completions::{Completion, answers_of, checked};
use super::conversation::Content;
use super::load::{Found, ReadOptions, ReadRow, Reader, Record, Refusal, load};
use super::preference::{content_at, read_pair};
use super::report::{Origin, ProblemKind, Report};
use super::schema::{Schema, answer_key};
use super::survey::{Finding, Severity, Tally, many};
use crate::error::Result;

/// An answer to a prompt and its label.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// The answer with its prompt.
    pub completion: Completion,
    /// True if the answer is desirable.
    pub desirable: bool,
}

impl AsRef<Completion> for Labelled {
    fn as_ref(&self) -> &Completion {
        &self.completion
    }
}

/// Reads labelled answers from files and folders, in any format of [`records`](super::records).
///
/// Rows have `prompt`, `completion` (`response`, `answer`) and `label`, or a conversation (`messages`) that
/// ends with the answer, and `label`. A preference pair is read as two rows, the chosen answer desirable and
/// the rejected one undesirable, as TRL's KTO trainer does; the report contains a note about it.
///
/// # Errors
/// Fails in the same cases as [`load_preferences`](super::preference::load_preferences).
pub fn load_labelled(paths: &[PathBuf], options: impl Into<ReadOptions>) -> Result<(Vec<Labelled>, Report)> {
    load(paths, &options.into(), &mut Answers::default())
}

/// Reader of labelled answers that counts labels and pairs.
#[derive(Default)]
struct Answers {
    desirable: usize,
    undesirable: usize,
    pairs: Tally,
}

impl Reader for Answers {
    type Row = Labelled;

    fn schema_of(&self, record: &Record) -> Result<Schema, String> {
        Schema::of_labelled(record)
    }

    fn read(&mut self, found: Found<'_>, out: &mut Vec<ReadRow<Labelled>>) {
        let Found { schema, record, origin, .. } = found;
        match read_labelled(schema, record, &origin) {
            Err(refusal) => out.push((origin, Err(refusal))),
            Ok(rows) => {
                if schema.is_pair() {
                    self.pairs.add(&origin);
                }
                let desirable = rows.iter().filter(|row| row.desirable).count();
                self.desirable += desirable;
                self.undesirable += rows.len() - desirable;
                out.extend(rows.into_iter().map(|row| (origin.clone(), Ok(row))));
            }
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !self.pairs.is_empty() {
            let found = format!(
                "{} of preferences: each is a desirable answer and an undesirable one",
                many(self.pairs.count, "record")
            );
            let advice = "To learn from the comparison, train on preferences";
            findings
                .push(Finding::new("pairs_as_labelled", Severity::Note, found, advice).tallied(&self.pairs));
        }
        let missing = match (self.desirable, self.undesirable) {
            (0, 1..) => Some("desirable"),
            (1.., 0) => Some("undesirable"),
            _ => None,
        };
        if let Some(missing) = missing {
            let found = format!("no answer is labelled {missing}");
            let advice = "KTO learns from the difference between both; add answers of both labels";
            findings.push(Finding::new("one_label", Severity::Warning, found, advice));
        }
        findings
    }
}

/// Reads a record whose schema is known.
fn read_labelled(schema: Schema, record: &Record, origin: &Origin) -> Result<Vec<Labelled>, Refusal> {
    if schema.is_many() {
        let message = format!(
            "{schema}: several answers per record; expected one with a label, or pairs as written by \
             `pcrm data convert`"
        );
        return Err((ProblemKind::Unsupported, message));
    }
    if schema.is_pair() {
        let answers = answers_of(&read_pair(schema, record, origin.clone())?);
        let labels = [true, false];
        return Ok(answers
            .into_iter()
            .zip(labels)
            .map(|(completion, desirable)| Labelled { completion, desirable })
            .collect());
    }
    let malformed = |message| (ProblemKind::Malformed, message);
    let asked = PromptColumns::of(record).map_err(malformed)?;
    let (prompt, completion) = match answer_key(record) {
        Some(key) => beside(asked.content(&[])?, content_at(record, key)?)?,
        None => last_answer(&asked)?,
    };
    let desirable = label(record).map_err(malformed)?;
    let completion = checked(Completion { origin: origin.clone(), prompt, completion }, record)?;
    Ok(vec![Labelled { completion, desirable }])
}

/// Splits the last turn of a conversation, the answer, from the turns before it.
fn last_answer(asked: &PromptColumns<'_>) -> Result<(Option<Content>, Content), Refusal> {
    let mut turns = asked.conversation()?;
    match turns.pop() {
        Some(last) if last.role == "assistant" && !turns.is_empty() => {
            Ok((Some(Content::Messages(turns)), Content::Messages(vec![last])))
        }
        last => {
            let role = last.map_or_else(String::new, |turn| turn.role);
            let message = format!(
                "the conversation ends with the {role}'s turn; expected a question and the assistant's answer"
            );
            Err((ProblemKind::Malformed, message))
        }
    }
}

/// Returns the label of a record: true or false, or 1 or 0 as written by tables without booleans.
fn label(record: &Record) -> Result<bool, String> {
    match record.get("label").unwrap_or(&Value::Null) {
        Value::Bool(label) => Ok(*label),
        Value::Number(number) if number.as_f64() == Some(1.0) => Ok(true),
        Value::Number(number) if number.as_f64() == Some(0.0) => Ok(false),
        other => Err(format!("\"label\" is {other}; expected true for a desirable answer, or false")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::data::conversation::Message;
    use crate::data::report::Strictness;
    use crate::data::survey::testing::file_of;

    fn read(rows: &[Value]) -> Result<(Vec<Labelled>, Report)> {
        let file = file_of(rows);
        load_labelled(&[file.path().to_path_buf()], Strictness::Refuse)
    }

    /// Protects: each documented form of a labelled answer gives its prompt, its answer and its label.
    #[test]
    fn labelled_answers_are_read_in_every_form() {
        let turns = |turns: &[(&str, &str)]| {
            Content::Messages(turns.iter().map(|(role, said)| Message::new(*role, *said)).collect())
        };
        let text = |text: &str| Content::Text(text.to_owned());
        let turn = |role: &str, said: &str| json!({"role": role, "content": said});
        let (asked, said) = (turns(&[("user", "q")]), turns(&[("assistant", "a")]));
        for (row, prompt, completion, desirable) in [
            (json!({"prompt": "q", "completion": "a", "label": true}), text("q"), text("a"), true),
            (json!({"question": "q", "answer": "a", "label": 0}), text("q"), text("a"), false),
            (
                json!({"prompt": [turn("user", "q")], "completion": [turn("assistant", "a")], "label": false}),
                asked.clone(),
                said.clone(),
                false,
            ),
            (
                json!({"messages": [turn("user", "q"), turn("assistant", "a")], "answer": "b", "label": true}),
                asked.clone(),
                said.clone(),
                true,
            ),
            (
                json!({"messages": [turn("user", "q"), turn("assistant", "a")], "label": true}),
                asked,
                said,
                true,
            ),
        ] {
            let (rows, _) = read(std::slice::from_ref(&row)).unwrap();
            assert_eq!(rows.len(), 1, "{row}");
            assert_eq!(rows[0].completion.prompt, Some(prompt), "{row}");
            assert_eq!(
                (&rows[0].completion.completion, rows[0].desirable),
                (&completion, desirable),
                "{row}"
            );
        }
    }

    /// Protects: a pair is read as two rows and the report notes it; data with a single label raise a
    /// warning.
    #[test]
    fn pairs_are_two_labelled_answers() {
        let (rows, report) = read(&[json!({"prompt": "q", "chosen": "a", "rejected": "b"})]).unwrap();
        let read_as: Vec<_> = rows.iter().map(|row| (&row.completion.completion, row.desirable)).collect();
        assert_eq!(read_as, [(&Content::Text("a".into()), true), (&Content::Text("b".into()), false)]);
        assert_eq!(report.findings[0].code, "pairs_as_labelled");
        let (_, report) = read(&[json!({"prompt": "q", "completion": "a", "label": false})]).unwrap();
        assert_eq!((report.findings[0].code, report.findings.len()), ("one_label", 1));
        assert!(report.files[0].unread.is_empty(), "{report}");
    }

    /// Protects: a missing label, a label of another type and a conversation without an answer are refused.
    #[test]
    fn labels_and_answers_are_checked() {
        let refused = |row: Value| read(&[row]).unwrap_err().to_string();
        let said = refused(json!({"prompt": "q", "completion": "a"}));
        assert!(said.contains("\"completion\" without \"label\""), "{said}");
        let said = refused(json!({"prompt": "q", "completion": "a", "label": "yes"}));
        assert!(said.contains("\"label\" is \"yes\"; expected true"), "{said}");
        let said = refused(json!({"messages": [{"role": "user", "content": "q"}], "label": true}));
        assert!(said.contains("ends with the user's turn"), "{said}");
    }
}
