//! Reads the elements of a JSON array, or of the list in a JSON object, from a stream of bytes.
//!
//! Strings and brackets are scanned byte by byte, so a file may be larger than memory, on one line or many;
//! an element keeps the number of its first line.

use std::io::BufRead;
use std::path::PathBuf;

use super::lines::Line;
use super::scan::Scan;
use crate::error::{Error, Result};

/// The keys of an object that may hold its records.
pub(super) const LIST_KEYS: &[&str] = &["data", "rows", "records", "examples", "instances", "items", "train"];

/// The elements of an array. As with [`Lines`](super::lines::Lines), an [`Error::Line`] is about one element,
/// and any other error ends the iteration.
pub(super) struct Elements {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    limit: usize,
    line: u64,
    /// The key of the array if it is in an object.
    key: Option<Vec<u8>>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Inside,
    After,
    Ended,
}

/// Where the records of a text begin, judged by its first bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// The text is neither an array nor an object with a list.
    Elsewhere,
    /// At this offset, after the bracket of an array.
    Inside(usize),
    /// At this offset, after the bracket of an object's list, or nowhere because there are two lists. This holds
    /// only if nothing follows the object: otherwise the object is a record that has a list.
    IfAlone(Result<usize, String>),
}

/// Finds the first record in a text that begins with `head`.
pub(super) fn list_begins(head: &[u8]) -> Begins {
    let first = head.iter().position(|byte| !byte.is_ascii_whitespace());
    match first.map(|at| (at, head[at])) {
        Some((at, b'[')) => Begins::Inside(at + 1),
        Some((at, b'{')) => list_in_object(head, at),
        _ => Begins::Elsewhere,
    }
}

/// Finds the list in the object that begins at the offset `first`.
fn list_in_object(head: &[u8], first: usize) -> Begins {
    let (mut scan, mut key, mut begins) = (Scan::default(), &head[..0], 0);
    let (mut list, mut before_it) = (None, None);
    for (at, byte) in head.iter().enumerate().skip(first) {
        let before = (scan.depth, scan.in_string);
        scan.feed(*byte);
        match (before, *byte) {
            ((1, false), b'"') => begins = at + 1,
            ((1, true), b'"') if !scan.in_string => key = &head[begins..at],
            ((1, false), b',') => key = &head[..0],
            ((1, false), b'[') if list.is_none() => {
                let element = head[at + 1..].iter().find(|byte| !byte.is_ascii_whitespace());
                match (element == Some(&b'{'), is_list_key(key)) {
                    (true, true) => {
                        list = Some(before_it.map_or(Ok(at + 1), |other| Err(two_lists(other, key))));
                    }
                    (true, false) => before_it = before_it.or(Some(key)),
                    (false, _) => {}
                }
            }
            _ if scan.depth == 0 => {
                let alone = head[at + 1..].iter().all(u8::is_ascii_whitespace);
                return list.filter(|_| alone).map_or(Begins::Elsewhere, Begins::IfAlone);
            }
            _ => {}
        }
    }
    list.map_or(Begins::Elsewhere, Begins::IfAlone)
}

/// Returns the error for a file with two lists of objects, which is refused as ambiguous.
fn two_lists(first: &[u8], second: &[u8]) -> String {
    format!(
        "two lists of objects, {:?} and {:?}; expected one list per file: write each split to \
         a separate file",
        String::from_utf8_lossy(first),
        String::from_utf8_lossy(second)
    )
}

/// Returns the last string of a text without its quotes.
fn last_string(text: &[u8]) -> &[u8] {
    let (mut scan, mut begins, mut last) = (Scan::default(), 0, &text[..0]);
    for (at, byte) in text.iter().enumerate() {
        let before = scan.in_string;
        scan.feed(*byte);
        match (before, scan.in_string) {
            (false, true) => begins = at + 1,
            (true, false) => last = &text[begins..at],
            _ => {}
        }
    }
    last
}

fn is_list_key(key: &[u8]) -> bool {
    LIST_KEYS.iter().any(|known| known.as_bytes() == key)
}

impl Elements {
    /// Reads the elements after the offset that [`list_begins`] found; `prefix` is the text before them,
    /// already read from `reader`.
    pub(super) fn behind(
        prefix: &[u8],
        path: PathBuf,
        reader: Box<dyn BufRead + Send>,
        limit: usize,
    ) -> Self {
        let newlines = prefix.iter().filter(|byte| **byte == b'\n').count() as u64;
        let in_object = prefix.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        let key = in_object.then(|| last_string(prefix).to_vec());
        Self { path, reader, limit, line: newlines + 1, key, state: State::Inside }
    }

    fn line_error(&self, line: u64, message: String) -> Error {
        Error::Line { path: self.path.clone(), line, message }
    }

    fn end(&mut self, error: Error) -> Error {
        self.state = State::Ended;
        error
    }

    /// Ends the iteration with a fault of the text as a whole.
    fn fault(&mut self, line: u64, message: impl std::fmt::Display) -> Error {
        let error = Error::file(&self.path, format!("line {line}: {message}"));
        self.end(error)
    }

    /// Reads the next byte.
    fn byte(&mut self) -> Result<Option<u8>> {
        let next = self.reader.fill_buf().map(|buffer| buffer.first().copied());
        match next {
            Ok(Some(byte)) => {
                self.reader.consume(1);
                self.line += u64::from(byte == b'\n');
                Ok(Some(byte))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                let error = Error::file(&self.path, format!("after line {}: {error}", self.line));
                Err(self.end(error))
            }
        }
    }

    fn next_element(&mut self) -> Result<Option<Line>> {
        let (mut text, mut scan, mut begins, mut too_long) = (Vec::new(), Scan::default(), self.line, false);
        loop {
            let line = self.line;
            let Some(byte) = self.byte()? else {
                return Err(self.fault(begins, "the file ends inside its array; expected a closing ]"));
            };
            if scan.outside() && matches!(byte, b',' | b']') {
                if byte == b']' {
                    self.state = State::After;
                }
                if too_long {
                    let message = format!("a record longer than {} bytes; expected less", self.limit);
                    return Err(self.fault(begins, message));
                }
                if text.is_empty() && byte == b',' {
                    continue;
                }
                if text.is_empty() {
                    return Ok(None);
                }
                return match String::from_utf8(text) {
                    Ok(text) => Ok(Some(Line { number: begins, text })),
                    Err(error) => Err(self.line_error(
                        begins,
                        format!(
                            "not UTF-8 (at byte {} of the record); expected UTF-8 text",
                            error.utf8_error().valid_up_to()
                        ),
                    )),
                };
            }
            scan.feed(byte);
            if text.is_empty() && !too_long {
                if byte.is_ascii_whitespace() {
                    continue;
                }
                begins = line;
            }
            if text.len() >= self.limit {
                (too_long, text) = (true, Vec::new());
            } else if !too_long {
                text.push(byte);
            }
        }
    }

    /// Reads the text after the array: nothing, or the rest of its object.
    fn rest(&mut self) -> Result<()> {
        let own = self.key.take();
        let mut scan = Scan::at_depth(usize::from(own.is_some()));
        let whole = own.as_ref().map_or_else(
            || "the closing bracket of the array".to_owned(),
            |key| format!("the object whose list {:?} was read as the records", String::from_utf8_lossy(key)),
        );
        let own = own.unwrap_or_default();
        let mut key = Vec::new();
        let mut list_begins = false;
        while let Some(byte) = self.byte()? {
            let before = (scan.depth, scan.in_string);
            if before.0 == 0 && !byte.is_ascii_whitespace() {
                let (line, found) = (self.line, char::from(byte));
                return Err(
                    self.fault(line, format!("{found:?} after {whole}; expected the end of the file"))
                );
            }
            if list_begins && byte == b'{' {
                let error = Error::file(&self.path, two_lists(&own, &key));
                return Err(self.end(error));
            }
            list_begins &= byte.is_ascii_whitespace();
            scan.feed(byte);
            match (before, byte) {
                ((1, false), b'"' | b',') => key.clear(),
                ((1, true), byte) if scan.in_string && key.len() < 64 => key.push(byte),
                ((1, false), b'[') => list_begins = true,
                _ => {}
            }
        }
        if scan.depth > 0 {
            return Err(self.fault(self.line, "the file ends inside its object; expected a closing }"));
        }
        Ok(())
    }
}

impl Iterator for Elements {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Inside
            && let Some(element) = self.next_element().transpose()
        {
            return Some(element);
        }
        if self.state == State::After {
            let rest = self.rest();
            self.state = State::Ended;
            return rest.err().map(Err);
        }
        None
    }
}
