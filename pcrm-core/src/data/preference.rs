//! Reads preferences from files: a record becomes a prompt with its answers and comparisons.

mod findings;
mod oasst;
mod pair;
mod ranked;
mod several;

use std::path::PathBuf;

pub use super::answer_set::{AnswerSet, Comparison, InSet, Preference, Ties, Verdict, pairs};
pub use super::conversation::{Content, Message};
pub use super::load::ReadOptions;
use super::load::{Found, ReadRow, Reader, Record, Refusal, load};
pub use super::report::{Origin, Problem, ProblemKind, Report, Strictness};
use super::schema::Schema;
use super::survey::Finding;
use crate::error::{Error, Result};

pub(super) use findings::PairFindings;
pub(super) use pair::{content_at, is_score, read_pair, refuse_template_columns, score_columns};
pub(super) use ranked::RankedSets;

/// A set with the JSON object that it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSet {
    /// The set.
    pub set: AnswerSet,
    /// The number of the source record: sets of one record (an OpenAssistant tree) have the same number.
    pub record_number: usize,
    /// The schema of the object.
    pub schema: Schema,
    /// The object as in the file; empty for OpenAssistant messages, whose sets have no single record.
    pub record: Record,
}

/// Reads preferences from files and folders, in any format of [`records`](super::records). Every set has a
/// comparison.
///
/// The first record with a known schema determines that of its file. Malformed records, ties (equal scores, or
/// a label that says so), identical answers and empty answers are left out, or refused under
/// [`Strictness::Refuse`]. Ties in a set with other comparisons are left out and never refused. [`Ties::Keep`]
/// keeps all ties. The report counts comparisons as pairs.
///
/// # Errors
/// Fails if a file cannot be read or has no records, if no record is usable, and under [`Strictness::Refuse`]
/// at the first unusable record. Also fails if answers have no prompt while an unread column holds texts, if
/// labels do not fit the columns of their answers, if a named column is in no record or read by no schema, and
/// for `score_margins` if no pair has scores or the only scores of one are those that `pcrm score` wrote.
pub fn load_preferences(
    paths: &[PathBuf],
    options: impl Into<ReadOptions>,
) -> Result<(Vec<AnswerSet>, Report)> {
    let options = options.into();
    let (sets, report) = load(paths, &options, &mut Preferences::new(&options))?;
    if options.score_margins && pairs(&sets).all(|pair| pair.margin.is_none()) {
        let message = "no pair has scores of both answers, so no margin can be computed; expected \
                       score_chosen and score_rejected, or columns named by --field score_chosen=COLUMN";
        return Err(Error::invalid("score-margins", message));
    }
    Ok((sets, report))
}

/// Reads preferences like [`load_preferences`] and returns each set with its JSON object.
///
/// # Errors
/// Fails in the same cases as [`load_preferences`].
pub fn load_sources(paths: &[PathBuf], options: impl Into<ReadOptions>) -> Result<(Vec<SourceSet>, Report)> {
    let mut sources = Vec::new();
    let report = each_source(paths, options, &mut |source| sources.push(source))?;
    Ok((sources, report))
}

/// Reads preferences like [`load_preferences`] and passes each set with its JSON object to `take` as soon as
/// it is read, so a file larger than memory can be processed. A later record may still cause an error.
///
/// # Errors
/// Fails in the same cases as [`load_preferences`].
pub fn each_source(
    paths: &[PathBuf],
    options: impl Into<ReadOptions>,
    take: &mut dyn FnMut(SourceSet),
) -> Result<Report> {
    let options = options.into();
    let mut sources = Sources { preferences: Preferences::new(&options), records: 0, take };
    Ok(load(paths, &options, &mut sources)?.1)
}

struct Preferences {
    score_margins: bool,
    ranked: RankedSets,
    findings: PairFindings,
    /// The first record of the file with no scores but a model's, and what is wrong with them as margins.
    by_model: Option<(Origin, String)>,
}

impl Reader for Preferences {
    type Row = AnswerSet;

    fn schema_of(&self, record: &Record) -> Result<Schema, String> {
        Schema::of_pair(record)
    }

    fn read(&mut self, found: Found<'_>, out: &mut Vec<ReadRow<AnswerSet>>) {
        let Found { schema, record, origin, .. } = found;
        self.findings.see_record(schema, record, &origin);
        if let Some(message) = self.score_margins.then(|| pair::score_that_is_none(record)).flatten() {
            let message = format!("{message}, for --score-margins");
            return out.push((origin, Err((ProblemKind::Malformed, message))));
        }
        if self.score_margins && schema.is_pair() && self.by_model.is_none() {
            self.by_model = pair::only_models_scores(record).map(|message| (origin.clone(), message));
        }
        let read = match schema {
            schema if schema.is_many() => self.ranked.read(schema, record, &origin),
            schema if schema.is_pair() => read_pair(schema, record, origin.clone()).map(|set| vec![set]),
            schema => Err((ProblemKind::Malformed, format!("{schema}; expected a schema of pairs"))),
        };
        match read {
            Ok(sets) => {
                for set in sets {
                    if let Some(set) = self.checked(set, out) {
                        set.pairs().for_each(|pair| self.findings.see(pair));
                        out.push((set.origin.clone(), Ok(set)));
                    }
                }
            }
            Err(refusal) => out.push((origin, Err(refusal))),
        }
    }

    fn end_file(&mut self, out: &mut Vec<ReadRow<AnswerSet>>) -> Result<(), String> {
        if let Some((origin, message)) = self.by_model.take() {
            return Err(format!("line {}: {message}", origin.line));
        }
        let mut sets = Vec::new();
        self.ranked.end_file(&mut sets);
        for (origin, set) in sets {
            match set {
                Ok(set) => {
                    let set = self.checked(set, out);
                    out.extend(set.map(|set| (set.origin.clone(), Ok(set))));
                }
                Err(refusal) => out.push((origin, Err(refusal))),
            }
        }
        self.findings.end_file()
    }

    fn pairs(&self, set: &AnswerSet) -> usize {
        set.comparisons.len()
    }

    fn findings(&self) -> Vec<Finding> {
        self.findings.findings()
    }
}

impl Preferences {
    fn new(options: &ReadOptions) -> Self {
        Self {
            score_margins: options.score_margins,
            ranked: RankedSets::new(options.ties),
            findings: PairFindings::of(options.score_margins),
            by_model: None,
        }
    }

    /// Removes the comparisons without a preference and adds a refusal for each; returns `None` if no other
    /// is left.
    fn checked(&self, mut set: AnswerSet, out: &mut Vec<ReadRow<AnswerSet>>) -> Option<AnswerSet> {
        let mut comparisons = std::mem::take(&mut set.comparisons);
        comparisons.retain(|comparison| match self.refusal(set.view(comparison)) {
            Some(refusal) => {
                out.push((set.origin.clone(), Err(refusal)));
                false
            }
            None => true,
        });
        for comparison in &mut comparisons {
            if let (Some((left, right)), None, true) =
                (comparison.scores, comparison.margin, self.score_margins)
            {
                comparison.margin = Some((left - right) as f32);
            }
        }
        set.comparisons = comparisons;
        (!set.comparisons.is_empty()).then_some(set)
    }

    /// Returns the reason why a well-formed comparison is not kept.
    fn refusal(&self, pair: Preference<'_>) -> Option<Refusal> {
        if pair.chosen == pair.rejected {
            return Some((ProblemKind::Identical, "\"chosen\" and \"rejected\" are the same".to_owned()));
        }
        if pair.verdict == Verdict::Tied && self.ranked.ties() == Ties::Drop {
            let kind = if pair.in_set.is_some() { ProblemKind::TieInSet } else { ProblemKind::Tie };
            return Some((kind, tie_in_words(pair)));
        }
        None
    }
}

fn tie_in_words(pair: Preference<'_>) -> String {
    match pair.scores {
        Some((score, _)) => format!("both answers have the score {score}: a tie"),
        None if pair.in_set.is_none() => "the label calls neither answer better: a tie".to_owned(),
        None => "both answers have the same rank: a tie".to_owned(),
    }
}

struct Sources<'a> {
    preferences: Preferences,
    records: usize,
    take: &'a mut dyn FnMut(SourceSet),
}

impl Reader for Sources<'_> {
    /// The number of comparisons in a set that was passed on.
    type Row = usize;

    fn schema_of(&self, record: &Record) -> Result<Schema, String> {
        self.preferences.schema_of(record)
    }

    fn read(&mut self, found: Found<'_>, out: &mut Vec<ReadRow<usize>>) {
        let (source, schema, mut sets) = (found.source, found.schema, Vec::new());
        self.preferences.read(found, &mut sets);
        let record_number = self.records;
        self.records += 1;
        self.hand_over(sets, out, |set| SourceSet { set, record_number, schema, record: source.clone() });
    }

    fn end_file(&mut self, out: &mut Vec<ReadRow<usize>>) -> Result<(), String> {
        let mut sets = Vec::new();
        self.preferences.end_file(&mut sets)?;
        let (schema, record_number) = (Schema::OasstMessages, self.records);
        self.hand_over(sets, out, |set| SourceSet { set, record_number, schema, record: Record::new() });
        Ok(())
    }

    fn pairs(&self, comparisons: &usize) -> usize {
        *comparisons
    }

    fn findings(&self) -> Vec<Finding> {
        self.preferences.findings()
    }
}

impl Sources<'_> {
    fn hand_over(
        &mut self,
        sets: Vec<ReadRow<AnswerSet>>,
        out: &mut Vec<ReadRow<usize>>,
        sourced: impl Fn(AnswerSet) -> SourceSet,
    ) {
        for (origin, set) in sets {
            let taken = set.map(|set| {
                let comparisons = set.comparisons.len();
                (self.take)(sourced(set));
                comparisons
            });
            out.push((origin, taken));
        }
    }
}

#[cfg(test)]
mod tests;
