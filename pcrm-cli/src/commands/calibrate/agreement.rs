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
/// Fails, with file and line, if a record lacks the column, a value is not a share, or a record has several
/// pairs.
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
        let value = values.get(&place).and_then(Option::as_ref).with_context(here)?;
        let share = value.as_f64().with_context(|| match value {
            Value::Null => format!("{}: missing; expected a share from 0 to 1", here()),
            other => format!("{}: found {other}, expected a share from 0 to 1", here()),
        })?;
        ensure!((0.0..=1.0).contains(&share), "{}: found {share}, expected a share from 0 to 1", here());
        Ok(share as f32)
    };
    pairs.map(share).collect()
}

fn at(mut record: Map<String, Value>, field: &str) -> Value {
    match field.starts_with('/') {
        true => Value::Object(record).pointer(field).cloned().unwrap_or_default(),
        false => record.remove(field).unwrap_or_default(),
    }
}
