//! Columns as the user names them, where their own names do not say what they are.

use std::borrow::Cow;

use super::conversation::keys_of;
use super::layouts;
use super::load::Record;
use super::schema::Schema;
use crate::error::{Error, Result};

/// The columns that schemas know, whose place columns of other names may take.
pub const KNOWN: [&str; 25] = [
    "prompt",
    "chosen",
    "rejected",
    "margin",
    "score_chosen",
    "score_rejected",
    "question",
    "instruction",
    "input",
    "query",
    "context",
    "system",
    "history",
    "conversations",
    "messages",
    "responses",
    "scores",
    "ranks",
    "label",
    "text",
    "completion",
    "output",
    "tools",
    "subset",
    "id",
];

/// Names of columns that are used for the known ones, and the schema if the user chose one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// The known name and the file's own.
    renames: Vec<(&'static str, String)>,
    /// The schema of every record.
    pub schema: Option<Schema>,
}

impl Columns {
    /// The known names, with a schema that the user chose or without.
    pub fn of(schema: Option<Schema>) -> Self {
        Self { renames: Vec::new(), schema }
    }

    /// The file's column `own` is the one that schemas know as `known`.
    ///
    /// # Errors
    /// A name that no schema knows, and one that is given twice.
    pub fn name(&mut self, known: &str, own: impl Into<String>) -> Result<()> {
        let Some(known) = KNOWN.into_iter().find(|name| *name == known) else {
            let message = format!("{known:?} is no column of any schema; known: {}", KNOWN.join(", "));
            return Err(Error::invalid("field", message));
        };
        if let Some((_, before)) = self.renames.iter().find(|(name, _)| *name == known) {
            return Err(Error::invalid(
                "field",
                format!("{known} is to be both {before:?} and {:?}", own.into()),
            ));
        }
        self.renames.push((known, own.into()));
        Ok(())
    }

    /// The record with its columns under the known names; a column that had such a name is out of the way.
    pub(super) fn rename<'a>(&self, source: &'a Record) -> Result<Cow<'a, Record>, String> {
        if self.renames.is_empty() {
            return Ok(Cow::Borrowed(source));
        }
        let mut record = source.clone();
        for (known, own) in &self.renames {
            record.shift_remove(own);
            record.shift_remove(*known);
        }
        for (known, own) in &self.renames {
            match source.get(own) {
                Some(value) => {
                    record.insert((*known).to_owned(), value.clone());
                }
                None if is_optional(known) => {}
                None => {
                    return Err(format!(
                        "no {own:?}, which is to be the {known} (keys: {})",
                        keys_of(source)
                    ));
                }
            }
        }
        Ok(Cow::Owned(record))
    }

    /// The name that schemas know a column of the file by.
    pub(super) fn known<'a>(&'a self, own: &'a str) -> &'a str {
        self.renames.iter().find(|(_, name)| name == own).map_or(own, |(known, _)| known)
    }

    /// The names that the user gave: the known one, and the file's own.
    pub(super) fn renames(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.renames.iter().map(|(known, own)| (*known, own.as_str()))
    }

    /// The record with the columns of a schema: under the known names, as a published layout means them, and
    /// with turns that were JSON inside of a text unpacked, which the flag says.
    ///
    /// # Errors
    /// A column that was named and is not there, and a broken record of a published layout.
    pub(super) fn view<'a>(&self, source: &'a Record) -> Result<(Cow<'a, Record>, bool), String> {
        let mut record = self.rename(source)?;
        let unpacked = layouts::unpacked(&record)?;
        let was_packed = unpacked.is_some();
        if let Some(unpacked) = unpacked {
            record = Cow::Owned(unpacked);
        }
        if let Some(seen) = layouts::view(&record) {
            record = Cow::Owned(seen?);
        }
        Ok((record, was_packed))
    }

    /// Columns of a record that another took the place of.
    pub(super) fn displaced<'a>(&'a self, source: &'a Record) -> impl Iterator<Item = &'a str> {
        let is_own = |name: &str| self.renames.iter().any(|(_, own)| own == name);
        let known = self.renames.iter().map(|(known, _)| *known);
        known.filter(move |known| source.contains_key(*known) && !is_own(known))
    }

    /// The schema of a record: the chosen one if its columns fit, else what `detect` says.
    pub(super) fn schema_of(
        &self,
        record: &Record,
        detect: impl Fn(&Record) -> Result<Schema, String>,
    ) -> Result<Schema, String> {
        match self.schema {
            Some(schema) => schema.check(record).map(|()| schema),
            None => detect(record),
        }
    }
}

/// Returns true if records may lack a column: data sets leave out empty ones.
fn is_optional(known: &str) -> bool {
    matches!(known, "margin" | "input" | "context" | "system" | "history" | "tools" | "subset" | "id")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(value: Value) -> Record {
        let Value::Object(record) = value else { panic!("no object") };
        record
    }

    /// Columns get their known names, two may change places, and one that is in the way makes way.
    #[test]
    fn columns_get_their_known_names() {
        let mut columns = Columns::default();
        columns.name("chosen", "rejected").unwrap();
        columns.name("rejected", "chosen").unwrap();
        columns.name("prompt", "q").unwrap();
        let source = record(json!({"prompt": "old", "q": "new", "chosen": "a", "rejected": "b", "id": 1}));
        let renamed = columns.rename(&source).unwrap().into_owned();
        assert_eq!(Value::Object(renamed), json!({"id": 1, "chosen": "b", "rejected": "a", "prompt": "new"}));
        assert_eq!(columns.displaced(&source).collect::<Vec<_>>(), ["prompt"]);
    }

    /// Protects: unknown names are refused with the known ones, and missing columns with those of the record.
    #[test]
    fn wrong_names_are_told() {
        let mut columns = Columns::default();
        assert!(
            columns.name("promt", "q").unwrap_err().to_string().contains("known: prompt, chosen, rejected")
        );
        columns.name("prompt", "q").unwrap();
        assert!(columns.name("prompt", "p").unwrap_err().to_string().contains("both \"q\" and \"p\""));
        let said = columns.rename(&record(json!({"a": 1}))).unwrap_err();
        assert_eq!(said, "no \"q\", which is to be the prompt (keys: a)");
    }
}
