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

    /// Compiles a pattern of what precedes the number of a layer in a name (`layers_pattern`); `None`: any name
    /// but the first.
    ///
    /// # Errors
    /// Fails as [`Pattern::whole`] does.
    pub fn layers(pattern: Option<&str>) -> Result<Self> {
        // As in PEFT: the first number decides, because the names of experts contain a second one.
        let whole = match pattern {
            Some(pattern) => format!(r"^(?:.*?\.)??{pattern}\.(?P<idx>\d+)\."),
            None => r"^.*?\.[^.]*\.(?P<idx>\d+)\.".to_owned(),
        };
        Self::compile("layers_pattern", pattern.unwrap_or_default(), &whole)
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
        self.0.is_match(name).map_err(|error| self.slow(name, error))
    }

    /// Matches a pattern of [`Pattern::layers`]; returns the number of the layer if the pattern holds it.
    ///
    /// # Errors
    /// Fails if the pattern backtracks too long.
    pub fn layer(&self, name: &str) -> Result<Option<Option<usize>>> {
        let found = self.0.captures(name).map_err(|error| self.slow(name, error))?;
        let number = |found: fancy_regex::Captures<'_>| found.name("idx")?.as_str().parse().ok();
        Ok(found.map(number))
    }

    fn slow(&self, name: &str, error: fancy_regex::Error) -> Error {
        Error::invalid("target_modules", format!("{} on {name}: {error}", self.0.as_str()))
    }
}
