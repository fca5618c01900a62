//! The loop shared by all readers of data files: schema detection, strictness, counting.

mod seen;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use self::seen::RecordNotes;
use super::columns::Columns;
use super::files::data_files;
use super::not_finite::NotFinite;
use super::preference::{Ties, is_score};
use super::records::Records;
use super::report::{FileReport, Origin, Problem, ProblemKind, Report, Strictness};
use super::schema::Schema;
use super::slice::Slice;
use super::survey::{Finding, Severity, many};
use crate::error::{Error, Result, in_short};

/// The reason why a record is not kept.
pub(super) type Refusal = (ProblemKind, String);

/// A JSON object, one record of a file.
pub(super) type Record = Map<String, Value>;

/// Options of reading files.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The treatment of records that cannot be used.
    pub strictness: Strictness,
    /// The columns that the user named.
    pub columns: Columns,
    /// True if the difference of a pair's scores is used as its margin when the data have none.
    pub score_margins: bool,
    /// The treatment of ties.
    pub ties: Ties,
    /// The largest number of rows to keep, counted over all files; `None` keeps all.
    pub limit: Option<usize>,
}

impl From<Strictness> for ReadOptions {
    fn from(strictness: Strictness) -> Self {
        Self { strictness, ..Self::default() }
    }
}

/// A record whose schema is known.
pub(super) struct Found<'a> {
    pub schema: Schema,
    /// The columns under the names of the schema.
    pub record: &'a Record,
    /// The columns as they are in the file.
    pub source: &'a Record,
    pub origin: Origin,
}

/// The outcome of a record: its file and line, and a row or the reason why there is none.
pub(super) type ReadRow<T> = (Origin, Result<T, Refusal>);

/// Detects the schema of records and reads them as one type of row.
pub(super) trait Reader {
    /// The row type.
    type Row;

    /// Returns the schema of a record.
    fn schema_of(&self, record: &Record) -> Result<Schema, String>;

    /// Reads a record into any number of rows.
    fn read(&mut self, found: Found<'_>, out: &mut Vec<ReadRow<Self::Row>>);

    /// Adds the rows that need the whole file.
    ///
    /// # Errors
    /// Fails with the reason if the file as a whole is refused.
    fn end_file(&mut self, _out: &mut Vec<ReadRow<Self::Row>>) -> Result<(), String> {
        Ok(())
    }

    /// Returns the number of pairs that the report counts for a row.
    fn pairs(&self, _row: &Self::Row) -> usize {
        1
    }

    /// Returns a row for a record that is left out, if rows must match records one to one.
    fn placeholder(&mut self, _origin: &Origin, _message: &str) -> Option<Self::Row> {
        None
    }

    /// Returns findings about the rows read.
    fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }
}

/// Reads all files.
pub(super) fn load<R: Reader>(
    paths: &[PathBuf],
    options: &ReadOptions,
    reader: &mut R,
) -> Result<(Vec<R::Row>, Report)> {
    let (mut kept, mut report) = (Vec::new(), Report::default());
    let mut seen = RecordNotes::default();
    let (limit, mut cut) = (options.limit.unwrap_or(usize::MAX), false);
    for path in data_files(paths)? {
        if kept.len() >= limit {
            cut = true;
            break;
        }
        let file: Arc<Path> = Arc::from(path.as_path());
        report.files.push(FileReport::new(file.clone()));
        let (mut schema, mut rows, mut pairs) = (None, 0, 0);
        let mut records = Records::open(&path)?;
        let mut out = Vec::new();
        loop {
            let full = kept.len() >= limit;
            let next = records.next();
            cut |= full && next.is_some();
            let ended = match next.filter(|_| !full) {
                None => {
                    reader.end_file(&mut out).map_err(|message| Error::file(&path, message))?;
                    true
                }
                Some(record) => {
                    rows += 1;
                    let record = record.map(|numbered| (numbered, records.not_finite()));
                    let record = (rows as u64, record);
                    read_one(record, &file, &mut schema, &mut seen, options, reader, &mut out)?;
                    false
                }
            };
            for (origin, outcome) in out.drain(..) {
                if kept.len() >= limit {
                    cut = true;
                    break;
                }
                let outcome = outcome.map_err(|(kind, message)| (kind, in_short(message)));
                match (outcome, options.strictness) {
                    (Ok(row), _) => {
                        pairs += reader.pairs(&row);
                        kept.push(row);
                    }
                    (Err((kind, message)), Strictness::Refuse) if kind.is_refused() => {
                        return Err(Error::Line { path, line: origin.line, message });
                    }
                    (Err((kind, message)), _) => {
                        kept.extend(reader.placeholder(&origin, &message));
                        report.add(Problem { kind, origin, message });
                    }
                }
            }
            if ended {
                break;
            }
        }
        if rows == 0 {
            let message = match Slice::of(&path)? {
                (_, Some(_)) => "the slice holds no record of the file",
                (_, None) => "has no records; expected one JSON object per line",
            };
            return Err(Error::file(path, message));
        }
        let unread = std::mem::take(&mut seen.unread);
        if let Some(message) = unread.refusal().filter(|_| options.columns.schema.is_none()) {
            return Err(Error::file(path, message));
        }
        report.findings.extend(unread.findings());
        if let Some(last) = report.files.last_mut() {
            (last.schema, last.rows, last.kept) = (schema, rows, pairs);
            last.unread = unread.names();
            last.unread.retain(|name| !options.columns.elsewhere.contains(name));
        }
        seen.schemas.extend(schema);
    }
    report.finish();
    if report.kept == 0 {
        return Err(nothing_kept(&report));
    }
    seen.check_names(options)?;
    report.findings.extend(seen.finding());
    report.findings.extend(cut.then(|| limited(limit)));
    report.findings.extend(reader.findings());
    Ok((kept, report))
}

fn limited(limit: usize) -> Finding {
    let found = format!("only the first {} used", many(limit, "row"));
    Finding::new("limited", Severity::Note, found, "Leave out --limit to use all")
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

/// A numbered record, and its columns whose values are not finite.
type Read<'a> = ((u64, Record), &'a [NotFinite]);

fn read_one<R: Reader>(
    (number, record): (u64, Result<Read<'_>>),
    file: &Arc<Path>,
    schema: &mut Option<Schema>,
    seen: &mut RecordNotes,
    options: &ReadOptions,
    reader: &mut R,
    out: &mut Vec<ReadRow<R::Row>>,
) -> Result<()> {
    let at = |line| Origin { file: file.clone(), line, record: number };
    let ((line, source), not_finite) = match record {
        Ok(record) => record,
        Err(Error::Line { line, message, .. }) => {
            out.push((at(line), Err((ProblemKind::Malformed, message))));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let viewed = options.columns.view(&source).and_then(|(record, packed)| {
        for NotFinite { key, value } in not_finite {
            let known = options.columns.known(key);
            if known == "margin" || is_score(known) {
                return Err(format!("{key:?} is {value}; expected a finite number"));
            }
        }
        let own = options.columns.schema_of(&record, |record| reader.schema_of(record))?;
        let files = *schema.get_or_insert(own);
        match files.admits(own) {
            true => Ok((own, record, packed)),
            false => Err(format!("mixed schemas: {own}, while the file began as {files}")),
        }
    });
    match viewed {
        Ok((schema, record, packed)) => {
            let origin = at(line);
            if packed {
                seen.packed.add(&origin);
            }
            seen.note(schema, &record, &source, options, &origin);
            reader.read(Found { schema, record: &record, source: &source, origin }, out);
        }
        Err(message) => out.push((at(line), Err((ProblemKind::Malformed, message)))),
    }
    Ok(())
}
