//! A column that holds the share of annotators who prefer the chosen answer.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use pcrm_core::data::encode::EncodedPair;
use pcrm_core::data::report::Origin;
use serde_json::Value;

use crate::record::{Record, records};

/// Reads the share of every pair's record from the column `field`, or from a JSON pointer (`/votes/share`).
///
/// # Errors
/// Fails, with file and line, if a record lacks the column, a value is not a share, a record has several pairs,
/// or a file is given twice.
pub fn shares<'a>(
    files: &[PathBuf],
    field: &str,
    pairs: impl Iterator<Item = EncodedPair<'a>>,
) -> Result<Vec<f32>> {
    let mut values: HashMap<Origin, Value> = HashMap::new();
    for file in files {
        for (origin, record) in records(file)? {
            let here = || format!("{origin}: --agreement-field {field}");
            let twice = values.contains_key(&origin);
            ensure!(!twice, "{}: the file is given twice; expected every file once", here());
            values.insert(origin, at(record, field));
        }
    }
    let mut seen = HashMap::new();
    let share = |pair: EncodedPair<'a>| {
        let origin = pair.origin;
        let here = || format!("{origin}: --agreement-field {field}");
        if let Some(other) = seen.insert(origin, pair.row) {
            bail!("{}: one share for pairs {other} and {}; expected one record per pair", here(), pair.row);
        }
        let value =
            values.get(origin).with_context(|| format!("{}: the record is gone from the file", here()))?;
        let share = value.as_f64().with_context(|| match value {
            Value::Null => format!("{}: missing; expected a share from 0 to 1", here()),
            other => format!("{}: found {other}, expected a share from 0 to 1", here()),
        })?;
        ensure!((0.0..=1.0).contains(&share), "{}: found {share}, expected a share from 0 to 1", here());
        Ok(share as f32)
    };
    pairs.map(share).collect()
}

fn at(mut record: Record, field: &str) -> Value {
    match field.starts_with('/') {
        true => Value::Object(record).pointer(field).cloned().unwrap_or_default(),
        false => record.remove(field).unwrap_or_default(),
    }
}
