//! Prompts without answers, with the other columns of their records, for on-policy training.

use std::path::PathBuf;

use super::asked::{PromptColumns, to_answer};
use super::columns::Columns;
use super::completions::answers_of;
use super::conversation::Content;
use super::load::{Found, ReadOptions, ReadRow, Reader, Record, Refusal, load};
use super::preference::{read_pair, refuse_template_columns};
use super::report::{Origin, ProblemKind, Report};
use super::schema::Schema;
use crate::error::Result;

/// A prompt and the other columns of its record.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The file and line of the record.
    pub origin: Origin,
    /// The prompt.
    pub prompt: Content,
    /// The record's other columns as they are in the file, for reward functions.
    pub columns: Record,
}

/// Reads prompts from files and folders, in any format of [`records`](super::records).
///
/// A prompt is text or turns in `prompt`, `question`, `instruction` or `messages`, optionally with `system`
/// and `history` columns. Pairs that contain their prompt are read as well.
///
/// # Errors
/// Fails in the same cases as [`load_preferences`](super::preference::load_preferences).
pub fn load_prompts(paths: &[PathBuf], options: impl Into<ReadOptions>) -> Result<(Vec<Prompt>, Report)> {
    let options = options.into();
    load(paths, &options, &mut Prompts { named: options.columns.clone() })
}

struct Prompts {
    named: Columns,
}

impl Reader for Prompts {
    type Row = Prompt;

    fn schema_of(&self, record: &Record) -> Result<Schema, String> {
        Schema::of_prompt(record)
    }

    fn read(&mut self, found: Found<'_>, out: &mut Vec<ReadRow<Prompt>>) {
        let origin = found.origin.clone();
        out.push((origin, read_prompt(found, &self.named)));
    }
}

/// Reads a record whose schema is known.
fn read_prompt(found: Found<'_>, named: &Columns) -> Result<Prompt, Refusal> {
    let Found { schema, record, source, origin } = found;
    let malformed = |message| (ProblemKind::Malformed, message);
    let asked = PromptColumns::of(record).map_err(malformed)?;
    let prompt = match schema {
        Schema::Prompts => asked.content(&["instruction"])?,
        schema if schema.is_pair() && !schema.is_many() => {
            let [chosen, _] = answers_of(&read_pair(schema, record, origin.clone())?);
            chosen.prompt
        }
        other => {
            return Err((ProblemKind::Unsupported, format!("{other}; expected a record with one prompt")));
        }
    };
    let Some(prompt) = prompt.filter(|prompt| !prompt.is_blank()) else {
        return Err((ProblemKind::Malformed, "the prompt is empty; expected a question".to_owned()));
    };
    if let Content::Messages(turns) = &prompt {
        refuse_template_columns(record)?;
        to_answer(turns)?;
    }
    let read: Vec<&str> = asked.columns().collect();
    let mut columns = source.clone();
    columns.retain(|own, _| !read.contains(&named.known(own)));
    Ok(Prompt { origin, prompt, columns })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::data::conversation::Message;
    use crate::data::preference::Strictness;
    use crate::data::survey::testing::file_of;

    fn read(rows: &[Value], options: impl Into<ReadOptions>) -> Result<(Vec<Prompt>, Report)> {
        let file = file_of(rows);
        load_prompts(&[file.path().to_path_buf()], options)
    }

    /// Protects: a prompt is found in every documented form, and all other columns are kept unchanged.
    #[test]
    fn prompts_keep_their_other_columns() {
        let user = |said: &str| Content::Messages(vec![Message::new("user", said)]);
        let turn = json!({"role": "user", "content": "q"});
        for (row, prompt, columns) in [
            (
                json!({"prompt": "q", "solution": "7", "n": 7}),
                Content::Text("q".into()),
                json!({"solution": "7", "n": 7}),
            ),
            (
                json!({"question": "q", "answer": [1, null]}),
                Content::Text("q".into()),
                json!({"answer": [1, null]}),
            ),
            (json!({"instruction": "q", "input": "x", "id": 1}), user("q\nx"), json!({"id": 1})),
            (json!({"messages": [turn], "tests": {"a": 1}}), user("q"), json!({"tests": {"a": 1}})),
            (
                json!({"chosen": [turn, {"role": "assistant", "content": "a"}],
                       "rejected": [turn, {"role": "assistant", "content": "b"}], "id": 2}),
                user("q"),
                json!({"chosen": [turn, {"role": "assistant", "content": "a"}],
                       "rejected": [turn, {"role": "assistant", "content": "b"}], "id": 2}),
            ),
        ] {
            let (rows, report) = read(std::slice::from_ref(&row), Strictness::Refuse).unwrap();
            assert_eq!(
                (&rows[0].prompt, Value::Object(rows[0].columns.clone())),
                (&prompt, columns),
                "{row}"
            );
            assert!(report.findings.is_empty(), "{report}");
        }
    }

    /// Protects: a column named by the user is the prompt, and no copy of it remains among the others.
    #[test]
    fn a_named_prompt_is_no_other_column() {
        let mut options = ReadOptions::default();
        options.columns.name("prompt", "problem").unwrap();
        let (rows, _) = read(&[json!({"problem": "q", "answer": "4"})], options).unwrap();
        assert_eq!(rows[0].prompt, Content::Text("q".into()));
        assert_eq!(Value::Object(rows[0].columns.clone()), json!({"answer": "4"}));
    }

    /// Protects: a record without a prompt, or with a prompt that is already answered, is refused with a
    /// message.
    #[test]
    fn what_cannot_be_answered_is_refused() {
        let refused = |row: Value| read(&[row], Strictness::Refuse).unwrap_err().to_string();
        let said = refused(json!({"text": "x"}));
        assert!(said.contains("no prompt (keys: text)"), "{said}");
        let said = refused(
            json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}),
        );
        assert!(said.contains("ends with the assistant's turn"), "{said}");
        assert!(refused(json!({"prompt": " "})).contains("the prompt is empty"));
    }
}
