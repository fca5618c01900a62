//! Notes about the records of all files: unread columns, packed messages, names that have an effect.

use super::{ReadOptions, Record};
use crate::data::report::Origin;
use crate::data::schema::Schema;
use crate::data::survey::{Finding, Severity, Tally, many};
use crate::data::unread::Unread;
use crate::error::{Error, Result};

/// Notes about the records of all files.
#[derive(Default)]
pub(super) struct RecordNotes {
    /// Unread columns of the current file.
    pub unread: Unread,
    /// Records with turns unpacked from JSON text.
    pub packed: Tally,
    /// The known names of the user's columns that exist in some record.
    found: Vec<&'static str>,
    used: Vec<&'static str>,
    pub schemas: Vec<Schema>,
}

impl RecordNotes {
    /// Refuses user-given column names that have no effect.
    pub fn check_names(&self, options: &ReadOptions) -> Result<()> {
        for (known, own) in options.columns.renames() {
            if !self.found.contains(&known) {
                let message = format!("{known}={own}: no record has a column {own:?}");
                return Err(Error::invalid("field", message));
            }
            if !self.used.contains(&known) {
                let mut schemas: Vec<String> = self.schemas.iter().map(Schema::to_string).collect();
                schemas.dedup();
                let message = format!(
                    "{known}={own} does nothing: records of {} have no use for a column {known:?}",
                    schemas.join(", ")
                );
                return Err(Error::invalid("field", message));
            }
        }
        Ok(())
    }

    /// Returns the finding about messages stored as text, if there are any.
    pub fn finding(&self) -> Option<Finding> {
        (!self.packed.is_empty()).then(|| {
            let found = format!(
                "{} with messages stored as JSON text; they are read as messages",
                many(self.packed.count, "record")
            );
            let advice = "Write messages as lists so that other tools read them too";
            Finding::new("packed_messages", Severity::Warning, found, advice).tallied(&self.packed)
        })
    }

    /// Records statistics of a record and its columns.
    pub fn note(
        &mut self,
        schema: Schema,
        record: &Record,
        source: &Record,
        options: &ReadOptions,
        origin: &Origin,
    ) {
        self.unread.see(schema, record, origin);
        for (known, own) in options.columns.renames() {
            if source.contains_key(own) && !self.found.contains(&known) {
                self.found.push(known);
            }
            if !self.used.contains(&known) && schema.may_read(known, record) {
                self.used.push(known);
            }
        }
    }
}
