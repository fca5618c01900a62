//! Reader of CSV and TSV files: a header row, then one record per row with the column names as keys.
//!
//! Cells are text, with these exceptions. An empty cell is null. A cell of JSON (`[..]`, `{..}`) is parsed,
//! because tables store messages and lists of answers in this form. A number in a numeric column (`margin`,
//! scores, ranks) is a number. In a label column, `true` and `false` are booleans and whole numbers are
//! numbers.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::{ByteRecord, ReaderBuilder};
use serde_json::{Map, Number, Value};

use super::records::Parsed;
use crate::error::{Error, Result};

/// Substrings that mark the name of a numeric column.
const NUMBERS: [&str; 7] = ["margin", "score", "rating", "rank", "reward", "weight", "gap"];
/// Names of columns with boolean cells.
const TRUTHS: [&str; 4] = ["label", "labels", "desirable", "is_chosen"];
/// The largest number of mismatched header cells shown.
const SHOWN: usize = 8;

/// The rows of a table.
pub(super) struct TableRows {
    path: PathBuf,
    reader: csv::Reader<Quotes>,
    header: Vec<String>,
    quotes: Arc<AtomicU64>,
    limit: usize,
    /// The row that was read before the one that is returned next.
    ahead: Option<(u64, ByteRecord)>,
    ended: bool,
    /// True if rows end with \r\n, whose line feed the reader takes for the next row's.
    returns: bool,
}

/// A reader that counts the quotation marks it passes on.
struct Quotes {
    reader: Box<dyn BufRead + Send>,
    count: Arc<AtomicU64>,
}

impl Read for Quotes {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(bytes)?;
        let found = bytes[..read].iter().filter(|byte| **byte == b'"').count();
        self.count.fetch_add(found as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl TableRows {
    /// Opens a table with this separator and reads its header.
    ///
    /// # Errors
    /// Fails if the header is missing, names a column twice or is not UTF-8.
    pub fn open(path: &Path, reader: Box<dyn BufRead + Send>, separator: u8, limit: usize) -> Result<Self> {
        let quotes = Arc::new(AtomicU64::new(0));
        let counted = Quotes { reader, count: Arc::clone(&quotes) };
        let mut reader =
            ReaderBuilder::new().delimiter(separator).has_headers(false).flexible(true).from_reader(counted);
        let mut first = ByteRecord::new();
        let found = reader.read_byte_record(&mut first).map_err(|error| Error::file(path, error))?;
        let text = |cell: &[u8]| String::from_utf8(cell.to_vec()).map(|name| name.trim().to_owned());
        let header: Vec<String> = first
            .iter()
            .map(text)
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| Error::file(path, "the header row is not UTF-8"))?;
        let inner = first.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        let returns = reader.position().line() == 1 + inner;
        let twice = header.iter().enumerate().find(|(at, name)| header[..*at].contains(name));
        let refusal = match twice {
            _ if !found => Some("has no header row".to_owned()),
            Some((_, name)) => Some(format!("the header row names the column {name:?} twice")),
            None => None,
        };
        match refusal {
            Some(message) => {
                Err(Error::file(path, format!("{message}; expected a row with the names of columns")))
            }
            None => Ok(Self {
                path: path.to_path_buf(),
                reader,
                header,
                quotes,
                limit,
                ahead: None,
                ended: false,
                returns,
            }),
        }
    }

    /// Returns the next row.
    pub fn next(&mut self) -> Option<Result<Parsed>> {
        if self.ahead.is_none() && !self.ended {
            match self.read() {
                Ok(row) => self.ahead = row,
                Err(error) => return Some(Err(error)),
            }
        }
        let (line, row) = self.ahead.take()?;
        match self.read() {
            Ok(next) => self.ahead = next,
            Err(error) => return Some(Err(error)),
        }
        let open = self.ended && self.quotes.load(Ordering::Relaxed) % 2 == 1;
        let spans_lines = row.iter().next_back().is_some_and(|cell| cell.contains(&b'\n'));
        if open && spans_lines {
            // The cell holds all rows after it.
            let message = format!("line {line}: a quotation mark opens a cell that is never closed");
            return Some(Err(Error::file(&self.path, message)));
        }
        Some(match self.parse(&row) {
            Ok(record) => Ok(((line, record), Vec::new())),
            Err(message) => Err(Error::Line { path: self.path.clone(), line, message }),
        })
    }

    /// Reads a row that is not blank, with the line that it begins on.
    fn read(&mut self) -> Result<Option<(u64, ByteRecord)>> {
        let mut row = ByteRecord::new();
        let found = self.reader.read_byte_record(&mut row).map_err(|error| Error::file(&self.path, error))?;
        self.ended = !found;
        // The reader's position is before blank lines, and before the line feed of an earlier \r\n.
        let inner = row.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        let end = self.reader.position().line() - u64::from(!self.returns);
        let line = end.saturating_sub(inner).max(row.position().map_or(0, csv::Position::line));
        Ok(found.then_some((line, row)))
    }

    fn parse(&self, row: &ByteRecord) -> Result<Map<String, Value>, String> {
        if row.as_slice().len() > self.limit {
            return Err(format!("a row of {} bytes; expected at most {}", row.as_slice().len(), self.limit));
        }
        if row.len() != self.header.len() {
            let names: Vec<&str> = self.header.iter().take(SHOWN).map(String::as_str).collect();
            return Err(format!(
                "{} cells; expected {}, one for each of the columns {}{} (cells with separators need \
                 quotation marks)",
                row.len(),
                self.header.len(),
                names.join(", "),
                if self.header.len() > SHOWN { ", .." } else { "" },
            ));
        }
        let cells = self.header.iter().zip(row).enumerate();
        cells
            .map(|(at, (name, cell))| {
                let text = std::str::from_utf8(cell)
                    .map_err(|_| format!("column {} ({name:?}) is not UTF-8", at + 1))?;
                let value = value(name, text)
                    .map_err(|message| format!("column {} ({name:?}): {message}", at + 1))?;
                Ok((name.clone(), value))
            })
            .collect()
    }
}

/// Converts a cell to a JSON value.
fn value(name: &str, text: &str) -> Result<Value, String> {
    let trimmed = text.trim();
    if text.is_empty() {
        return Ok(Value::Null);
    }
    if trimmed.starts_with("[{") || trimmed.starts_with("[\"") || trimmed.starts_with("{\"") {
        // Ordinary text may begin like this too.
        return Ok(serde_json::from_str(trimmed).unwrap_or_else(|_| text.into()));
    }
    let name = name.to_lowercase();
    if NUMBERS.iter().any(|part| name.contains(part)) {
        return match trimmed.parse::<f64>() {
            Ok(number) => Number::from_f64(number)
                .map(|_| serde_json::from_str(trimmed).unwrap_or_else(|_| number.into()))
                .ok_or_else(|| format!("{trimmed}; expected a finite number")),
            Err(_) => Ok(text.into()),
        };
    }
    match (TRUTHS.contains(&name.as_str()), trimmed) {
        (true, "true" | "True" | "TRUE") => Ok(true.into()),
        (true, "false" | "False" | "FALSE") => Ok(false.into()),
        (true, number) => Ok(number.parse::<i64>().map_or_else(|_| text.into(), Value::from)),
        _ => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use serde_json::json;

    use super::*;

    fn rows(text: &[u8], separator: u8) -> Result<Vec<std::result::Result<(u64, Value), String>>> {
        let mut table =
            TableRows::open(Path::new("a.csv"), Box::new(Cursor::new(text.to_vec())), separator, 200)?;
        let mut found = Vec::new();
        while let Some(row) = table.next() {
            let row = row.map(|((line, record), _)| (line, Value::Object(record)));
            found.push(row.map_err(|error| error.to_string()));
        }
        Ok(found)
    }

    fn read(text: &str) -> Vec<std::result::Result<(u64, Value), String>> {
        rows(text.as_bytes(), b',').unwrap()
    }

    /// Protects: quoted cells keep separators, quotation marks and line breaks; numbers in text columns stay
    /// text.
    #[test]
    fn cells_are_values() {
        let table = "prompt,chosen,rejected,margin\n\"a, \"\"b\"\"\nc\",42,,2.5\n\n\
                     q,\"[{\"\"role\"\": \"\"user\"\"}]\",x,\n";
        let expected = [
            Ok((2, json!({"prompt": "a, \"b\"\nc", "chosen": "42", "rejected": null, "margin": 2.5}))),
            Ok((5, json!({"prompt": "q", "chosen": [{"role": "user"}], "rejected": "x", "margin": null}))),
        ];
        assert_eq!(read(table), expected);
        let lines = read("a,b\r\n\"1\n2\",3\r\n4,5\r\n").into_iter().map(|row| row.map(|(line, _)| line));
        assert_eq!(lines.collect::<Vec<_>>(), [Ok(2), Ok(4)]);
        let labels = rows(b"completion\tlabel\tscore\nyes\tTrue\t3\nno\t0\tgood\n", b'\t').unwrap();
        let expected = [
            Ok((2, json!({"completion": "yes", "label": true, "score": 3}))),
            Ok((3, json!({"completion": "no", "label": 0, "score": "good"}))),
        ];
        assert_eq!(labels, expected);
    }

    /// Protects: a malformed row is reported with its line, and the rows after it are read.
    #[test]
    fn broken_rows_are_named() {
        let found = read("a,b\n1,2\n1,2,3\n4,5\n6\n");
        assert!(found[0].is_ok() && found[2].is_ok(), "{found:?}");
        let error = found[1].clone().unwrap_err();
        assert!(
            error.starts_with("a.csv:3: 3 cells; expected 2, one for each of the columns a, b"),
            "{error}"
        );
        assert!(found[3].clone().unwrap_err().starts_with("a.csv:5: 1 cells"), "{found:?}");
        let error = read("a,margin\n1,inf\n").remove(0).unwrap_err();
        assert!(error.contains("column 2 (\"margin\"): inf; expected a finite number"), "{error}");
        let error = rows(b"a,b\n1,\xff\n", b',').unwrap().remove(0).unwrap_err();
        assert!(error.contains("a.csv:2: column 2 (\"b\") is not UTF-8"), "{error}");
    }

    /// Protects: an unclosed quotation mark refuses the file: the rows after it are not one malformed row.
    #[test]
    fn an_open_quotation_mark_is_refused() {
        let found = read("a,b\n1,2\n3,\"4\n5,6\n7,8\n");
        assert_eq!(found.len(), 2);
        let error = found[1].clone().unwrap_err();
        assert!(
            error.starts_with("a.csv: line 3: a quotation mark opens a cell that is never closed"),
            "{error}"
        );
        // A mark for inches does not open a quotation.
        assert!(read("a,b\n1,5\" pipe\n").iter().all(std::result::Result::is_ok));
    }

    #[test]
    fn headers_are_checked() {
        let error = |text: &str| rows(text.as_bytes(), b',').unwrap_err().to_string();
        assert!(error("a,b,a\n").contains("names the column \"a\" twice"));
        assert!(error("").contains("has no header row"));
    }
}
