//! Warnings that a command prints when it finds them and repeats next to its results.

use crate::paragraph::paragraph;
use crate::progress::say;

/// The warnings of a command so far.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Vec<String>);

impl Warnings {
    /// Prints a warning and keeps it.
    pub fn add(&mut self, text: String) {
        print(&text);
        self.0.push(text);
    }

    /// Keeps a warning that is printed only with the results.
    pub fn keep(&mut self, text: String) {
        self.0.push(text);
    }

    /// Prints all warnings again, since a line at the beginning of a long log is easily missed.
    pub fn repeat(&self) {
        self.0.iter().for_each(|text| print(text));
    }

    /// Returns all warnings as paragraphs of 80 columns.
    pub fn paragraphs(&self) -> String {
        self.0.iter().map(|text| paragraph("warning: ", text)).collect()
    }

    /// Returns all warnings.
    pub fn all(&self) -> &[String] {
        &self.0
    }
}

/// Prints a warning once.
pub fn print(text: &str) {
    say(paragraph("warning: ", text).trim_end());
}
