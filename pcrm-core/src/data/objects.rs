//! Reads consecutive JSON objects that may each span several lines, as `jq` writes them.

use std::io::BufRead;
use std::path::PathBuf;

use super::lines::Line;
use super::scan::Scan;
use crate::error::{Error, Result};

/// The byte order mark of UTF-8.
const BOM: &[u8] = "\u{feff}".as_bytes();

/// The layout of the objects in a text that begins with `{`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectLayout {
    /// One object per line.
    OnLines,
    /// Objects over several lines, or several on one line.
    Spread,
    /// Objects separated by commas, without the brackets of an array.
    Commas,
}

/// Detects the layout from the first object of a text that begins with `head`; `is_all` is true if `head` is
/// the whole text.
pub(super) fn layout(head: &[u8], is_all: bool) -> ObjectLayout {
    let first = head.iter().position(|byte| !byte.is_ascii_whitespace());
    let Some(first) = first.filter(|at| head[*at] == b'{') else { return ObjectLayout::OnLines };
    let (mut scan, mut spread) = (Scan::default(), false);
    for (at, byte) in head.iter().enumerate().skip(first) {
        scan.feed(*byte);
        if *byte == b'\n' {
            // Strings hold no line breaks, so a line that ends inside a string is broken.
            if scan.in_string {
                return ObjectLayout::OnLines;
            }
            spread = true;
        }
        if !scan.outside() {
            continue;
        }
        let behind = &head[at + 1..];
        let next = behind.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r'));
        let whole = || serde_json::from_slice::<serde::de::IgnoredAny>(&head[first..=at]).is_ok();
        return match next {
            Some(b',') if whole() => ObjectLayout::Commas,
            Some(b'{') if whole() => ObjectLayout::Spread,
            _ if spread && whole() => ObjectLayout::Spread,
            _ => ObjectLayout::OnLines,
        };
    }
    // The object is longer than the head, or its line is broken and others follow.
    let is_object =
        |line: &[u8]| serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line).is_ok();
    let broken = || head.split(|byte| *byte == b'\n').skip(1).any(is_object);
    if spread && !is_all && !broken() { ObjectLayout::Spread } else { ObjectLayout::OnLines }
}

/// The objects of a text, split at their brackets. An [`Error::Line`] is about one object, and any other error
/// ends the iteration.
pub(super) struct Objects {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    limit: usize,
    line: u64,
    ended: bool,
}

impl Objects {
    /// Reads the objects of the file at `path` from a reader; an object may have at most `limit` bytes.
    pub(super) fn of(path: PathBuf, reader: Box<dyn BufRead + Send>, limit: usize) -> Self {
        Self { path, reader, limit, line: 1, ended: false }
    }

    fn byte(&mut self) -> Result<Option<u8>> {
        match self.reader.fill_buf().map(|buffer| buffer.first().copied()) {
            Ok(Some(byte)) => {
                self.reader.consume(1);
                self.line += u64::from(byte == b'\n');
                Ok(Some(byte))
            }
            Ok(None) => {
                self.ended = true;
                Ok(None)
            }
            Err(error) => {
                self.ended = true;
                Err(Error::file(&self.path, format!("after line {}: {error}", self.line)))
            }
        }
    }

    /// Ends the iteration with a fault of the text as a whole.
    fn fault(&mut self, line: u64, message: impl std::fmt::Display) -> Error {
        self.ended = true;
        Error::file(&self.path, format!("line {line}: {message}"))
    }

    fn next_object(&mut self) -> Result<Option<Line>> {
        let (mut text, mut scan, mut begins, mut too_long) = (Vec::new(), Scan::default(), self.line, false);
        loop {
            let line = self.line;
            let Some(byte) = self.byte()? else {
                return match text.is_empty() && !too_long {
                    true => Ok(None),
                    false => Err(self.fault(begins, "the file ends inside an object; expected a closing }")),
                };
            };
            if text.is_empty() && !too_long {
                if byte.is_ascii_whitespace() {
                    continue;
                }
                begins = line;
            }
            scan.feed(byte);
            if text.len() >= self.limit {
                (too_long, text) = (true, Vec::new());
            } else if !too_long {
                text.push(byte);
            }
            // Files that were joined keep their byte order marks.
            if text == BOM {
                text.clear();
                continue;
            }
            // Text outside brackets is broken, up to the end of its line.
            let ends = if text.first() == Some(&b'{') || too_long { scan.outside() } else { byte == b'\n' };
            if ends && too_long {
                let message = format!("a record longer than {} bytes; expected less", self.limit);
                return Err(self.fault(begins, message));
            }
            if ends {
                let message = "not UTF-8; expected UTF-8 text".to_owned();
                return String::from_utf8(text)
                    .map(|text| Some(Line { number: begins, text }))
                    .map_err(|_| Error::Line { path: self.path.clone(), line: begins, message });
            }
        }
    }
}

impl Iterator for Objects {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended { None } else { self.next_object().transpose() }
    }
}
