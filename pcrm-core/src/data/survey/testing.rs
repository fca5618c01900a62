//! Test fixtures of the surveys.

use std::path::Path;

use serde_json::Value;

use super::Finding;
use crate::data::answer_set::AnswerSet;
use crate::data::encode::{EncodeOptions, EncodedSet, encode_sets};
use crate::data::preference::{Strictness, load_preferences};
use crate::data::report::Report;
use crate::text::Tokenizer;

/// Loads a golden tokenizer: `plain`, `bos` or `qwen2`.
pub fn tokenizer(name: &str) -> Tokenizer {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/text")).join(name);
    Tokenizer::from_dir(&dir).unwrap()
}

/// Loads a golden tokenizer with fields of its `tokenizer_config.json` changed, or removed if null.
pub fn changed(name: &str, fields: &[(&str, Value)], template: Option<&str>) -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    tokenizer(name).save_to(dir.path()).unwrap();
    let path = dir.path().join("tokenizer_config.json");
    let mut config: serde_json::Map<String, Value> =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (key, value) in fields {
        match value {
            Value::Null => config.remove(*key),
            value => config.insert((*key).to_owned(), value.clone()),
        };
    }
    std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
    if let Some(template) = template {
        std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    }
    Tokenizer::from_dir(dir.path()).unwrap()
}

/// Writes the records to a file of JSON lines.
pub fn file_of(records: &[Value]) -> tempfile::NamedTempFile {
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    std::fs::write(file.path(), lines.join("\n")).unwrap();
    file
}

/// Reads sets from records.
pub fn read(records: &[Value]) -> (Vec<AnswerSet>, Report) {
    load_preferences(&[file_of(records).path().to_path_buf()], Strictness::Skip).unwrap()
}

/// Reads sets and encodes them without a limit, with their padding.
pub fn encoded(records: &[Value], tokenizer: &Tokenizer) -> (Vec<AnswerSet>, Vec<EncodedSet>) {
    let (sets, _) = read(records);
    let (encoded, _) = encode_sets(&sets, tokenizer, &EncodeOptions::new(None)).unwrap();
    (sets, encoded)
}

/// Returns the finding with this code.
pub fn find<'a>(findings: &'a [Finding], code: &str) -> Option<&'a Finding> {
    findings.iter().find(|finding| finding.code == code)
}
