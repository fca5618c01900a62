//! The columns that `pcrm score` writes to a row, and the refusal to replace those of the user.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use pcrm_core::data::scored::{self, SCORED_BY};
use pcrm_core::data::texts::{Row, SourceRow};
use pcrm_core::digest;
use serde_json::{Map, Value};

use crate::hub::CachedPath;
use crate::left_out;

/// The columns of one row.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// The columns of scores.
    scores: &'static [&'static str],
    /// The columns of token ids, one for each score.
    ids: &'static [&'static str],
    /// True if token ids are written.
    with_ids: bool,
}

impl Written {
    /// Returns the columns of a row; a row that could not be read counts as a pair if `paired`.
    pub fn of(row: &Row, paired: bool, with_ids: bool) -> Self {
        match row {
            Row::Single { .. } => Self { scores: &[scored::TEXT], ids: &["ids"], with_ids },
            Row::LeftOut { .. } if !paired => Self { scores: &[scored::TEXT], ids: &["ids"], with_ids },
            _ => Self { scores: &scored::PAIR, ids: &["chosen_ids", "rejected_ids"], with_ids },
        }
    }

    /// Removes what an earlier scoring wrote to these columns.
    pub fn clear(self, fields: &mut Map<String, Value>) {
        let ids: &[&str] = if self.with_ids || scored::scored_by(fields).is_some() { self.ids } else { &[] };
        for name in self.scores.iter().chain(ids).chain(&[left_out::COLUMN, SCORED_BY]) {
            fields.shift_remove(*name);
        }
    }

    /// Writes the score, and the ids if given, of the answer with this number.
    ///
    /// # Errors
    /// Fails if the score is not finite.
    pub fn write(
        self,
        fields: &mut Map<String, Value>,
        answer: usize,
        score: f32,
        ids: Option<Vec<u32>>,
    ) -> Result<()> {
        ensure!(score.is_finite(), "the score of a row is {score}: the model's weights are broken");
        // The shortest decimal that parses to the same f32.
        fields.insert(self.scores[answer].to_owned(), serde_json::from_str(&score.to_string())?);
        if let Some(ids) = ids {
            fields.insert(self.ids[answer].to_owned(), Value::from(ids));
        }
        Ok(())
    }

    /// Writes that the row has no score, and the reason.
    pub fn leave_out(self, fields: &mut Map<String, Value>, reason: String) {
        self.scores.iter().for_each(|name| drop(fields.insert((*name).to_owned(), Value::Null)));
        fields.insert(left_out::COLUMN.to_owned(), reason.into());
    }

    /// Returns the first column with a value that is not of an earlier scoring, or that would stay beside other
    /// scores, and the option that replaces it.
    fn taken(self, fields: &Map<String, Value>) -> Option<(&'static str, &'static str)> {
        let is_there = |name: &&'static str| fields.get(*name).is_some_and(|value| !value.is_null());
        let others = [left_out::COLUMN, SCORED_BY];
        match scored::scored_by(fields) {
            Some(_) if self.with_ids => None,
            Some(_) => self.ids.iter().copied().find(is_there).map(|name| (name, "--ids")),
            None => {
                let ids: &[&'static str] = if self.with_ids { self.ids } else { &[] };
                let mut columns = self.scores.iter().chain(ids).chain(&others).copied();
                columns.find(is_there).map(|name| (name, "--overwrite-scores"))
            }
        }
    }
}

/// Refuses rows with values in the columns to be written, unless an earlier scoring wrote them.
///
/// # Errors
/// Fails with the file, the line and the column of the first value that would be lost.
pub fn refuse_taken(rows: &[SourceRow], paired: bool, with_ids: bool) -> Result<()> {
    for (row, fields) in rows {
        let Some((name, option)) = Written::of(row, paired, with_ids).taken(fields) else { continue };
        let value = fields.get(name).map(Value::to_string).unwrap_or_default();
        let shown: String = value.chars().take(60).collect();
        let origin = row.origin();
        if option == "--ids" {
            bail!(
                "{origin}: {name:?} is {shown}, perhaps the token ids of an earlier scoring, which would stay \
                 beside the new scores; replace it with --ids, or remove the column"
            );
        }
        let other = match name {
            "chosen_score" => " (for example to \"score_chosen\", which is read as a person's score too)",
            "rejected_score" => " (for example to \"score_rejected\", which is read as a person's score too)",
            "score" => " (for example to \"human_score\")",
            _ => "",
        };
        bail!(
            "{origin}: {name:?} is {shown}, which pcrm score did not write and would replace; rename the \
             column{other}, or replace it with --overwrite-scores"
        );
    }
    Ok(())
}

/// Returns the mark of the rows that a model scores: its name, which is that of its folder or repository and not a
/// path, and its digest.
///
/// # Errors
/// Fails if a file of the model cannot be read.
pub fn mark(dir: &Path) -> Result<String> {
    let named = |dir: &Path| dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let folder = || named(dir).or_else(|| named(&dir.canonicalize().ok()?)).unwrap_or_default();
    let name = CachedPath::of(dir).map_or_else(folder, |cached| cached.repository);
    Ok(scored::mark(&name, &digest::with_base(dir)?))
}

#[cfg(test)]
mod tests {
    use pcrm_core::data::report::Origin;
    use serde_json::json;

    use super::*;

    const MARK: &str = "pcrm:rm@0123456789abcdef";

    fn record(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn left_out() -> Row {
        let origin = Origin { file: Path::new("x.jsonl").into(), line: 7, record: 3 };
        Row::LeftOut { origin, reason: "empty".to_owned() }
    }

    /// Protects: values of the user are refused in every column to be written, and in no other; null and what an
    /// earlier scoring wrote are not.
    #[test]
    fn columns_of_the_user_are_not_replaced() {
        let refused = |fields: Value, paired: bool, ids: bool| {
            refuse_taken(&[(left_out(), record(fields))], paired, ids).err().map(|error| error.to_string())
        };
        for (fields, paired, ids, expected) in [
            (json!({"chosen_score": null, "score": 8}), true, true, None),
            (json!({"chosen_score": 8, "score": 8}), false, false, Some("\"score\" is 8")),
            (json!({"rejected_score": 8}), true, false, Some("\"rejected_score\" is 8")),
            (json!({"chosen_score": 8, "scored_by": MARK}), true, false, None),
            (
                json!({"chosen_score": 8, "scored_by": "annotator 7"}),
                true,
                false,
                Some("\"chosen_score\" is 8"),
            ),
            (json!({"scored_by": "annotator 7"}), true, false, Some("\"scored_by\" is \"annotator 7\"")),
            (json!({"left_out": true}), true, false, Some("\"left_out\" is true")),
            (json!({"chosen_ids": [1]}), true, false, None),
            (json!({"chosen_ids": [1]}), true, true, Some("\"chosen_ids\" is [1]")),
            (json!({"chosen_ids": [1], "scored_by": MARK}), true, true, None),
            (json!({"chosen_ids": [1], "scored_by": MARK}), true, false, Some("replace it with --ids")),
        ] {
            let said = refused(fields.clone(), paired, ids);
            match (&said, expected) {
                (None, None) => {}
                (Some(said), Some(expected)) => {
                    assert!(said.starts_with("x.jsonl:7: ") && said.contains(expected), "{fields}: {said}");
                }
                _ => panic!("{fields}: {said:?}, expected {expected:?}"),
            }
        }
    }

    /// Protects: a second scoring leaves nothing of the first, neither a reason nor ids of other tokens, and keeps
    /// columns that are not its own.
    #[test]
    fn a_second_scoring_leaves_nothing_of_the_first() {
        let before = json!({"id": 1, "chosen_score": null, "rejected_score": null, "chosen_ids": [1],
            "left_out": "empty", "scored_by": MARK, "score": 8});
        let mut fields = record(before);
        let columns = Written::of(&left_out(), true, false);
        columns.clear(&mut fields);
        assert_eq!(Value::Object(fields.clone()), json!({"id": 1, "score": 8}));
        columns.write(&mut fields, 0, 0.5, None).unwrap();
        columns.write(&mut fields, 1, -1.25, Some(vec![2])).unwrap();
        let after =
            json!({"id": 1, "score": 8, "chosen_score": 0.5, "rejected_score": -1.25, "rejected_ids": [2]});
        assert_eq!(Value::Object(fields), after);
        let mut own = record(json!({"chosen_ids": [1]}));
        columns.clear(&mut own);
        assert_eq!(Value::Object(own), json!({"chosen_ids": [1]}));
        assert!(columns.write(&mut Map::new(), 0, f32::NAN, None).is_err());
    }

    /// Protects: a mark has the name of a folder or repository and no path of this machine, and its digest is of the
    /// weights.
    #[test]
    fn marks_name_models_without_paths() {
        let folder = tempfile::tempdir().unwrap();
        let make = |place: &str, weights: &str| {
            let dir = folder.path().join(place);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("model.safetensors"), weights).unwrap();
            mark(&dir).unwrap()
        };
        let first = make("runs/rm", "one");
        assert!(first.starts_with("pcrm:rm@") && !first.contains('/'), "{first}");
        assert_ne!(make("runs/rm", "two"), first);
        assert_eq!(make("copies/rm", "one"), first);
        let cached = make("models--acme--nano/snapshots/0123abc", "one");
        assert!(cached.starts_with("pcrm:acme/nano@"), "{cached}");
    }
}
