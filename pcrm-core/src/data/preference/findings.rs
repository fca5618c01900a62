//! Findings about pairs while they are read: missing margins, margins against the label, repeated prompts, scores
//! as text, labels that do not fit.

use super::{Content, Origin, Preference};
use crate::data::load::Record;
use crate::data::preference::pair::score_that_is_none;
use crate::data::schema::{LabelKeys, Schema};
use crate::data::survey::{Finding, Severity, Tally, many};

/// The minimum share of pairs whose answers begin with their prompt by design, not by coincidence.
const MANY: f64 = 0.5;

/// Counts kept while pairs are read.
#[derive(Debug, Default)]
pub(in crate::data) struct PairFindings {
    /// True if scores become margins.
    score_margins: bool,
    against_label: Tally,
    pairs: usize,
    with_margin: usize,
    without_margin: Tally,
    prompted: usize,
    repeated: Tally,
    score_as_text: Tally,
    misfit: Option<(Origin, String)>,
}

impl PairFindings {
    /// Creates empty counts; `score_margins` is true if the difference of scores becomes the margin.
    pub(in crate::data) fn of(score_margins: bool) -> Self {
        Self { score_margins, ..Self::default() }
    }

    /// Counts a record read with this schema.
    pub(in crate::data) fn see_record(&mut self, schema: Schema, record: &Record, origin: &Origin) {
        if schema == Schema::Labelled && self.misfit.is_none() {
            let misfit = LabelKeys::of(record).and_then(|keys| keys.misfit(record));
            self.misfit = misfit.map(|message| (origin.clone(), message));
        }
        if schema.is_pair() && score_that_is_none(record).is_some() {
            self.score_as_text.add(origin);
        }
    }

    /// Counts a pair that is kept.
    pub(in crate::data) fn see(&mut self, pair: Preference<'_>) {
        self.pairs += 1;
        match pair.margin {
            Some(_) => self.with_margin += 1,
            None => self.without_margin.add(pair.origin),
        }
        let is_lower = pair.scores.is_some_and(|(chosen, rejected)| chosen < rejected);
        if self.score_margins && is_lower && pair.margin.is_some_and(|margin| margin < 0.0) {
            self.against_label.add(pair.origin);
        }
        if let Some(prompt) = pair.prompt {
            self.prompted += 1;
            if begins_with(pair.chosen, prompt) || begins_with(pair.rejected, prompt) {
                self.repeated.add(pair.origin);
            }
        }
    }

    /// Ends a file.
    ///
    /// # Errors
    /// Fails if labels do not fit the columns of the answers.
    pub(in crate::data) fn end_file(&mut self) -> Result<(), String> {
        match self.misfit.take() {
            Some((origin, message)) => Err(format!("line {}: {message}", origin.line)),
            None => Ok(()),
        }
    }

    /// Returns the findings.
    pub(in crate::data) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.with_margin > 0 && !self.without_margin.is_empty() {
            let found = format!(
                "{} of {} pairs have no margin, and the others have one",
                self.without_margin.count, self.pairs
            );
            let advice =
                "The loss takes a missing margin as 0; give every pair a margin, or remove the column";
            findings.push(
                Finding::new("margins_missing", Severity::Warning, found, advice)
                    .tallied(&self.without_margin),
            );
        }
        if !self.against_label.is_empty() {
            let found = format!(
                "{} of {} pairs get a negative margin: the chosen answer has a lower score than the rejected one",
                self.against_label.count, self.pairs
            );
            let advice = "Are the columns swapped? A negative margin asks for less than the label does";
            findings.push(
                Finding::new("negative_margins", Severity::Warning, found, advice)
                    .tallied(&self.against_label),
            );
        }
        if self.repeated.share(self.prompted) >= MANY {
            let found = format!(
                "in {} of {} pairs an answer begins with the prompt",
                self.repeated.count, self.prompted
            );
            let advice = "The model reads the prompt twice; remove the prompt from the answers, or remove \
                          the prompt column";
            findings.push(
                Finding::new("prompt_repeated", Severity::Warning, found, advice).tallied(&self.repeated),
            );
        }
        if !self.score_as_text.is_empty() {
            let found = format!(
                "{} with a score that is not a number and is not read",
                many(self.score_as_text.count, "record")
            );
            let advice = "Write scores as numbers, without quotes";
            findings.push(
                Finding::new("score_as_text", Severity::Warning, found, advice).tallied(&self.score_as_text),
            );
        }
        findings
    }
}

/// Returns true if an answer begins with the prompt. A short prompt may match by coincidence, and a word that
/// continues does not match.
fn says_first(answer: &str, prompt: &str) -> bool {
    let prompt = prompt.trim();
    let rest = answer.trim_start().strip_prefix(prompt);
    prompt.len() >= 8 && rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}

/// Returns true if an answer begins with the whole prompt.
fn begins_with(answer: &Content, prompt: &Content) -> bool {
    match (answer, prompt) {
        (Content::Text(answer), Content::Text(prompt)) => says_first(answer, prompt),
        (Content::Messages(answer), Content::Messages(prompt)) => {
            let whole = !prompt.is_empty() && answer.len() > prompt.len() && answer.starts_with(prompt);
            let said = answer.first().zip(prompt.last());
            whole || said.is_some_and(|(answer, asked)| says_first(&answer.content, &asked.content))
        }
        _ => false,
    }
}
