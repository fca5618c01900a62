//! Records of data files as JSON objects, with access to columns by name.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use pcrm_core::data::records::Records;
use pcrm_core::data::report::Origin;
use serde_json::{Map, Value};

/// A record of a file, as a JSON object.
pub type Record = Map<String, Value>;

/// Reads the records of a file with the same places as the data loader's rows. Broken records are skipped,
/// since the data loader reports them.
///
/// # Errors
/// Fails if the file cannot be opened.
pub fn records(path: &Path) -> Result<impl Iterator<Item = (Origin, Record)>> {
    let file: Arc<Path> = Arc::from(path);
    let placed = move |(record, read): (u64, pcrm_core::Result<_>)| {
        let (line, fields) = read.ok()?;
        Some((Origin { file: file.clone(), line, record }, fields))
    };
    Ok((1..).zip(Records::open(path)?).filter_map(placed))
}

/// Reads all records of a file with the same places as the data loader's rows. A broken record is represented
/// by its error.
///
/// # Errors
/// Fails if the file cannot be opened or cannot be read to its end.
pub fn all_records(path: &Path) -> Result<Vec<(Origin, pcrm_core::Result<Record>)>> {
    let file: Arc<Path> = Arc::from(path);
    let placed = |(record, read): (u64, pcrm_core::Result<(u64, Record)>)| -> Result<_> {
        let (line, read) = match read {
            Ok((line, fields)) => (line, Ok(fields)),
            Err(error) => match error {
                pcrm_core::Error::Line { line, .. } => (line, Err(error)),
                error => return Err(error.into()),
            },
        };
        Ok((Origin { file: file.clone(), line, record }, read))
    };
    (1..).zip(Records::open(path)?).map(placed).collect()
}

/// Finds a column by name, or a value by JSON pointer (a name that begins with /).
pub fn find<'a>(record: &'a Record, field: &str) -> Option<&'a Value> {
    let Some(path) = field.strip_prefix('/') else { return record.get(field) };
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let value = record.get(&first.replace("~1", "/").replace("~0", "~"))?;
    if rest.is_empty() { Some(value) } else { value.pointer(&format!("/{rest}")) }
}

/// Returns the column that `field` names, or that its JSON pointer begins in.
pub fn column(field: &str) -> String {
    match field.strip_prefix('/') {
        Some(pointer) => pointer.split('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~"),
        None => field.to_owned(),
    }
}

/// Finds the column named by an option; the error lists the keys of the record.
pub fn named<'a>(record: &'a Record, field: &str, option: &str) -> Result<&'a Value> {
    match find(record, field) {
        Some(value) => Ok(value),
        None => bail!("no {field:?}, named by {option} (keys: {})", keys(record)),
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

    /// Protects: names and pointers find the same values, including escapes, and a dot does not separate
    /// names.
    #[test]
    fn fields_are_names_or_pointers() {
        let record = record(json!({"scores": {"a.b": 1, "c/d": [2, 3]}, "x": 4}));
        assert_eq!(find(&record, "x"), find(&record, "/x"));
        assert_eq!(find(&record, "/scores/a.b"), Some(&json!(1)));
        assert_eq!(find(&record, "/scores/c~1d/1"), Some(&json!(3)));
        assert_eq!(find(&record, "scores.a"), None);
    }

    /// Protects: a JSON pointer reads the column in which it begins.
    #[test]
    fn pointers_begin_in_a_column() {
        for (field, expected) in
            [("share", "share"), ("/votes/share", "votes"), ("/a~1b~0/c", "a/b~"), ("/votes", "votes")]
        {
            assert_eq!(column(field), expected, "{field}");
        }
    }
}
