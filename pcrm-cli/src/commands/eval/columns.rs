//! Columns of the raw records that the data loaders do not return.

use std::collections::HashMap;

use anyhow::{Context, Result};
use pcrm_core::data::preference::AnswerSet;
use pcrm_core::data::report::Origin;
use pcrm_core::data::scored;
use pcrm_core::data::survey::Tally;
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
    /// The records whose scores are a model's.
    by_model: Tally,
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
            if columns.judged.is_none()
                && scored::PAIR.iter().all(|name| record.get(*name).is_some_and(Value::is_number))
            {
                self.by_model.add(origin);
            }
            // Rows of a file given twice are ambiguous.
            let place = self.known.entry(origin.clone());
            place.and_modify(|columns| *columns = None).or_insert(Some(columns));
        }
        Ok(())
    }

    /// Returns a note about scores that are not compared with the model's because `pcrm score` wrote them.
    pub fn note(&self) -> Option<String> {
        let first = self.by_model.first.as_ref()?;
        let [chosen, rejected] = scored::PAIR;
        Some(format!(
            "{chosen:?} and {rejected:?} hold a model's scores in {} of {} rows ({:?}; first: {first}); they are not \
             taken as scores of people",
            self.by_model.count,
            self.known.len(),
            scored::SCORED_BY
        ))
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
    let own = |name: &str| record.get(name).filter(|_| !scored::is_models(record, name));
    let number = |name: &str| own(name).and_then(Value::as_f64).filter(|score| score.is_finite());
    NAMES.iter().find_map(|(chosen, rejected)| Some((number(chosen)?, number(rejected)?)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    /// Protects: scores that `pcrm score` wrote are not taken as people's, and a note counts them; people's scores in
    /// the same row are.
    #[test]
    fn scores_of_a_model_are_not_those_of_people() {
        let scored =
            json!({"chosen_score": 1.5, "rejected_score": 0.5, "scored_by": "pcrm:rm@0123456789abcdef"});
        let (mut person, mut both) = (scored.clone(), scored.clone());
        person["scored_by"] = json!("annotator 7");
        (both["score_chosen"], both["score_rejected"]) = (json!(8), json!(5));
        let rows = [person, both, scored];
        let place = |line: u64| Origin { file: Path::new("x.jsonl").into(), line, record: line };
        let records: Vec<(Origin, pcrm_core::Result<Record>)> =
            (1..).zip(&rows).map(|(line, row)| (place(line), Ok(row.as_object().unwrap().clone()))).collect();
        let mut columns = ColumnsByOrigin::default();
        columns.add(&records, 0, &GivenFields::default(), &mut Keys::default()).unwrap();
        let judged = |line: u64| columns.at(&place(line)).unwrap().judged;
        assert_eq!([judged(1), judged(2), judged(3)], [Some((1.5, 0.5)), Some((8.0, 5.0)), None]);
        let note = columns.note().unwrap();
        assert!(
            note.contains("a model's scores in 1 of 3 rows") && note.contains("first: x.jsonl:3"),
            "{note}"
        );
    }
}
