//! Findings about data: severity, description, count, first place, and advice.

use std::fmt;

use serde::Serialize;

use crate::data::report::Origin;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Information only.
    Note,
    /// Training works but may teach something other than intended.
    Warning,
    /// Training fails or teaches something other than intended.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// A count of occurrences and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// The number of occurrences.
    pub count: usize,
    /// The file and line of the first occurrence.
    pub first: Option<Origin>,
}

impl Tally {
    /// Counts one occurrence.
    pub fn add(&mut self, origin: &Origin) {
        self.count += 1;
        self.first.get_or_insert_with(|| origin.clone());
    }

    /// Returns true if nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the share of `all`, or 0 if `all` is 0.
    pub fn share(&self, all: usize) -> f64 {
        if all == 0 { 0.0 } else { self.count as f64 / all as f64 }
    }
}

/// A finding about the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable name, such as `double_bos`.
    pub code: &'static str,
    /// The severity.
    pub severity: Severity,
    /// The description, a sentence without its full stop.
    pub found: String,
    /// The number of records, pairs or sequences concerned; `None` if the finding concerns all or is of
    /// another kind.
    pub count: Option<usize>,
    /// The file and line of the first of them.
    pub first: Option<Origin>,
    /// The advice, or the consequence of ignoring the finding.
    pub advice: String,
}

impl Finding {
    /// Creates a finding that is not about single records.
    pub fn new(
        code: &'static str,
        severity: Severity,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { code, severity, found: found.into(), count: None, first: None, advice: advice.into() }
    }

    /// Adds the count and the first occurrence to the finding.
    pub fn tallied(mut self, tally: &Tally) -> Self {
        self.count = Some(tally.count);
        self.first = tally.first.clone();
        self
    }
}

/// Formats a share in per cent for findings: `0.4 %`, `37 %`.
pub(super) fn percent(share: f64) -> String {
    match 100.0 * share {
        all if (all > 0.0 && all < 9.95) || (all > 99.0 && all < 100.0) => format!("{all:.1} %"),
        all => format!("{all:.0} %"),
    }
}

/// Formats a count of things: `1 pair`, `2 pairs`.
pub(in crate::data) fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
