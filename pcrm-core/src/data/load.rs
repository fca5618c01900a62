//! The loop that all readers of data files share: schema, strictness, counting.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::columns::Columns;
use super::files::data_files;
use super::preference::Ties;
use super::records::Records;
use super::report::{FileReport, Origin, Problem, ProblemKind, Report, Strictness};
use super::schema::Schema;
use crate::error::{Error, Result};

/// Why a record is not kept.
pub(super) type Refusal = (ProblemKind, String);

/// A JSON object, as a record of a file is.
pub(super) type Record = Map<String, Value>;

/// How files are read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// What to do with records that cannot be used.
    pub strictness: Strictness,
    /// What their columns mean, where it is said.
    pub columns: Columns,
    /// Whether the difference of a pair's scores is its margin where the data have none.
    pub score_margins: bool,
    /// What becomes of ties.
    pub ties: Ties,
}

impl From<Strictness> for ReadOptions {
    fn from(strictness: Strictness) -> Self {
        Self { strictness, ..Self::default() }
    }
}

/// A record whose schema is known.
pub(super) struct Found<'a> {
    pub schema: Schema,
    /// Its columns under the names of the schema.
    pub record: &'a Record,
    /// Its columns as the file has them.
    pub source: &'a Record,
    pub origin: Origin,
}

/// What came of a record: where it stands, and a row or why there is none.
pub(super) type Outcome<T> = (Origin, Result<T, Refusal>);

/// How records of one sort are told and read.
pub(super) trait Reader {
    /// What becomes of records.
    type Row;

    /// What a record is.
    fn schema_of(&self, record: &Record) -> Result<Schema, String>;

    /// Reads a record into any number of rows.
    fn read(&mut self, found: Found<'_>, out: &mut Vec<Outcome<Self::Row>>);

    /// Reads what needed the whole file.
    fn end_file(&mut self, _out: &mut Vec<Outcome<Self::Row>>) {}

    /// The row that stands for a record that is left out, where rows are to match records one to one.
    fn placeholder(&mut self, _origin: &Origin, _message: &str) -> Option<Self::Row> {
        None
    }
}

/// Reads all files.
pub(super) fn load<R: Reader>(
    paths: &[PathBuf],
    options: &ReadOptions,
    reader: &mut R,
) -> Result<(Vec<R::Row>, Report)> {
    let (mut kept, mut report) = (Vec::new(), Report::default());
    for path in data_files(paths)? {
        let file: Arc<Path> = Arc::from(path.as_path());
        report.files.push(FileReport::new(file.clone()));
        let (before, mut schema, mut rows, mut placeholders) = (kept.len(), None, 0, 0);
        let mut records = Records::open(&path)?;
        let mut out = Vec::new();
        loop {
            let ended = match records.next() {
                None => {
                    reader.end_file(&mut out);
                    true
                }
                Some(record) => {
                    rows += 1;
                    read_one(record, &file, &mut schema, options, reader, &mut out)?;
                    false
                }
            };
            for (origin, outcome) in out.drain(..) {
                let outcome = outcome.map_err(|(kind, message)| (kind, in_short(message)));
                match (outcome, options.strictness) {
                    (Ok(row), _) => kept.push(row),
                    (Err((kind, message)), Strictness::Refuse) if kind.is_refused() => {
                        return Err(Error::Line { path, line: origin.line, message });
                    }
                    (Err((kind, message)), _) => {
                        let placeholder = reader.placeholder(&origin, &message);
                        placeholders += usize::from(placeholder.is_some());
                        kept.extend(placeholder);
                        report.add(Problem { kind, origin, message });
                    }
                }
            }
            if ended {
                break;
            }
        }
        if rows == 0 {
            return Err(Error::file(path, "has no records; expected one JSON object a line"));
        }
        if let Some(last) = report.files.last_mut() {
            (last.schema, last.rows, last.kept) = (schema, rows, kept.len() - before - placeholders);
        }
    }
    report.finish();
    if report.kept == 0 {
        return Err(nothing_kept(&report));
    }
    Ok((kept, report))
}

/// Messages quote records, which may be of any length.
fn in_short(mut message: String) -> String {
    const LONGEST: usize = 800;
    if message.len() > LONGEST {
        let (head, tail) = (
            message.floor_char_boundary(LONGEST / 2),
            message.ceil_char_boundary(message.len() - LONGEST / 2),
        );
        message.replace_range(head..tail, " .. ");
    }
    message
}

fn nothing_kept(report: &Report) -> Error {
    let Some(first) = report.problems.first() else {
        return match report.files.first() {
            Some(file) => Error::file(&file.file, "none of its records has two ranked answers"),
            None => Error::invalid("data", "no files were given; expected at least one"),
        };
    };
    let counts: Vec<String> = report.counts().iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    Error::Line {
        path: first.origin.file.to_path_buf(),
        line: first.origin.line,
        message: format!(
            "{} (and no other record can be used either: {} of {})",
            first.message,
            counts.join(", "),
            report.rows
        ),
    }
}

fn read_one<R: Reader>(
    record: Result<(u64, Record)>,
    file: &Arc<Path>,
    schema: &mut Option<Schema>,
    options: &ReadOptions,
    reader: &mut R,
    out: &mut Vec<Outcome<R::Row>>,
) -> Result<()> {
    let at = |line| Origin { file: file.clone(), line };
    let (line, source) = match record {
        Ok(record) => record,
        Err(Error::Line { line, message, .. }) => {
            out.push((at(line), Err((ProblemKind::Malformed, message))));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let told = options.columns.rename(&source).and_then(|record| {
        let own = options.columns.schema_of(&record, |record| reader.schema_of(record))?;
        let files = *schema.get_or_insert(own);
        match files.admits(own) {
            true => Ok((own, record)),
            false => Err(format!("mixed schemas: {own}, while the file began as {files}")),
        }
    });
    match told {
        Ok((schema, record)) => {
            reader.read(Found { schema, record: &record, source: &source, origin: at(line) }, out);
        }
        Err(message) => out.push((at(line), Err((ProblemKind::Malformed, message)))),
    }
    Ok(())
}
