//! Reads a file as numbered lines: plain, gzip or zstd, in bounded memory.
//!
//! No line is held beyond the limit, so a small file that decompresses to terabytes costs time but not
//! memory.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use super::container::{self, Container};
use crate::error::{Error, Result};

/// The default maximum length of a line: 64 MiB.
pub const MAX_LINE: usize = 64 << 20;

/// A line of a file that is not blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The line number, from 1; blank lines count.
    pub number: u64,
    /// The text without the line ending.
    pub text: String,
}

/// The lines of a file.
///
/// An [`Error::Line`] is about one line, and the next call continues after it; any other error ends the
/// iteration.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    max_line: usize,
    number: u64,
    ended: bool,
}

impl Lines {
    /// Opens a file with the default limit, [`MAX_LINE`].
    ///
    /// # Errors
    /// Fails if the file cannot be opened or is a Parquet or Arrow file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, MAX_LINE)
    }

    /// Opens a file; lines longer than `max_line` bytes are errors.
    ///
    /// # Errors
    /// Fails in the same cases as [`Lines::open`].
    pub fn open_with(path: &Path, max_line: usize) -> Result<Self> {
        match container::open(path)? {
            Container::Text(reader) => Ok(Self::of(path.to_path_buf(), reader, max_line)),
            Container::Parquet(_) => Err(Error::file(path, "a Parquet file; expected lines of text")),
            Container::Arrow(_) => Err(Error::file(path, "an Arrow file; expected lines of text")),
        }
    }

    /// Reads the lines of the file at `path` from a reader.
    pub(super) fn of(path: PathBuf, reader: Box<dyn BufRead + Send>, max_line: usize) -> Self {
        Self { path, reader, max_line, number: 0, ended: false }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn line_error(&self, message: impl Into<String>) -> Error {
        Error::Line { path: self.path.clone(), line: self.number, message: message.into() }
    }

    /// Returns the next line's bytes, or `None` at the end; the flag is true if the line exceeds the limit.
    fn read_raw(&mut self) -> io::Result<Option<(Vec<u8>, bool)>> {
        let (mut bytes, mut too_long, mut any) = (Vec::new(), false, false);
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                return Ok(any.then_some((bytes, too_long)));
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let piece = &buffer[..end.unwrap_or(buffer.len())];
            if bytes.len() + piece.len() > self.max_line {
                too_long = true;
                bytes = Vec::new();
            } else if !too_long {
                bytes.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                return Ok(Some((bytes, too_long)));
            }
        }
    }

    fn next_line(&mut self) -> Result<Option<Line>> {
        loop {
            let read = self.read_raw().map_err(|error| {
                self.ended = true;
                Error::file(&self.path, format!("after line {}: {error}", self.number))
            })?;
            let Some((mut bytes, too_long)) = read else {
                self.ended = true;
                return Ok(None);
            };
            self.number += 1;
            if too_long {
                return Err(self.line_error(format!(
                    "longer than {} bytes; expected one JSON record per line",
                    self.max_line
                )));
            }
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return match String::from_utf8(bytes) {
                Ok(text) => Ok(Some(Line { number: self.number, text })),
                Err(error) => Err(self.line_error(format!(
                    "not UTF-8 (at byte {} of the line); expected UTF-8 text",
                    error.utf8_error().valid_up_to()
                ))),
            };
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended { None } else { self.next_line().transpose() }
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("path", &self.path)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Vec<(u64, String)> {
        let file = file(bytes);
        Lines::open(file.path())
            .unwrap()
            .map(|line| line.map(|line| (line.number, line.text)).unwrap())
            .collect()
    }

    /// Every container yields the same numbered lines regardless of its name; gzip members and zstd frames
    /// concatenate.
    #[test]
    fn the_container_follows_from_its_bytes() {
        let expected = vec![(1, "a".to_owned()), (3, "b".to_owned()), (4, "c".to_owned())];
        assert_eq!(read(b"a\n \t\r\nb\r\nc"), expected);
        assert_eq!(read(&[gzip(b"a\n\nb\n"), gzip(b"c\n")].concat()), expected);
        let frames =
            [zstd::encode_all(&b"a\n\n"[..], 3).unwrap(), zstd::encode_all(&b"b\nc\n"[..], 3).unwrap()];
        assert_eq!(read(&frames.concat()), expected);
        assert_eq!(read(b""), vec![]);
    }

    /// A byte order mark is removed, but only at the start of the file.
    #[test]
    fn a_byte_order_mark_is_skipped_on_the_first_line_only() {
        assert_eq!(read(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n"), vec![(1, "a".into()), (2, "\u{feff}b".into())]);
    }

    /// A bad line is an error of that line, and reading continues after it.
    #[test]
    fn bad_lines_do_not_end_the_file() {
        let file = file(b"ok\nlonger than ten\n\xff\xfe\nfine\n");
        let results: Vec<_> = Lines::open_with(file.path(), 10).unwrap().collect();
        assert_eq!(results.len(), 4);
        let text = |at: usize| results[at].as_ref().unwrap_err().to_string();
        assert!(text(1).contains(":2: longer than 10 bytes"), "{}", text(1));
        assert!(text(2).contains(":3: not UTF-8"), "{}", text(2));
        assert_eq!(results[3].as_ref().unwrap().text, "fine");
    }

    /// A decompression bomb: 32 MiB of one character in a few kilobytes is refused without being held in
    /// memory.
    #[test]
    fn a_compressed_bomb_is_one_error() {
        let file = file(&gzip(&vec![b'x'; 32 << 20]));
        let results: Vec<_> = Lines::open_with(file.path(), 1 << 10).unwrap().collect();
        assert_eq!(results.len(), 1);
        assert!(results[0].is_err());
    }

    /// A truncated download is an error that names the file, not a shorter data set.
    #[test]
    fn a_truncated_archive_is_an_error() {
        let mut bytes = gzip(b"a\nb\nc\n");
        bytes.truncate(bytes.len() - 6);
        let file = file(&bytes);
        let said = Lines::open(file.path()).unwrap_err().to_string();
        assert!(said.contains("cannot be unpacked: unexpected end of file"), "{said}");
    }
}
