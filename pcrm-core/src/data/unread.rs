//! Columns that hold text but are not read: if answers have no prompt, one of them is probably the prompt.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::asked::is_turns;
use super::load::Record;
use super::report::Origin;
use super::schema::Schema;
use super::survey::{Finding, Severity, Tally};

/// Words in the names of columns that hold prompts.
const PROMPT_LIKE: [&str; 26] = [
    "prompt",
    "prompts",
    "question",
    "questions",
    "query",
    "instruction",
    "instructions",
    "input",
    "inputs",
    "context",
    "system",
    "history",
    "message",
    "messages",
    "conversation",
    "conversations",
    "dialogue",
    "dialog",
    "post",
    "request",
    "user",
    "passage",
    "document",
    "documents",
    "article",
    "problem",
];

/// Words in the names of columns that hold metadata.
const ABOUT: [&str; 46] = [
    "id",
    "ids",
    "uuid",
    "hash",
    "key",
    "idx",
    "index",
    "source",
    "dataset",
    "datasets",
    "origin",
    "subset",
    "split",
    "category",
    "categories",
    "type",
    "domain",
    "lang",
    "language",
    "model",
    "models",
    "annotator",
    "labeller",
    "labeler",
    "worker",
    "status",
    "tag",
    "tags",
    "version",
    "date",
    "time",
    "timestamp",
    "url",
    "license",
    "label",
    "score",
    "rating",
    "name",
    "meta",
    "labelling",
    "labeling",
    "annotation",
    "judge",
    "generation",
    "raw",
    "rationale",
];

/// The minimum number of leading words that both answers of a pair share if they contain their prompt.
const PROMPT_WORDS: usize = 3;

/// Counts over the records of a file.
#[derive(Debug, Default)]
pub(super) struct Unread {
    rows: usize,
    /// Rows with answers but no prompt.
    bare: usize,
    columns: BTreeMap<String, Column>,
    /// Columns in file order.
    order: Vec<String>,
}

#[derive(Debug, Default)]
struct Column {
    /// Rows whose column holds text or turns.
    texts: Tally,
    /// Texts that contain a space.
    prose: usize,
    /// Texts that also appear in the columns that are read.
    contained: usize,
    distinct: HashSet<u64>,
}

impl Unread {
    /// Counts the columns of a record under the names of its schema.
    pub(super) fn see(&mut self, schema: Schema, record: &Record, origin: &Origin) {
        self.rows += 1;
        let read = schema.reads(record);
        self.bare += usize::from(is_bare(schema, record));
        let mut seen: Option<String> = None;
        for (name, value) in record {
            if read.contains(&name.as_str()) || is_empty(value) {
                continue;
            }
            if !self.columns.contains_key(name) {
                self.order.push(name.clone());
            }
            let column = self.columns.entry(name.clone()).or_default();
            let text = match value {
                Value::String(text) => text.clone(),
                other if is_turns(other) || has_word(name, &PROMPT_LIKE) => said(other),
                _ => continue,
            };
            if text.trim().is_empty() {
                continue;
            }
            column.texts.add(origin);
            let prose = text.trim().contains(char::is_whitespace);
            if !prose && !has_word(name, &PROMPT_LIKE) {
                continue;
            }
            column.prose += usize::from(prose);
            column.distinct.insert(xxh3_64(text.as_bytes()));
            let all = seen.get_or_insert_with(|| {
                read.iter().filter_map(|key| record.get(*key)).map(said).collect::<Vec<_>>().join("\n")
            });
            let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
            column.contained +=
                usize::from(all.contains(text.trim()) || (!value.is_string() && all.contains(last)));
        }
    }

    /// Returns the columns that are not read, in file order.
    pub(super) fn names(&self) -> Vec<String> {
        self.order.clone()
    }

    /// Returns the columns that may be prompts; those with a prompt-like name come first.
    fn suspects(&self, like_prompts_alone: bool) -> Vec<&str> {
        let mut suspects: Vec<(bool, &str)> = Vec::new();
        for name in &self.order {
            let column = &self.columns[name];
            let like = has_word(name, &PROMPT_LIKE) && !has_word(name, &ABOUT);
            let text = column.texts.count;
            let prose = 2 * column.prose > text && !has_word(name, &ABOUT);
            let varies = text == 1 || column.distinct.len() > if like { 1 } else { text / 2 };
            let elsewhere = 2 * column.contained >= text;
            if text > 0 && varies && !elsewhere && (like || (prose && !like_prompts_alone)) {
                suspects.push((!like, name));
            }
        }
        suspects.sort_by_key(|(unlike, _)| *unlike);
        suspects.into_iter().map(|(_, name)| name).collect()
    }

    /// Returns the reason to refuse the file if its answers have no prompt and an unread column may hold it.
    pub(super) fn refusal(&self) -> Option<String> {
        let suspects = if 2 * self.bare > self.rows { self.suspects(false) } else { Vec::new() };
        let first = suspects.first()?;
        let others = match suspects.len() {
            1 => String::new(),
            _ => format!(" (nor are {})", suspects[1..].join(", ")),
        };
        Some(format!(
            "the answers have no prompt, and the column {first:?} is not read{others}; if it is the prompt, \
             pass --prompt-field {first}; if the answers contain their prompts, choose the schema with \
             --schema standard_implicit"
        ))
    }

    /// Returns a finding for each unread column whose name is prompt-like and whose values vary.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let finding = |name: &str| {
            let column = &self.columns[name];
            let found = format!(
                "the column {name:?} is not read, and its texts appear in no column that is \
                                 read"
            );
            let advice = "If the answers depend on it, name it with --prompt-field, or with --field \
                          system=COLUMN for a system message; otherwise remove the column";
            Finding::new("unread_column", Severity::Warning, found, advice).tallied(&column.texts)
        };
        self.suspects(true).into_iter().map(finding).collect()
    }
}

/// Returns true if a word of the name is in `words`: `user_prompt` has the words `user` and `prompt`.
fn has_word(name: &str, words: &[&str]) -> bool {
    let name = name.to_lowercase();
    name.split(|c: char| !c.is_alphanumeric()).any(|word| words.contains(&word))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Returns all texts in a value.
fn said(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(said).collect::<Vec<_>>().join("\n"),
        Value::Object(fields) => {
            let texts = fields.iter().filter(|(key, _)| !matches!(key.as_str(), "role" | "from"));
            texts.map(|(_, value)| said(value)).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// Returns true if a pair's answers have no prompt, neither in a column nor as a common beginning.
fn is_bare(schema: Schema, record: &Record) -> bool {
    let (chosen, rejected) = match schema {
        Schema::StandardImplicit | Schema::ConversationalImplicit => ("chosen", "rejected"),
        Schema::Labelled => {
            let asked = super::asked::PromptColumns::of(record).is_ok_and(|asked| asked.prompt.is_some());
            match super::schema::LabelKeys::of(record) {
                Some(keys) if !asked => keys.answers,
                _ => return false,
            }
        }
        _ => return false,
    };
    match (record.get(chosen), record.get(rejected)) {
        (Some(Value::String(chosen)), Some(Value::String(rejected))) => {
            let shared = chosen.split_whitespace().zip(rejected.split_whitespace());
            shared.take_while(|(left, right)| left == right).count() < PROMPT_WORDS
        }
        (Some(Value::Array(chosen)), Some(Value::Array(_))) => {
            chosen.first().is_some_and(|turn| turn["role"] == "assistant")
        }
        _ => false,
    }
}
