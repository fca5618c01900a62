//! Finds the assistant's parts of a rendered conversation: the text that a template puts between
//! `{% generation %}` and `{% endgeneration %}`.
//!
//! A mark becomes a call that records how much text has been written so far, like transformers'
//! `AssistantTracker`. The marked block is a scope: names set inside are not visible outside.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::Value;

use super::bounds::LARGEST;

const BEGINS: &str = "__generation_begins";
const ENDS: &str = "__generation_ends";

/// Replaces the marks by calls; returns the new source, and true if it has a mark outside comments.
pub(super) fn with_calls(source: &str) -> (String, bool) {
    let mut out = String::with_capacity(source.len());
    let (mut rest, mut marked) = (source, false);
    while let Some(at) = next_tag(rest) {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let close = if tag.starts_with("{#") { "#}" } else { "%}" };
        let Some(end) = tag[2..].find(close).map(|end| end + 4) else {
            out.push_str(tag);
            return (out, marked);
        };
        let (tag, after) = tag.split_at(end);
        let inside = &tag[2..end - 2];
        let word = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let (left, right) = inside.split_once(word).unwrap_or_default();
        match word {
            "generation" if close == "%}" => {
                marked = true;
                out.push_str(&format!("{{%{left}with %}}{{% if {BEGINS}() {right}%}}"));
            }
            "endgeneration" if close == "%}" => {
                let ends =
                    format!("{{%{left}if {ENDS}() %}}{{% endif %}}{{% endif %}}{{% endwith {right}%}}");
                out.push_str(&ends);
            }
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    (out, marked)
}

/// Returns the offset of the next block tag or comment.
fn next_tag(source: &str) -> Option<usize> {
    let is_tag = |at: &usize| matches!(source.as_bytes().get(at + 1), Some(b'%' | b'#'));
    source.match_indices('{').map(|(at, _)| at).find(is_tag)
}

/// The state of one rendering: the length of the text so far, and the marked parts.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    written: AtomicUsize,
    spans: Mutex<Spans>,
}

/// Marked parts as byte ranges of the text; an open part has no end yet.
#[derive(Debug, Default)]
struct Spans {
    open: Vec<usize>,
    closed: Vec<Range<usize>>,
}

impl Tracker {
    /// Returns the functions that the marks call, for a template's context.
    pub(super) fn functions(self: &Arc<Self>) -> [(String, Value); 2] {
        let (begins, ends) = (self.clone(), self.clone());
        let begin = move || {
            let at = begins.written.load(Ordering::Relaxed);
            begins.spans.lock().unwrap_or_else(PoisonError::into_inner).open.push(at);
            true
        };
        let end = move || {
            let at = ends.written.load(Ordering::Relaxed);
            let mut spans = ends.spans.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(begun) = spans.open.pop() {
                spans.closed.push(begun..at);
            }
            false
        };
        [(BEGINS.to_owned(), Value::from_function(begin)), (ENDS.to_owned(), Value::from_function(end))]
    }

    /// Returns the marked parts in order, as character ranges of the text.
    pub(super) fn in_characters(&self, text: &str) -> Vec<Range<usize>> {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner).closed.clone();
        spans.sort_by_key(|span| (span.start, span.end));
        let (mut at, mut characters) = (0, 0);
        let mut count = |to: usize| {
            if to < at {
                (at, characters) = (0, 0);
            }
            characters += text.get(at..to).map_or(0, |part| part.chars().count());
            at = to;
            characters
        };
        spans.into_iter().map(|span| count(span.start)..count(span.end)).collect()
    }
}

/// A writer that collects the rendered text and updates the tracker's length.
pub(super) struct Written<'a> {
    pub text: Vec<u8>,
    pub tracker: &'a Tracker,
}

impl io::Write for Written<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.text.len() + bytes.len()) as u64 > LARGEST {
            return Err(io::Error::other("the text is too long"));
        }
        self.text.extend_from_slice(bytes);
        self.tracker.written.store(self.text.len(), Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
