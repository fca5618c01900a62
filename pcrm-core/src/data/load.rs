//! The loop that all readers of data files share: schema, strictness, counting.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::conversation::kind_of;
use super::records::Records;
use super::report::{FileReport, Origin, Problem, ProblemKind, Report, Strictness};
use super::schema::Schema;
use crate::error::{Error, Result};

/// Why a record is not kept.
pub(super) type Refusal = (ProblemKind, String);

/// A JSON object, as a record of a file is.
pub(super) type Record = Map<String, Value>;

/// How records of one sort are told and read.
pub(super) struct Reader<T> {
    pub schema_of: fn(&Record) -> Result<Schema, String>,
    pub read: fn(Schema, Record, Origin) -> Result<T, Refusal>,
}

/// Reads all files.
pub(super) fn load<T>(
    paths: &[PathBuf],
    strictness: Strictness,
    reader: &Reader<T>,
) -> Result<(Vec<T>, Report)> {
    let (mut kept, mut report) = (Vec::new(), Report::default());
    for path in paths {
        let file: Arc<Path> = Arc::from(path.as_path());
        report.files.push(FileReport {
            file: file.clone(),
            schema: None,
            rows: 0,
            kept: 0,
            left_out: Default::default(),
        });
        let (before, mut schema, mut rows) = (kept.len(), None, 0);
        for record in Records::open(path)? {
            let (line, outcome) = match record {
                Ok(record) => {
                    let origin = Origin { file: file.clone(), line: record.number };
                    (record.number, read_one(&record.text, &mut schema, origin, reader))
                }
                Err(Error::Line { line, message, .. }) => (line, Err((ProblemKind::Malformed, message))),
                Err(error) => return Err(error),
            };
            rows += 1;
            match (outcome, strictness) {
                (Ok(row), _) => kept.push(row),
                (Err((_, message)), Strictness::Refuse) => {
                    return Err(Error::Line { path: path.clone(), line, message });
                }
                (Err((kind, message)), Strictness::Skip) => {
                    report.add(Problem { kind, origin: Origin { file: file.clone(), line }, message });
                }
            }
        }
        if rows == 0 {
            return Err(Error::file(path, "has no records; expected one JSON object a line"));
        }
        if let Some(last) = report.files.last_mut() {
            (last.schema, last.rows, last.kept) = (schema, rows, kept.len() - before);
        }
    }
    report.finish();
    if kept.is_empty() {
        let Some(first) = report.problems.first() else {
            return Err(Error::invalid("data", "no files were given; expected at least one"));
        };
        let counts: Vec<String> =
            report.counts().iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        return Err(Error::Line {
            path: first.origin.file.to_path_buf(),
            line: first.origin.line,
            message: format!(
                "{} (and no other record can be used either: {} of {})",
                first.message,
                counts.join(", "),
                report.rows
            ),
        });
    }
    Ok((kept, report))
}

fn read_one<T>(
    text: &str,
    schema: &mut Option<Schema>,
    origin: Origin,
    reader: &Reader<T>,
) -> Result<T, Refusal> {
    let malformed = |message: String| (ProblemKind::Malformed, message);
    let record = match serde_json::from_str(text) {
        Ok(Value::Object(record)) => record,
        Ok(other) => return Err(malformed(format!("{}; expected a JSON object", kind_of(&other)))),
        // The error's own line counts within the record, which misleads beside the file's.
        Err(error) => {
            let said = error.to_string();
            let said = said.split(" at line ").next().unwrap_or(&said);
            return Err(malformed(format!("broken JSON: {said} (column {})", error.column())));
        }
    };
    let own = (reader.schema_of)(&record).map_err(malformed)?;
    let files = *schema.get_or_insert(own);
    if !files.admits(own) {
        return Err(malformed(format!("mixed schemas: {own}, while the file began as {files}")));
    }
    (reader.read)(own, record, origin)
}
