//! The time that chat templates see as now: the current time, or one that a run has fixed.
//!
//! A run fixes its moment before it renders anything, so that a resumed run and all processes of a run render the
//! same texts. The moment holds for the whole process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use chrono::{DateTime, FixedOffset, Local, SecondsFormat};

use crate::error::{Error, Result};

static FIXED: RwLock<Option<DateTime<FixedOffset>>> = RwLock::new(None);
static ASKED: AtomicBool = AtomicBool::new(false);
static MENTIONED: AtomicBool = AtomicBool::new(false);

/// Returns the current time in RFC 3339, in the machine's time zone and to the second.
pub fn now() -> String {
    Local::now().to_rfc3339_opts(SecondsFormat::Secs, false)
}

/// Fixes the moment, in RFC 3339, and forgets which templates asked for an earlier one.
///
/// # Errors
/// Fails if the text is not a time in RFC 3339.
pub fn fix(moment: &str) -> Result<()> {
    let parsed = DateTime::parse_from_rfc3339(moment).map_err(|error| {
        let expected = "expected a date and time such as 2026-07-26T12:00:00+02:00";
        Error::invalid("moment", format!("found {moment:?} ({error}); {expected}"))
    })?;
    *FIXED.write().unwrap_or_else(PoisonError::into_inner) = Some(parsed);
    ASKED.store(false, Ordering::Relaxed);
    MENTIONED.store(false, Ordering::Relaxed);
    Ok(())
}

/// Returns the fixed moment if a rendered template has asked for it.
pub fn asked() -> Option<String> {
    fixed().filter(|_| ASKED.load(Ordering::Relaxed)).map(text)
}

/// Runs a function whose renderings are not part of the run, so that [`asked`] ignores them.
pub fn aside<T>(render: impl FnOnce() -> T) -> T {
    let before = ASKED.load(Ordering::Relaxed);
    let rendered = render();
    ASKED.store(before, Ordering::Relaxed);
    rendered
}

/// Returns the fixed moment if a template that was compiled since could ask for it.
pub fn mentioned() -> Option<String> {
    fixed().filter(|_| MENTIONED.load(Ordering::Relaxed)).map(text)
}

/// Returns the moment for a template that asks for it.
pub(super) fn seen() -> DateTime<FixedOffset> {
    ASKED.store(true, Ordering::Relaxed);
    fixed().unwrap_or_else(|| Local::now().fixed_offset())
}

/// Notes the source of a template that is compiled.
pub(super) fn compiled(source: &str) {
    if source.contains("strftime_now") {
        MENTIONED.store(true, Ordering::Relaxed);
    }
}

fn fixed() -> Option<DateTime<FixedOffset>> {
    *FIXED.read().unwrap_or_else(PoisonError::into_inner)
}

fn text(moment: DateTime<FixedOffset>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::ChatTemplate;

    /// Protects: templates see the fixed moment in its own time zone, and it is known that one asked.
    #[test]
    fn templates_see_the_fixed_moment() {
        let moment = "2024-03-01T00:30:05+05:30";
        fix(moment).unwrap();
        let template = ChatTemplate::new("{{ strftime_now('%F %T %s') }}").unwrap();
        assert_eq!(mentioned().as_deref(), Some(moment));
        assert_eq!(template.render(&[], false, &[]).unwrap(), "2024-03-01 00:30:05 1709233205");
        assert_eq!(asked().as_deref(), Some(moment));
        let error = fix("yesterday").unwrap_err().to_string();
        assert!(error.contains("\"yesterday\"") && error.contains("expected a date and time"), "{error}");
        assert!(DateTime::parse_from_rfc3339(&now()).is_ok());
    }
}
