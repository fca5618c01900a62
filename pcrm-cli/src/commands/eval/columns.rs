//! Columns of the raw records that the data loaders do not return.

use std::collections::HashMap;

use anyhow::{Context, Result};
use pcrm_core::data::preference::AnswerSet;
use pcrm_core::data::report::Origin;
use serde_json::Value;

use super::fields::{GivenFields, id};
use super::items::Keys;
use crate::record::Record;

/// The fields of a record besides its texts.
#[derive(Debug, Clone)]
pub struct Columns {
    /// The key of the row.
    pub key: String,
    /// The subset of the benchmark that the record belongs to.
    pub subset: Option<String>,
    /// The data's own scores of the preferred and the dispreferred answer.
    pub judged: Option<(f64, f64)>,
}

/// The columns of all records of some files.
#[derive(Debug, Default)]
pub struct ColumnsByOrigin {
    known: HashMap<Origin, Option<Columns>>,
}

impl ColumnsByOrigin {
    /// Adds a file's records that could be read; `before` is the number of records in the files before it.
    ///
    /// # Errors
    /// Fails, with file and line, if a named column is missing.
    pub fn add(
        &mut self,
        records: &[(Origin, pcrm_core::Result<Record>)],
        before: u64,
        fields: &GivenFields,
        keys: &mut Keys,
    ) -> Result<()> {
        for (origin, record) in records {
            let Ok(record) = record else { continue };
            let subset = fields.subset(record).with_context(|| origin.to_string())?;
            let key = keys.key(before + origin.record, subset.as_deref(), id(record).as_deref());
            let columns = Columns { key, subset, judged: judged(record) };
            // Rows of a file given twice are ambiguous.
            let place = self.known.entry(origin.clone());
            place.and_modify(|columns| *columns = None).or_insert(Some(columns));
        }
        Ok(())
    }

    /// Returns the columns of the record at this place, unless its file is given twice.
    pub fn at(&self, origin: &Origin) -> Option<&Columns> {
        self.known.get(origin)?.as_ref()
    }
}

/// Returns the number of every comparison within its record, from 1; `None` for the only one of a record.
pub fn within_records(sets: &[AnswerSet]) -> Vec<Option<usize>> {
    let mut numbers = Vec::new();
    for record in sets.chunk_by(|set, next| set.origin == next.origin) {
        match record.iter().map(|set| set.comparisons.len()).sum() {
            1 => numbers.push(None),
            count => numbers.extend((1..=count).map(Some)),
        }
    }
    numbers
}

fn judged(record: &Record) -> Option<(f64, f64)> {
    const NAMES: [(&str, &str); 4] = [
        ("score_chosen", "score_rejected"),
        ("chosen_score", "rejected_score"),
        ("chosen_gpt_score", "rejected_gpt_score"),
        ("chosen_rating", "rejected_rating"),
    ];
    let number = |name: &str| record.get(name).and_then(Value::as_f64).filter(|score| score.is_finite());
    NAMES.iter().find_map(|(chosen, rejected)| Some((number(chosen)?, number(rejected)?)))
}
