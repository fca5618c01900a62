//! Records of data files as JSON objects, and their columns by name.

use std::path::Path;

use anyhow::{Result, bail};
use pcrm_core::data::records::Records;
use serde_json::{Map, Value};

/// A record of a file: a JSON object.
pub type Record = Map<String, Value>;

/// Reads the records of a file, each with the line that it begins on. Broken records are left out: the loader
/// of the data reports them.
pub fn records(path: &Path) -> Result<Vec<(u64, Record)>> {
    let mut records = Vec::new();
    for record in Records::open(path)? {
        records.extend(record);
    }
    Ok(records)
}

/// Finds a column by its name, or a value by a JSON pointer (a name that begins with /).
pub fn find<'a>(record: &'a Record, field: &str) -> Option<&'a Value> {
    let Some(path) = field.strip_prefix('/') else { return record.get(field) };
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let value = record.get(&first.replace("~1", "/").replace("~0", "~"))?;
    if rest.is_empty() { Some(value) } else { value.pointer(&format!("/{rest}")) }
}

/// Finds the column that an option names; the error lists the keys of the record.
pub fn named<'a>(record: &'a Record, field: &str, option: &str) -> Result<&'a Value> {
    match find(record, field) {
        Some(value) => Ok(value),
        None => bail!("no {field:?}, which {option} names (keys: {})", keys(record)),
    }
}

/// Lists the keys of a record, for messages.
pub fn keys(record: &Record) -> String {
    record.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(value: Value) -> Record {
        let Value::Object(record) = value else { panic!("no object") };
        record
    }

    /// Protects: names and pointers find the same, escapes included, and a dot is no path.
    #[test]
    fn fields_are_names_or_pointers() {
        let record = record(json!({"scores": {"a.b": 1, "c/d": [2, 3]}, "x": 4}));
        assert_eq!(find(&record, "x"), find(&record, "/x"));
        assert_eq!(find(&record, "/scores/a.b"), Some(&json!(1)));
        assert_eq!(find(&record, "/scores/c~1d/1"), Some(&json!(3)));
        assert_eq!(find(&record, "scores.a"), None);
    }
}
