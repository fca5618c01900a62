//! Preference pairs from files.

mod findings;
mod oasst;
mod pair;
mod several;
mod verdict;

use std::path::PathBuf;

pub use super::conversation::{Content, Message};
pub use super::load::ReadOptions;
use super::load::{Found, Outcome, Reader, Record, Refusal, load};
pub use super::report::{Origin, Problem, ProblemKind, Report, Strictness};
use super::schema::Schema;
use super::survey::Finding;
use crate::error::{Error, Result};
pub use verdict::{InSet, Ties, Verdict};

pub(super) use findings::PairFindings;
pub(super) use pair::{content_at, is_score, read_pair, refuse_template_columns, score_columns};

/// A prompt's two answers, the first preferred to the second.
#[derive(Debug, Clone, PartialEq)]
pub struct Preference {
    /// Its place.
    pub origin: Origin,
    /// The prompt; none if both answers contain it.
    pub prompt: Option<Content>,
    /// The preferred answer.
    pub chosen: Content,
    /// The dispreferred answer.
    pub rejected: Content,
    /// By how much the data says that one is better.
    pub margin: Option<f32>,
    /// The scores that the data gives both, on a scale of its own.
    pub scores: Option<(f64, f64)>,
    /// The verdict of the data: which answer is better, or neither.
    pub verdict: Verdict,
    /// The ranked set that the pair comes from; none for a record that is one pair. The pairs of a set follow
    /// each other: answers 0 and 1, 0 and 2, .., 1 and 2, ..
    pub in_set: Option<InSet>,
}

/// A pair with the JSON object that it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct SourcePair {
    /// The pair.
    pub pair: Preference,
    /// The number of the object's record: pairs of one record have the same.
    pub record_number: usize,
    /// The schema of the object.
    pub schema: Schema,
    /// The object as the file has it; empty for OpenAssistant messages, which have none of their own.
    pub record: Record,
}

/// Reads preference pairs from files and folders of JSON lines, JSON or Parquet.
///
/// Each file's schema is that of its first usable record. Left out, or refused with [`Strictness::Refuse`],
/// are malformed records, ties (a `margin` of 0, or equal scores), identical answers and empty ones. Ties
/// among the answers of a set whose other answers differ are left out and never refused. [`Ties::Keep`] keeps
/// all ties.
///
/// # Errors
/// A file that cannot be read or has no records, no usable record at all, and with [`Strictness::Refuse`] the
/// first unusable one. Answers without a prompt beside a column of texts that is not read, labels that do not
/// fit the columns of their answers, a named column that no record has or no schema reads, and
/// `score_margins` where no pair has scores.
pub fn load_preferences(
    paths: &[PathBuf],
    options: impl Into<ReadOptions>,
) -> Result<(Vec<Preference>, Report)> {
    let options = options.into();
    let (pairs, report) = load(paths, &options, &mut Pairs::new(&options))?;
    if options.score_margins && pairs.iter().all(|pair| pair.margin.is_none()) {
        let message = "no pair has scores of both answers, so none gets a margin of them; expected score_chosen and \
                       score_rejected, or columns named by --field score_chosen=COLUMN";
        return Err(Error::invalid("score-margins", message));
    }
    Ok((pairs, report))
}

/// As [`load_preferences`], each pair with its JSON object.
///
/// # Errors
/// As [`load_preferences`].
pub fn load_sources(paths: &[PathBuf], options: impl Into<ReadOptions>) -> Result<(Vec<SourcePair>, Report)> {
    let options = options.into();
    load(paths, &options, &mut Sources { pairs: Pairs::new(&options), records: 0 })
}

struct Pairs {
    score_margins: bool,
    sets: several::Sets,
    posts: oasst::Posts,
    findings: PairFindings,
}

impl Reader for Pairs {
    type Row = Preference;

    fn schema_of(&self, record: &Record) -> Result<Schema, String> {
        Schema::of_pair(record)
    }

    fn read(&mut self, found: Found<'_>, out: &mut Vec<Outcome<Preference>>) {
        let Found { schema, record, origin, .. } = found;
        self.findings.see_record(schema, record, &origin);
        if let Some(message) = self.score_margins.then(|| pair::score_that_is_none(record)).flatten() {
            let message = format!("{message}, for --score-margins");
            return out.push((origin, Err((ProblemKind::Malformed, message))));
        }
        let read = match schema {
            Schema::OasstTrees => oasst::read_tree(record, &origin, &mut self.sets),
            Schema::OasstMessages => self.posts.add(record, &origin).map(|()| Vec::new()),
            schema if schema.is_many() => several::read_several(schema, record, &origin, &mut self.sets),
            schema if schema.is_pair() => read_pair(schema, record, origin.clone()).map(|pair| vec![pair]),
            schema => Err((ProblemKind::Malformed, format!("{schema}; expected a schema of pairs"))),
        };
        match read {
            Ok(pairs) => {
                let checked = pairs.into_iter().map(|pair| (origin.clone(), self.checked(pair)));
                let from = out.len();
                out.extend(checked);
                out[from..]
                    .iter()
                    .filter_map(|(_, pair)| pair.as_ref().ok())
                    .for_each(|p| self.findings.see(p));
            }
            Err(refusal) => out.push((origin, Err(refusal))),
        }
    }

    fn end_file(&mut self, out: &mut Vec<Outcome<Preference>>) -> Result<(), String> {
        let mut pairs = Vec::new();
        self.posts.pairs(&mut self.sets, &mut pairs);
        self.sets.end_file();
        let checked =
            |(origin, pair): Outcome<Preference>| (origin, pair.and_then(|pair| self.checked(pair)));
        out.extend(pairs.into_iter().map(checked));
        self.findings.end_file()
    }

    fn findings(&self) -> Vec<Finding> {
        self.findings.findings()
    }
}

impl Pairs {
    fn new(options: &ReadOptions) -> Self {
        Self {
            score_margins: options.score_margins,
            sets: several::Sets::new(options.ties),
            posts: oasst::Posts::default(),
            findings: PairFindings::default(),
        }
    }

    /// Refuses a pair that is well-formed but prefers nothing.
    fn checked(&self, mut pair: Preference) -> Result<Preference, Refusal> {
        if pair.chosen == pair.rejected {
            return Err((ProblemKind::Identical, "\"chosen\" and \"rejected\" are the same".to_owned()));
        }
        if pair.verdict == Verdict::Tied && self.sets.ties == Ties::Drop {
            let kind = if pair.in_set.is_some() { ProblemKind::TieInSet } else { ProblemKind::Tie };
            return Err((kind, tie_in_words(&pair)));
        }
        if let (Some((left, right)), None, true) = (pair.scores, pair.margin, self.score_margins) {
            pair.margin = Some((left - right) as f32);
        }
        Ok(pair)
    }
}

fn tie_in_words(pair: &Preference) -> String {
    match (pair.margin, pair.scores) {
        (Some(_), _) => "\"margin\" is 0: a tie".to_owned(),
        (None, Some((score, _))) => format!("both answers have the score {score}: a tie"),
        (None, None) if pair.in_set.is_none() => "the label calls neither answer better: a tie".to_owned(),
        (None, None) => "both answers have the same rank: a tie".to_owned(),
    }
}

struct Sources {
    pairs: Pairs,
    records: usize,
}

impl Reader for Sources {
    type Row = SourcePair;

    fn schema_of(&self, record: &Record) -> Result<Schema, String> {
        self.pairs.schema_of(record)
    }

    fn read(&mut self, found: Found<'_>, out: &mut Vec<Outcome<SourcePair>>) {
        let (source, schema, mut pairs) = (found.source, found.schema, Vec::new());
        self.pairs.read(found, &mut pairs);
        let record_number = self.records;
        self.records += 1;
        let sourced = |pair| SourcePair { pair, record_number, schema, record: source.clone() };
        out.extend(pairs.into_iter().map(|(origin, pair)| (origin, pair.map(sourced))));
    }

    fn end_file(&mut self, out: &mut Vec<Outcome<SourcePair>>) -> Result<(), String> {
        let mut pairs = Vec::new();
        self.pairs.end_file(&mut pairs)?;
        let (schema, record_number) = (Schema::OasstMessages, self.records);
        let sourced = |pair| SourcePair { pair, record_number, schema, record: Record::new() };
        out.extend(pairs.into_iter().map(|(origin, pair)| (origin, pair.map(sourced))));
        Ok(())
    }

    fn findings(&self) -> Vec<Finding> {
        self.pairs.findings()
    }
}

#[cfg(test)]
mod tests;
