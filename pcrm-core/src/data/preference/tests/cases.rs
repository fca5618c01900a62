//! Small files with common layouts and faults, each with the expected result.
//!
//! A folder holds files and `expected.json`: a list of cases, each with `data` and the expectations: the
//! `schema`, the number of `rows`, the `pairs` (prompt, chosen, rejected) or the number `kept`, the number
//! `left_out` by reason, the `findings` by code, words that the report `says`, or words of the error that
//! `refuses` the data.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::data::columns::Columns;

/// Reads a case's data and returns every value that an expectation may cover.
fn outcome(folder: &Path, case: &Value) -> Value {
    let names: Vec<&str> = match &case["data"] {
        Value::String(name) => vec![name],
        other => other.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    let mut columns = Columns::of(case["as"].as_str().map(|name| name.parse().unwrap()));
    for (known, own) in case["fields"].as_object().into_iter().flatten() {
        columns.name(known, own.as_str().unwrap()).unwrap();
    }
    let score_margins = case["score_margins"] == true;
    let here = format!("{}/", folder.display());
    match load_preferences(&paths, ReadOptions { columns, score_margins, ..ReadOptions::default() }) {
        Err(error) => json!({"refuses": error.to_string().replace(&here, "")}),
        Ok((sets, report)) => {
            let counts: serde_json::Map<String, Value> =
                report.counts().into_iter().map(|(kind, count)| (kind.to_string(), json!(count))).collect();
            let texts = |pair: Preference<'_>| json!([pair.prompt, pair.chosen, pair.rejected]);
            json!({
                "schema": report.schema.map(Schema::name),
                "rows": report.rows,
                "kept": report.kept,
                "pairs": pairs(&sets).map(texts).collect::<Vec<_>>(),
                "margins": pairs(&sets).map(|pair| pair.margin).collect::<Vec<_>>(),
                "left_out": counts,
                "findings": report.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(),
                "says": report.to_string().replace(&here, ""),
            })
        }
    }
}

fn check(folder: &Path, case: &Value) -> Result<(), String> {
    let found = outcome(folder, case);
    for (key, expected) in case.as_object().unwrap() {
        let fits = match key.as_str() {
            "data" | "as" | "fields" | "score_margins" | "repository" | "columns" | "note" => true,
            "says" | "refuses" => {
                let said = found[key].as_str().unwrap_or_default();
                expected.as_array().unwrap().iter().all(|words| said.contains(words.as_str().unwrap()))
                    && found.get(key).is_some()
            }
            _ => found[key] == *expected,
        };
        if !fits {
            return Err(format!("{}: {key}\n  expected {expected}\n  found {found}", case["data"]));
        }
    }
    Ok(())
}

/// Returns the cases of a folder under `tests/golden`.
fn cases(folder: &Path) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap()
}

fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden")).join(name)
}

/// Protects: files from public bug reports are read as their authors intended, or refused with their format.
#[test]
fn wild_files_are_read_or_refused() {
    let folder = golden("wild/data");
    let wrong: Vec<String> = cases(&folder).iter().filter_map(|case| check(&folder, case).err()).collect();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// Protects: the layouts of the Hub's preference sets, and the table of them in the docs, which is generated
/// from these cases.
#[test]
fn layouts_of_the_hub_are_understood() {
    let folder = golden("hub-layouts");
    let cases = cases(&folder);
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(&folder, case).err()).collect();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    let page = std::fs::read_to_string(golden("../../docs/src/hub-sets.md")).unwrap();
    let rows = cases.iter().map(|case| table_row(&folder, case));
    let missing: Vec<String> = rows.filter(|row| !page.contains(row)).collect();
    assert!(
        missing.is_empty(),
        "docs/src/hub-sets.md lacks these rows, or has others:\n{}",
        missing.join("\n")
    );
}

/// Returns a data set's row of the table in the docs: its name, the columns that are read, and the schema or
/// the reason for the refusal.
fn table_row(folder: &Path, case: &Value) -> String {
    let path = folder.join(case["data"].as_str().unwrap());
    let note = case["note"].as_str().map_or(String::new(), |note| format!("; {note}"));
    let (read, schema) =
        match crate::data::survey::file_schema::file_schema(&path, &Columns::default()).unwrap() {
            Some(found) => {
                let line = std::fs::read_to_string(&path).unwrap();
                let record: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
                let unread: Vec<&str> = found.unread.iter().map(|column| column.name.as_str()).collect();
                let read = record.as_object().unwrap().keys().filter(|key| !unread.contains(&key.as_str()));
                (read.map(|key| format!("`{key}`")).collect::<Vec<_>>(), format!("`{}`", found.schema.name()))
            }
            None => (Vec::new(), "refused".to_owned()),
        };
    format!("| {} | {} | {schema}{note} |", case["repository"].as_str().unwrap(), read.join(", "))
}
