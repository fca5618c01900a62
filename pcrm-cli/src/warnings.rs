//! Warnings that a command prints when it finds them, and once more beside its figures.

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

    /// Keeps a warning that is printed with the figures only.
    pub fn keep(&mut self, text: String) {
        self.0.push(text);
    }

    /// Prints all of them again: a line at the beginning of a long log is not read.
    pub fn repeat(&self) {
        self.0.iter().for_each(|text| print(text));
    }

    /// All of them, as paragraphs of 80 columns.
    pub fn paragraphs(&self) -> String {
        self.0.iter().map(|text| paragraph("warning: ", text)).collect()
    }

    /// All of them.
    pub fn all(&self) -> &[String] {
        &self.0
    }
}

/// Prints a warning once.
pub fn print(text: &str) {
    say(paragraph("warning: ", text).trim_end());
}
