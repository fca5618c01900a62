//! Rows to score: pairs and single texts.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::asked::{PromptColumns, beside};
use super::load::{Found, ReadOptions, ReadRow, Reader, Record, Refusal, load};
use super::preference::{
    AnswerSet, Content, Origin, PairFindings, ProblemKind, Report, content_at, read_pair,
    refuse_template_columns,
};
use super::schema::{Schema, completion_key};
use super::survey::Finding;
use crate::error::Result;

/// A record to score.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Two answers: a set with one comparison.
    Pair(AnswerSet),
    /// One text.
    Single {
        /// The file and line of the record.
        origin: Origin,
        /// The prompt; `None` if the text contains it.
        prompt: Option<Content>,
        /// The text or the answer.
        text: Content,
    },
    /// A record that cannot be scored.
    LeftOut {
        /// The file and line of the record.
        origin: Origin,
        /// The fault and the expected content.
        reason: String,
    },
}

/// A record to score, with the JSON object it was read from.
pub type SourceRow = (Row, Map<String, Value>);

impl Row {
    /// Returns the file and line of the record.
    pub fn origin(&self) -> &Origin {
        match self {
            Self::Pair(pair) => &pair.origin,
            Self::Single { origin, .. } | Self::LeftOut { origin, .. } => origin,
        }
    }
}

/// Reads records to score, each with its JSON object, which output can include.
///
/// Ties and identical answers are kept, because they can be scored. A record that cannot be scored becomes a
/// [`Row::LeftOut`], so that rows match records one to one; its object is empty if it could not be read.
///
/// # Errors
/// Fails in the same cases as [`load_preferences`](super::preference::load_preferences).
pub fn load_rows(paths: &[PathBuf], options: impl Into<ReadOptions>) -> Result<(Vec<SourceRow>, Report)> {
    load(paths, &options.into(), &mut Rows::default())
}

/// Reader of rows; holds the object of a refused record until its placeholder takes it.
#[derive(Default)]
struct Rows {
    refused: Option<Map<String, Value>>,
    findings: PairFindings,
}

impl Reader for Rows {
    type Row = SourceRow;

    fn schema_of(&self, record: &Record) -> Result<Schema, String> {
        Schema::of_row(record)
    }

    fn read(&mut self, found: Found<'_>, out: &mut Vec<ReadRow<SourceRow>>) {
        self.findings.see_record(found.schema, found.record, &found.origin);
        let row = read_row(found.schema, found.record, found.origin.clone());
        self.refused = row.is_err().then(|| found.source.clone());
        if let Ok(Row::Pair(pair)) = &row {
            pair.pairs().for_each(|pair| self.findings.see(pair));
        }
        out.push((found.origin, row.map(|row| (row, found.source.clone()))));
    }

    fn placeholder(&mut self, origin: &Origin, message: &str) -> Option<SourceRow> {
        let row = Row::LeftOut { origin: origin.clone(), reason: message.to_owned() };
        Some((row, self.refused.take().unwrap_or_default()))
    }

    fn end_file(&mut self, _out: &mut Vec<ReadRow<SourceRow>>) -> Result<(), String> {
        self.findings.end_file()
    }

    fn findings(&self) -> Vec<Finding> {
        self.findings.findings()
    }
}

fn read_row(schema: Schema, record: &Record, origin: Origin) -> Result<Row, Refusal> {
    if schema.is_many() {
        let message = format!(
            "{schema}: more than two answers per record; expected pairs, as written by `pcrm data convert`"
        );
        return Err((ProblemKind::Unsupported, message));
    }
    if schema.is_pair() {
        return Ok(Row::Pair(read_pair(schema, record, origin)?));
    }
    let malformed = |message| (ProblemKind::Malformed, message);
    let asked = PromptColumns::of(record).map_err(malformed)?;
    let (prompt, text) = match schema {
        Schema::Messages => (None, Content::Messages(asked.conversation()?)),
        Schema::PromptCompletion | Schema::ConversationalPromptCompletion => {
            let answer = content_at(record, completion_key(record).unwrap_or("completion"))?;
            beside(asked.content(&[])?, answer)?
        }
        Schema::Instruction => {
            let answer = record.get("output").and_then(Value::as_str).unwrap_or_default();
            beside(Some(Content::Messages(asked.as_turns()?)), Content::Text(answer.to_owned()))?
        }
        _ => (None, content_at(record, "text")?),
    };
    if text.is_conversation() {
        refuse_template_columns(record)?;
    }
    if text.is_blank() {
        return Err((ProblemKind::EmptyAnswer, "the text to score is empty".to_owned()));
    }
    Ok(Row::Single { origin, prompt, text })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::report::Strictness;
    use super::*;

    fn rows(lines: &[&str], strictness: Strictness) -> Result<(Vec<SourceRow>, Report)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(lines.join("\n").as_bytes()).unwrap();
        load_rows(&[file.path().to_path_buf()], strictness)
    }

    /// Scoring needs no preference: ties and identical answers are rows, and each keeps its object.
    #[test]
    fn pairs_without_a_preference_can_be_scored() {
        let line = r#"{"prompt": "q", "chosen": "a", "rejected": "a", "margin": 0, "id": 7}"#;
        let (rows, report) = rows(&[line], Strictness::Refuse).unwrap();
        assert!(matches!(&rows[0].0, Row::Pair(pair) if pair.comparisons[0].margin == Some(0.0)));
        assert_eq!(rows[0].1["id"], 7);
        assert_eq!((report.rows, report.kept), (1, 1));
    }

    /// Single texts are read from each documented form.
    #[test]
    fn single_texts_are_read() {
        let (prompted, _) = rows(&[r#"{"question": "q", "answer": "a"}"#], Strictness::Refuse).unwrap();
        let Row::Single { prompt, text, origin } = &prompted[0].0 else { panic!("a pair") };
        assert_eq!((prompt, text), (&Some(Content::Text("q".into())), &Content::Text("a".into())));
        assert_eq!(origin.line, 1);
        let (chat, _) = rows(
            &[r#"{"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}"#],
            Strictness::Refuse,
        )
        .unwrap();
        assert!(matches!(&chat[0].0, Row::Single { prompt: Some(Content::Messages(_)), .. }));
    }

    /// Protects: a record of another layout in the middle of a file is left out with its reason.
    #[test]
    fn mixed_files_are_reported() {
        let lines = [r#"{"text": "a"}"#, r#"{"prompt": "q", "response": "a"}"#, r#"{"text": " "}"#];
        let (kept, report) = rows(&lines, Strictness::Skip).unwrap();
        assert_eq!((kept.len(), report.kept), (3, 1));
        assert!(kept[1..].iter().all(|(row, _)| matches!(row, Row::LeftOut { .. })));
        assert_eq!((kept[1].1.len(), kept[2].1["text"].as_str()), (0, Some(" ")));
        assert!(report.problems[0].message.contains("mixed schemas: prompts and completions"), "{report:?}");
        assert_eq!(report.counts()[&ProblemKind::EmptyAnswer], 1);
        let refused = rows(&lines, Strictness::Refuse).unwrap_err().to_string();
        assert!(refused.contains(":2: mixed schemas"), "{refused}");
    }
}
