//! Patterns that PEFT matches with Python's `re`.

use fancy_regex::Regex;

use crate::error::{Error, Result};

/// A regular expression over module names.
#[derive(Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern that must match a whole name.
    ///
    /// # Errors
    /// No regular expression; the message names `field`.
    pub fn whole(field: &str, pattern: &str) -> Result<Self> {
        Self::compile(field, pattern, &format!("^(?:{pattern})$"))
    }

    /// Compiles a pattern that must match a name or the end of one from a dot on (a key of `rank_pattern`).
    ///
    /// # Errors
    /// As [`Pattern::whole`].
    pub fn ending(field: &str, pattern: &str) -> Result<Self> {
        Self::compile(field, pattern, &format!(r"^(?:.*\.)?(?:{pattern})$"))
    }

    fn compile(field: &str, pattern: &str, whole: &str) -> Result<Self> {
        let wrong = |error| Error::invalid(field, format!("{pattern:?} is no regular expression: {error}"));
        Ok(Self(Regex::new(whole).map_err(wrong)?))
    }

    /// Returns whether the pattern matches.
    ///
    /// # Errors
    /// A pattern that backtracks too long.
    pub fn matches(&self, name: &str) -> Result<bool> {
        let slow =
            |error| Error::invalid("target_modules", format!("{} on {name}: {error}", self.0.as_str()));
        self.0.is_match(name).map_err(slow)
    }
}
