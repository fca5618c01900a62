//! Columns that the user names because their own names do not show their meaning.

use std::borrow::Cow;

use super::conversation::keys_of;
use super::layouts;
use super::load::Record;
use super::schema::Schema;
use crate::error::{Error, Result};

/// The columns that schemas know; columns of other names may be mapped to them.
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

/// A mapping of column names to the known ones, and the schema if the user chose one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// Pairs of a known name and the file's name.
    renames: Vec<(&'static str, String)>,
    /// The schema of every record.
    pub schema: Option<Schema>,
    /// Columns that the caller reads itself, so that a report does not call them unread.
    pub elsewhere: Vec<String>,
}

impl Columns {
    /// Returns an empty mapping, with a schema if the user chose one.
    pub fn of(schema: Option<Schema>) -> Self {
        Self { schema, ..Self::default() }
    }

    /// Maps the file's column `own` to the name `known`, which schemas know.
    ///
    /// # Errors
    /// Fails if no schema knows the name or if it is mapped twice.
    pub fn name(&mut self, known: &str, own: impl Into<String>) -> Result<()> {
        let Some(known) = KNOWN.into_iter().find(|name| *name == known) else {
            let message = format!("{known:?} is not a column of any schema; known: {}", KNOWN.join(", "));
            return Err(Error::invalid("field", message));
        };
        if let Some((_, before)) = self.renames.iter().find(|(name, _)| *name == known) {
            return Err(Error::invalid(
                "field",
                format!("{known} cannot be both {before:?} and {:?}", own.into()),
            ));
        }
        self.renames.push((known, own.into()));
        Ok(())
    }

    /// Returns the record with its columns under the known names; an unmapped column of such a name is
    /// removed.
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
                    return Err(format!("no column {own:?} for {known} (keys: {})", keys_of(source)));
                }
            }
        }
        Ok(Cow::Owned(record))
    }

    /// Returns the known name of a column of the file.
    pub(super) fn known<'a>(&'a self, own: &'a str) -> &'a str {
        self.renames.iter().find(|(_, name)| name == own).map_or(own, |(known, _)| known)
    }

    /// Returns the pairs of a known name and the file's name that the user gave.
    pub(super) fn renames(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.renames.iter().map(|(known, own)| (*known, own.as_str()))
    }

    /// Returns the record with the columns of a schema: under the known names, in the form of a published
    /// layout, and with turns unpacked from JSON text. The flag is true if turns were unpacked.
    ///
    /// # Errors
    /// Fails if a column named by the user is missing or a record of a published layout is malformed.
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

    /// Returns the columns of a record that another column replaced.
    pub(super) fn displaced<'a>(&'a self, source: &'a Record) -> impl Iterator<Item = &'a str> {
        let is_own = |name: &str| self.renames.iter().any(|(_, own)| own == name);
        let known = self.renames.iter().map(|(known, _)| *known);
        known.filter(move |known| source.contains_key(*known) && !is_own(known))
    }

    /// Returns the schema of a record: the chosen one if its columns fit, otherwise the result of `detect`.
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

/// Returns true if records may lack a column, since data sets omit empty ones.
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

    /// Columns get their known names, two columns may swap, and a column in the way is removed.
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

    /// Protects: unknown names are refused with the list of known ones, and missing columns with the record's
    /// keys.
    #[test]
    fn wrong_names_are_reported() {
        let mut columns = Columns::default();
        assert!(
            columns.name("promt", "q").unwrap_err().to_string().contains("known: prompt, chosen, rejected")
        );
        columns.name("prompt", "q").unwrap();
        assert!(columns.name("prompt", "p").unwrap_err().to_string().contains("both \"q\" and \"p\""));
        let said = columns.rename(&record(json!({"a": 1}))).unwrap_err();
        assert_eq!(said, "no column \"q\" for prompt (keys: a)");
    }
}
