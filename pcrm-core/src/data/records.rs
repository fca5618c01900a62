//! Reads a file as JSON objects: JSON lines, consecutive objects, one JSON array or an object with a list,
//! Parquet, Arrow, CSV or TSV. The format is detected from the content.

use std::collections::{HashSet, VecDeque};
use std::io::{BufRead, Cursor, Read};
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::arrow_rows::ArrowRows;
use super::container::{self, Container};
use super::conversation::kind_of;
use super::elements::{Begins, Elements, LIST_KEYS, list_begins};
use super::lines::{Line, Lines, MAX_LINE};
use super::not_finite::{self, NotFinite};
use super::objects::{ObjectLayout, Objects, layout};
use super::parquet_rows::ParquetRows;
use super::scan::Scan;
use super::slice::Slice;
use super::surrogate;
use super::table_rows::TableRows;
use super::tables::{Table, table};
use crate::error::{Error, Result};

/// A record with its number: its first line, or its row in a Parquet or Arrow file.
pub type Numbered = (u64, Map<String, Value>);

/// A record with its number and its columns that hold NaN or infinite numbers.
pub(super) type Parsed = (Numbered, Vec<NotFinite>);

/// The number of bytes read to detect the format of a text.
const HEAD: usize = 1 << 16;

/// The records of a file.
///
/// An [`Error::Line`] is about one record. Any other error ends the iteration: the number of records after it is
/// unknown.
pub struct Records {
    path: PathBuf,
    form: Form,
    /// The remaining records of the last line read, if it holds several.
    waiting: VecDeque<Parsed>,
    not_finite: Vec<NotFinite>,
    /// The number of records left to return; the rest of the file is outside the slice.
    left: u64,
}

enum Form {
    OneALine(Lines),
    Spread(Objects),
    List(Elements),
    Parquet(ParquetRows),
    Arrow(ArrowRows),
    Table(TableRows),
}

impl Records {
    /// Opens a file, or a slice such as `train.jsonl[:500]`; a record may have at most [`MAX_LINE`] bytes.
    ///
    /// # Errors
    /// Fails if the file cannot be opened or holds no records that pcrm can read, as with an archive, a
    /// YAML file, several lists, or a damaged Parquet file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, MAX_LINE)
    }

    /// Opens a file; a record may have at most `limit` bytes.
    ///
    /// # Errors
    /// Fails in the same cases as [`Records::open`].
    pub fn open_with(path: &Path, limit: usize) -> Result<Self> {
        let (path, slice) = Slice::of(path)?;
        let path = path.as_path();
        let range = slice.map(|slice| slice.range(path, limit)).transpose()?;
        let form = match container::open(path)? {
            Container::Parquet(file) => Form::Parquet(ParquetRows::open(path, file, limit)?),
            Container::Arrow(file) => Form::Arrow(ArrowRows::open(path, file, limit)?),
            Container::Text(reader) => text(path, reader, limit)?,
        };
        let (path, waiting, not_finite) = (path.to_path_buf(), VecDeque::new(), Vec::new());
        let mut records = Self { path, form, waiting, not_finite, left: u64::MAX };
        if let Some(range) = range {
            for skipped in records.by_ref().take(usize::try_from(range.start).unwrap_or(usize::MAX)) {
                match skipped {
                    Ok(_) | Err(Error::Line { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            records.left = range.end - range.start;
        }
        Ok(records)
    }

    /// Returns the columns of the last record whose value is NaN or infinite; the record has null there.
    pub(super) fn not_finite(&self) -> &[NotFinite] {
        &self.not_finite
    }

    fn next_parsed(&mut self) -> Option<Result<Parsed>> {
        if let Some(waiting) = self.waiting.pop_front() {
            return Some(Ok(waiting));
        }
        let line = match &mut self.form {
            Form::OneALine(lines) => lines.next()?,
            Form::Spread(objects) => objects.next()?,
            Form::List(elements) => elements.next()?,
            Form::Parquet(rows) => return rows.next(),
            Form::Arrow(rows) => return rows.next(),
            Form::Table(rows) => return rows.next(),
        };
        Some(line.and_then(|Line { number, text }| match parse(&text) {
            Ok(records) => {
                let numbered = records.into_iter().map(|(record, found)| ((number, record), found));
                self.waiting.extend(numbered);
                // A line that parses holds at least one record.
                let empty = || ((number, Map::new()), Vec::new());
                Ok(self.waiting.pop_front().unwrap_or_else(empty))
            }
            // Without a line for each record, broken JSON hides where the next one begins.
            Err(Fault::Broken { line, message }) if !matches!(self.form, Form::OneALine(_)) => {
                self.left = 0;
                Err(Error::file(&self.path, format!("line {}: {message}", number + line)))
            }
            Err(Fault::Broken { message, .. } | Fault::Unread(message)) => {
                Err(Error::Line { path: self.path.clone(), line: number, message })
            }
        }))
    }
}

/// Detects the format of a text from its beginning.
fn text(path: &Path, mut reader: Box<dyn BufRead + Send>, limit: usize) -> Result<Form> {
    let mut head = container::head(&mut reader, HEAD).map_err(|error| Error::file(path, error))?;
    let list = loop {
        match list_begins(&head) {
            Begins::Elsewhere => break None,
            Begins::Inside(at) => break Some(at),
            Begins::IfAlone(list) => {
                // An object longer than the limit is not a record.
                let left = limit.saturating_sub(head.len()).min(head.len());
                let more = container::head(&mut reader, left).map_err(|error| Error::file(path, error))?;
                if more.is_empty() {
                    break Some(list.map_err(|message| Error::file(path, message))?);
                }
                head.extend(more);
            }
        }
    };
    if let Some(at) = list {
        let rest = head.split_off(at);
        let reader = Box::new(Cursor::new(rest).chain(reader));
        return Ok(Form::List(Elements::behind(&head, path.to_path_buf(), reader, limit)));
    }
    match table(path, &head) {
        Some(Table::Separated(separator)) => {
            let reader = Box::new(Cursor::new(head).chain(reader));
            return TableRows::open(path, reader, separator, limit).map(Form::Table);
        }
        Some(Table::Yaml) => {
            return Err(Error::file(path, "YAML; expected JSON lines, JSON, Parquet, Arrow, CSV or TSV"));
        }
        None => {}
    }
    let layout = layout(&head, head.len() < HEAD);
    let reader = Box::new(Cursor::new(head).chain(reader));
    match layout {
        ObjectLayout::OnLines => Ok(Form::OneALine(Lines::of(path.to_path_buf(), reader, limit))),
        ObjectLayout::Spread => Ok(Form::Spread(Objects::of(path.to_path_buf(), reader, limit))),
        ObjectLayout::Commas => Err(Error::file(
            path,
            "a comma after the first object and no bracket before it; expected JSON lines without commas, or \
             one array in [ ]",
        )),
    }
}

impl Iterator for Records {
    type Item = Result<Numbered>;

    fn next(&mut self) -> Option<Self::Item> {
        self.not_finite.clear();
        self.left = self.left.checked_sub(1)?;
        Some(self.next_parsed()?.map(|(numbered, not_finite)| {
            self.not_finite = not_finite;
            numbered
        }))
    }
}

/// Returns a message if a file's schema names two columns alike: a record would hold only one of them.
pub(super) fn named_twice<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut seen = HashSet::new();
    let name = names.find(|name| !seen.insert(*name))?;
    Some(format!("the schema names the column {name:?} twice; expected columns of different names"))
}

type Object = (Map<String, Value>, Vec<NotFinite>);

/// The reason why a text cannot be read as objects.
enum Fault {
    /// Valid JSON that is not an object, or that holds an unreadable value, such as half of a surrogate pair.
    Unread(String),
    /// Broken JSON, with the number of line breaks before the fault.
    Broken { line: u64, message: String },
}

/// Parses the objects of a line: one, or several if lines were joined without a line break.
fn parse(text: &str) -> Result<Vec<Object>, Fault> {
    // Concatenated files keep their byte order marks.
    let text = text.trim_start_matches('\u{feff}');
    let error = match not_finite::parse(text) {
        Ok((Value::Object(record), found)) => return Ok(vec![(record, found)]),
        Ok((other, _)) => {
            return Err(Fault::Unread(format!("{}; expected a JSON object", kind_of(&other))));
        }
        Err(error) => error,
    };
    if let Some(glued) = glued(text) {
        return Ok(glued);
    }
    // The parser counts lines within the record, which would contradict the file's line number. A line break in
    // a string is a fault of the line that it ends, although the parser is already past it.
    let line = error.line().saturating_sub(1 + usize::from(error.column() == 0)) as u64;
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or(&said);
    let half = surrogate::explained(said, text);
    let said = half.as_deref().unwrap_or(said);
    let hint = match text.trim() {
        "{" => format!(
            "; expected one JSON object per line, one array, or an object with a list under {}",
            LIST_KEYS.join(", ")
        ),
        text if text.starts_with("{'") => "; single quotes are Python syntax, not JSON".to_owned(),
        text if text.ends_with("},") => "; expected no comma after the object".to_owned(),
        _ => String::new(),
    };
    let message = format!("broken JSON: {said} (column {}){hint}", error.column());
    let is_sound = serde_json::from_str::<IgnoredAny>(&not_finite::nulled(text).0).is_ok();
    Err(if is_sound { Fault::Unread(message) } else { Fault::Broken { line, message } })
}

/// Parses a text of several consecutive objects.
fn glued(text: &str) -> Option<Vec<Object>> {
    let mut objects = Vec::new();
    let (mut scan, mut begins) = (Scan::default(), 0);
    for (at, byte) in text.bytes().enumerate() {
        let was_inside = scan.depth > 0;
        scan.feed(byte);
        if was_inside && scan.depth == 0 {
            let Ok((Value::Object(object), found)) = not_finite::parse(&text[begins..=at]) else {
                return None;
            };
            objects.push((object, found));
            begins = at + 1;
        }
    }
    (text[begins..].trim().is_empty() && objects.len() > 1).then_some(objects)
}

#[cfg(test)]
mod tests;
