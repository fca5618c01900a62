//! Patterns that PEFT matches with Python's `re`.

use fancy_regex::Regex;

use crate::error::{Error, Result};

/// A regular expression over module names.
#[derive(Debug, Clone)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern that must match a whole name.
    ///
    /// # Errors
    /// Fails if it is not a regular expression; the error names `field`.
    pub fn whole(field: &str, pattern: &str) -> Result<Self> {
        Self::compile(field, pattern, &format!("^(?:{pattern})$"))
    }

    /// Compiles a pattern that must match a name or a suffix of it after a dot (a key of `rank_pattern`).
    ///
    /// # Errors
    /// Fails as [`Pattern::whole`] does.
    pub fn ending(field: &str, pattern: &str) -> Result<Self> {
        Self::compile(field, pattern, &format!(r"^(?:.*\.)?(?:{pattern})$"))
    }

    fn compile(field: &str, pattern: &str, whole: &str) -> Result<Self> {
        let wrong =
            |error| Error::invalid(field, format!("{pattern:?} is not a regular expression: {error}"));
        Ok(Self(Regex::new(whole).map_err(wrong)?))
    }

    /// Returns whether the pattern matches.
    ///
    /// # Errors
    /// Fails if the pattern backtracks too long.
    pub fn matches(&self, name: &str) -> Result<bool> {
        let slow =
            |error| Error::invalid("target_modules", format!("{} on {name}: {error}", self.0.as_str()));
        self.0.is_match(name).map_err(slow)
    }
}
