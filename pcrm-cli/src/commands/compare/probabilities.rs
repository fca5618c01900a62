//! Known probabilities of preferences, from a column of the data.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::encode::EncodedPair;

use crate::commands::eval::{named, records};

/// The probability that stands beside every pair.
///
/// # Errors
/// Files that cannot be read; a record without the column, or with anything but a number from 0 to 1, with file and
/// line.
pub fn of(pairs: &[EncodedPair], field: &str) -> Result<Vec<f64>> {
    let files: BTreeSet<PathBuf> = pairs.iter().map(|pair| pair.origin.file.to_path_buf()).collect();
    let mut known = HashMap::new();
    for file in files {
        for (line, record) in records(&file)? {
            known.insert((file.clone(), line), record);
        }
    }
    let probability = |pair: &EncodedPair| -> Result<f64> {
        let at = || pair.origin.to_string();
        let record = known.get(&(pair.origin.file.to_path_buf(), pair.origin.line)).with_context(at)?;
        let value = named(record, field, "--probability-field").with_context(at)?;
        let p = value.as_f64().filter(|p| (0.0..=1.0).contains(p));
        ensure!(
            p.is_some(),
            "{}: --probability-field {field}: found {value}, expected a number from 0 to 1",
            at()
        );
        Ok(p.unwrap_or_default())
    };
    pairs.iter().map(probability).collect()
}
