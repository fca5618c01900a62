//! Describes a file: the schema of its records, and the columns it was detected from.

use std::path::Path;

use serde::Serialize;

use crate::data::columns::Columns;
use crate::data::conversation::kind_of;
use crate::data::records::Records;
use crate::data::schema::Schema;
use crate::error::Result;

/// A column of a record and the type of its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The type of the value: `text`, `a list of messages`.
    pub holds: &'static str,
}

/// A description of a file, from its first record with a known schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSchema {
    /// The file.
    pub file: String,
    /// The line of that record.
    pub line: u64,
    /// The schema of the record.
    pub schema: Schema,
    /// The columns that are read.
    pub read: Vec<Column>,
    /// The columns that are not read.
    pub unread: Vec<Column>,
    /// True if the user chose the schema by name.
    pub chosen: bool,
}

/// Describes a file; returns `None` if no record has a known schema.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn file_schema(path: &Path, columns: &Columns) -> Result<Option<FileSchema>> {
    for record in Records::open(path)? {
        // Faults in single records appear in the report.
        let Ok((line, source)) = record else { continue };
        let Ok((record, _)) = columns.view(&source) else { continue };
        let Ok(schema) = columns.schema_of(&record, Schema::of_pair) else { continue };
        let columns_read = schema.reads(&record);
        let is_read = |name: &str| columns_read.contains(&name);
        let column = |(name, value): (&String, _)| Column { name: name.clone(), holds: kind_of(value) };
        let (read, unread) = record.iter().partition::<Vec<_>, _>(|(name, _)| is_read(name));
        return Ok(Some(FileSchema {
            file: path.display().to_string(),
            line,
            schema,
            read: read.into_iter().map(column).collect(),
            unread: unread.into_iter().map(column).collect(),
            chosen: columns.schema.is_some(),
        }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(lines: &str) -> Option<FileSchema> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        file_schema(file.path(), &Columns::default()).unwrap()
    }

    fn names(columns: &[Column]) -> Vec<(&str, &str)> {
        columns.iter().map(|column| (column.name.as_str(), column.holds)).collect()
    }

    /// Protects: the first usable record determines the description, and unread columns are named.
    #[test]
    fn read_and_unread_columns_are_distinguished() {
        let found = described(
            "{broken\n{\"id\": 3, \"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\", \"margin\": \
             1}\n",
        )
        .unwrap();
        assert_eq!((found.line, found.schema), (2, Schema::StandardExplicit));
        let read = [("prompt", "text"), ("chosen", "text"), ("rejected", "text"), ("margin", "a number")];
        assert_eq!(names(&found.read), read);
        assert_eq!(names(&found.unread), [("id", "a number")]);
    }

    /// Protects: records without preferences have no description, and ranks count as read in records that
    /// have them.
    #[test]
    fn other_files_are_not_guessed_at() {
        assert_eq!(described("{\"text\": \"a\"}\n"), None);
        let ranked = described(
            "{\"prompt\": \"q\", \"responses\": [\"a\", \"b\"], \"scores\": [1, 2], \"source\": \"x\"}\n",
        );
        assert_eq!(names(&ranked.unwrap().unread), [("source", "text")]);
    }
}
