//! A file as JSON records: one a line, or the elements of one array.
//!
//! An array (`[{..}, {..}]`, pretty-printed or not) is split as it streams by following strings and brackets,
//! so that a record keeps the number of the line it begins on.

use std::path::Path;

use crate::data::lines::{Line, Lines, MAX_LINE};
use crate::error::{Error, Result};

/// The records of a file, as JSON text with the line each begins on.
///
/// As with [`Lines`], an [`Error::Line`] concerns one record unless the iteration ends with it.
#[derive(Debug)]
pub struct Records {
    lines: Lines,
    form: Form,
    pending: std::collections::VecDeque<Line>,
}

#[derive(Debug)]
enum Form {
    Unknown,
    OneALine,
    Array(Splitter),
    Ended,
}

impl Records {
    /// Opens a file.
    ///
    /// # Errors
    /// As [`Lines::open`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { lines: Lines::open(path)?, form: Form::Unknown, pending: Default::default() })
    }

    fn line_error(&self, line: u64, message: String) -> Error {
        Error::Line { path: self.lines.path().to_path_buf(), line, message }
    }
}

impl Iterator for Records {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.pending.pop_front() {
                return Some(Ok(record));
            }
            if matches!(self.form, Form::Ended) {
                return None;
            }
            let line = match self.lines.next() {
                Some(Ok(line)) => line,
                Some(Err(error)) => {
                    // Inside an array the place in the structure is lost with the line.
                    if matches!(self.form, Form::Array(_)) {
                        self.form = Form::Ended;
                    }
                    return Some(Err(error));
                }
                None => {
                    let form = std::mem::replace(&mut self.form, Form::Ended);
                    let Form::Array(splitter) = form else { return None };
                    if splitter.closed {
                        return None;
                    }
                    let message = "the file ends inside its array; expected a closing ]".to_owned();
                    return Some(Err(self.line_error(splitter.begins, message)));
                }
            };
            if matches!(self.form, Form::Unknown) {
                self.form = if line.text.trim_start().starts_with('[') {
                    Form::Array(Splitter::default())
                } else {
                    Form::OneALine
                };
            }
            let Form::Array(splitter) = &mut self.form else { return Some(Ok(line)) };
            if let Err(message) = splitter.feed(&line, &mut self.pending) {
                self.form = Form::Ended;
                return Some(Err(self.line_error(line.number, message)));
            }
        }
    }
}

/// Cuts the text of an array into its elements.
#[derive(Debug, Default)]
struct Splitter {
    opened: bool,
    closed: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
    element: String,
    begins: u64,
}

impl Splitter {
    fn feed(&mut self, line: &Line, out: &mut impl Extend<Line>) -> Result<(), String> {
        for character in line.text.chars() {
            if self.closed {
                if character.is_whitespace() {
                    continue;
                }
                return Err(format!(
                    "{character:?} after the array's closing ]; expected the end of the file"
                ));
            }
            if !self.opened {
                self.opened = character == '[';
                continue;
            }
            if self.in_string {
                self.element.push(character);
                match character {
                    _ if self.escaped => self.escaped = false,
                    '\\' => self.escaped = true,
                    '"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            if self.depth == 0 && matches!(character, ',' | ']') {
                self.finish(out);
                self.closed = character == ']';
                continue;
            }
            match character {
                '{' | '[' => self.depth += 1,
                '}' | ']' => self.depth = self.depth.saturating_sub(1),
                '"' => self.in_string = true,
                _ => {}
            }
            if self.element.is_empty() {
                if character.is_whitespace() {
                    continue;
                }
                self.begins = line.number;
            }
            self.element.push(character);
        }
        if !self.element.is_empty() {
            self.element.push('\n');
        }
        if self.element.len() > MAX_LINE {
            return Err(format!("the record that begins on line {} exceeds {MAX_LINE} bytes", self.begins));
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut impl Extend<Line>) {
        let text = std::mem::take(&mut self.element);
        if !text.trim().is_empty() {
            out.extend([Line { number: self.begins, text }]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(text: &str) -> Vec<Result<(u64, String), String>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Records::open(file.path())
            .unwrap()
            .map(|record| {
                let record = record.map_err(|error| error.to_string())?;
                let value: serde_json::Value =
                    serde_json::from_str(&record.text).map_err(|error| error.to_string())?;
                Ok((record.number, value.to_string()))
            })
            .collect()
    }

    fn ok(line: u64, text: &str) -> Result<(u64, String), String> {
        Ok((line, text.to_owned()))
    }

    /// The same records from either form, with the line each begins on, brackets and quotes in strings included.
    #[test]
    fn arrays_and_lines_give_the_same_records() {
        assert_eq!(read("{\"a\":1}\n\n{\"a\":2}\n"), vec![ok(1, "{\"a\":1}"), ok(3, "{\"a\":2}")]);
        assert_eq!(
            read("[\n  {\n    \"a\": \"x ] \\\" } ,\"\n  },\n  {\"a\": [1, {}]}, 3\n]\n"),
            vec![ok(2, "{\"a\":\"x ] \\\" } ,\"}"), ok(5, "{\"a\":[1,{}]}"), ok(5, "3")]
        );
        assert_eq!(read("[]"), vec![]);
    }

    /// A download cut short must not read as a shorter data set.
    #[test]
    fn an_array_that_does_not_close_is_an_error() {
        let records = read("[{\"a\":1},\n{\"a\":");
        assert_eq!(records[0], ok(1, "{\"a\":1}"));
        assert!(
            records[1].as_ref().unwrap_err().contains(":2: the file ends inside its array"),
            "{records:?}"
        );
    }
}
