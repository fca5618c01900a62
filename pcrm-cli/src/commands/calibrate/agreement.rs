//! A column that holds the share of annotators who prefer the chosen answer.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use pcrm_core::data::encode::EncodedPair;
use pcrm_core::data::records::Records;
use serde_json::{Map, Value};

/// Reads the share of every pair's record from the column `field`, or from a JSON pointer (`/votes/share`).
///
/// # Errors
/// Fails, with file and line, if a record lacks the column, a value is not a share, a record has several pairs,
/// or several records begin on one line.
pub fn shares<'a>(
    files: &[PathBuf],
    field: &str,
    pairs: impl Iterator<Item = EncodedPair<'a>>,
) -> Result<Vec<f32>> {
    let mut values: HashMap<(PathBuf, u64), Option<Value>> = HashMap::new();
    for file in files {
        // Reading the pairs reported broken records.
        for (line, record) in Records::open(file)?.flatten() {
            let value = at(record, field);
            // Two records on one line cannot be told apart.
            values.entry((file.clone(), line)).and_modify(|value| *value = None).or_insert(Some(value));
        }
    }
    let mut seen = HashMap::new();
    let share = |pair: EncodedPair<'_>| {
        let origin = pair.origin;
        let place = (origin.file.to_path_buf(), origin.line);
        let here = || format!("{origin}: --agreement-field {field}");
        if let Some(other) = seen.insert(place.clone(), pair.row) {
            bail!("{}: one share for pairs {other} and {}; expected one record per pair", here(), pair.row);
        }
        let twice = files.iter().filter(|file| **file == place.0).count() > 1;
        let value = values.get(&place).with_context(|| format!("{}: no such record any more", here()))?;
        let value = value.as_ref().with_context(|| match twice {
            true => format!("{}: the file is given twice; expected every file once", here()),
            false => format!(
                "{}: several records begin on this line, and their shares cannot be told apart; expected one \
                 record per line",
                here()
            ),
        })?;
        let share = value.as_f64().with_context(|| match value {
            Value::Null => format!("{}: missing; expected a share from 0 to 1", here()),
            other => format!("{}: found {other}, expected a share from 0 to 1", here()),
        })?;
        ensure!((0.0..=1.0).contains(&share), "{}: found {share}, expected a share from 0 to 1", here());
        Ok(share as f32)
    };
    pairs.map(share).collect()
}

/// Returns the column that `field` names, or in which its JSON pointer begins.
pub fn column(field: &str) -> String {
    match field.strip_prefix('/') {
        Some(pointer) => pointer.split('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~"),
        None => field.to_owned(),
    }
}

fn at(mut record: Map<String, Value>, field: &str) -> Value {
    match field.starts_with('/') {
        true => Value::Object(record).pointer(field).cloned().unwrap_or_default(),
        false => record.remove(field).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
