//! What is worth saying of data: how grave it is, what was found, where and how often, and what to do.

use std::fmt;

use serde::Serialize;

use crate::data::report::Origin;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Training works, and may teach something else than was meant.
    Warning,
    /// Training fails, or teaches something else than was meant.
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

/// How often something was seen, and where first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How often.
    pub count: usize,
    /// Where the first stands.
    pub first: Option<Origin>,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, origin: &Origin) {
        self.count += 1;
        self.first.get_or_insert_with(|| origin.clone());
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The share of `all`; 0 of nothing.
    pub fn share(&self, all: usize) -> f64 {
        if all == 0 { 0.0 } else { self.count as f64 / all as f64 }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A name that does not change: `double_bos`.
    pub code: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// What was found, in a sentence without its full stop.
    pub found: String,
    /// How many records, pairs or sequences it concerns; none where it concerns all or is not of that kind.
    pub count: Option<usize>,
    /// Where the first of them stands.
    pub first: Option<Origin>,
    /// What to do, or what comes of doing nothing.
    pub advice: String,
}

impl Finding {
    /// A finding that is not of single records.
    pub fn new(
        code: &'static str,
        severity: Severity,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { code, severity, found: found.into(), count: None, first: None, advice: advice.into() }
    }

    /// The same finding, with how often it was made and where first.
    pub fn tallied(mut self, tally: &Tally) -> Self {
        self.count = Some(tally.count);
        self.first = tally.first.clone();
        self
    }
}

/// A share in per cent, for findings: `0.4 %`, `37 %`.
pub(super) fn percent(share: f64) -> String {
    match 100.0 * share {
        all if (all > 0.0 && all < 9.95) || (all > 99.0 && all < 100.0) => format!("{all:.1} %"),
        all => format!("{all:.0} %"),
    }
}

/// A number of things: `1 pair`, `2 pairs`.
pub(in crate::data) fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
