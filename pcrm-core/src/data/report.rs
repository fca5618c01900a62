//! The result of reading data files: the number of records kept, and the reasons why others were not.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer};

pub use super::origin::Origin;
use super::schema::Schema;
use super::survey::Finding;

/// The treatment of a record that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// Leave it out, count it and list it in the report.
    #[default]
    Skip,
    /// Fail with its file and line.
    Refuse,
}

/// The reason why a record cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProblemKind {
    /// Broken JSON, missing keys, wrong types, or another schema than the file's.
    Malformed,
    /// Neither answer is better in the file: equal scores, or a label that says so.
    Tie,
    /// Two answers that rank the same in a set with other comparisons; the set is used without the pair.
    TieInSet,
    /// Both answers are the same.
    Identical,
    /// Fewer than two answers ranked by people.
    Unranked,
    /// A blank answer.
    EmptyAnswer,
    /// A well-formed record that needs an unsupported feature (tools, images).
    Unsupported,
}

impl ProblemKind {
    /// Returns true if a record left out for this reason is lost; ties within a set and unranked records are
    /// not.
    fn is_loss(self) -> bool {
        !matches!(self, Self::TieInSet | Self::Unranked)
    }

    /// Returns true if [`Strictness::Refuse`] refuses it; ties in a ranked set are allowed.
    pub(super) fn is_refused(self) -> bool {
        self != Self::TieInSet
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::Tie => "tie",
            Self::TieInSet => "tie in a set",
            Self::Identical => "identical",
            Self::Unranked => "unranked",
            Self::EmptyAnswer => "empty answer",
            Self::Unsupported => "unsupported",
        })
    }
}

/// A record that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The reason.
    pub kind: ProblemKind,
    /// The file and line of the record.
    pub origin: Origin,
    /// The fault and the expected content.
    pub message: String,
}

/// The result of reading one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The file.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<Path>,
    /// The schema of its records; `None` if no record has a known one.
    pub schema: Option<Schema>,
    /// The number of records.
    pub rows: usize,
    /// The number of rows kept: records, or pairs made from them.
    pub kept: usize,
    /// The records that were not kept, by reason.
    pub left_out: BTreeMap<ProblemKind, LeftOut>,
    /// Columns that are not empty and not read.
    pub unread: Vec<String>,
}

fn as_text<S: Serializer>(path: &Arc<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// The records of a file left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The number of records.
    pub count: usize,
    /// The line of the first record.
    pub first_line: u64,
    /// The number of the first record in its file.
    #[serde(skip)]
    pub first_record: u64,
    /// The fault in the first record and the expected content.
    pub first_message: String,
}

/// The records of all files left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The reason.
    pub kind: ProblemKind,
    /// The number of records.
    pub count: usize,
    /// The file and line of the first record.
    pub first: Origin,
    /// The fault in the first record and the expected content.
    pub message: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, count, first, message } = self;
        let before = if *count == 1 { "" } else { "first: " };
        write!(f, "{count} {kind} ({before}{first}: {})", in_a_line(message))
    }
}

/// The result of reading data files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The schema of the records, if all files agree.
    pub schema: Option<Schema>,
    /// The number of records.
    pub rows: usize,
    /// The number of rows kept: records, or pairs made from them.
    pub kept: usize,
    /// The first few records left out, for each reason.
    pub problems: Vec<Problem>,
    /// The same counts for each file.
    pub files: Vec<FileReport>,
    /// Findings about the records kept, printed with the report.
    pub findings: Vec<Finding>,
}

/// The number of problems of each kind that are kept in full.
const FIRST_FEW: usize = 5;

/// The share of records or pairs left out above which a warning is issued.
pub const MANY_LEFT_OUT: f64 = 0.02;

impl Report {
    /// Returns the number of records left out, by reason.
    pub fn counts(&self) -> BTreeMap<ProblemKind, usize> {
        self.left_out().into_iter().map(|reason| (reason.kind, reason.count)).collect()
    }

    /// Returns the reasons why records were left out, each with its first record.
    pub fn left_out(&self) -> Vec<Reason> {
        let mut reasons: BTreeMap<ProblemKind, Reason> = BTreeMap::new();
        for file in &self.files {
            for (&kind, left_out) in &file.left_out {
                let reason = || Reason { count: 0, ..file.reason(kind, left_out) };
                reasons.entry(kind).or_insert_with(reason).count += left_out.count;
            }
        }
        reasons.into_values().collect()
    }

    /// Returns the share of the records that were left out, from 0 to 1. Ties in ranked sets and unranked
    /// records do not count.
    pub fn share_left_out(&self) -> f64 {
        let counted = |reason: &Reason| reason.kind.is_loss().then_some(reason.count);
        let count: usize = self.left_out().iter().filter_map(counted).sum();
        if self.rows == 0 { 0.0 } else { (count as f64 / self.rows as f64).min(1.0) }
    }

    /// Returns a sentence about the records left out, with the reasons, if they exceed [`MANY_LEFT_OUT`] of
    /// all: `12 % of the records are left out: 5 malformed (first: a.jsonl:3: ..)`.
    pub fn shortfall(&self) -> Option<String> {
        let share = self.share_left_out();
        (share > MANY_LEFT_OUT).then(|| {
            let reasons = self.left_out().into_iter().filter(|reason| reason.kind.is_loss());
            let reasons: Vec<String> = reasons.map(|reason| reason.to_string()).collect();
            format!("{:.1} % of the records are left out: {}", 100.0 * share, reasons.join(", "))
        })
    }

    /// Counts a record of the last file that is left out.
    pub(super) fn add(&mut self, problem: Problem) {
        if let Some(file) = self.files.last_mut() {
            file.left_out.entry(problem.kind).and_modify(|left_out| left_out.count += 1).or_insert_with(
                || LeftOut {
                    count: 1,
                    first_line: problem.origin.line,
                    first_record: problem.origin.record,
                    first_message: problem.message.clone(),
                },
            );
        }
        if self.problems.iter().filter(|known| known.kind == problem.kind).count() < FIRST_FEW {
            self.problems.push(problem);
        }
    }

    /// Sums the counts of all files.
    pub(super) fn finish(&mut self) {
        self.rows = self.files.iter().map(|file| file.rows).sum();
        self.kept = self.files.iter().map(|file| file.kept).sum();
        let mut schemas = self.files.iter().map(|file| file.schema);
        let first = schemas.next().flatten();
        self.schema = first.filter(|_| schemas.all(|schema| schema == first));
    }
}

impl FileReport {
    /// Creates an empty report of a file.
    pub(super) fn new(file: Arc<Path>) -> Self {
        Self { file, schema: None, rows: 0, kept: 0, left_out: BTreeMap::new(), unread: Vec::new() }
    }

    /// Returns the place of the first of these records of the file.
    pub(super) fn first(&self, left_out: &LeftOut) -> Origin {
        Origin { file: self.file.clone(), line: left_out.first_line, record: left_out.first_record }
    }

    fn reason(&self, kind: ProblemKind, left_out: &LeftOut) -> Reason {
        let message = left_out.first_message.clone();
        Reason { kind, count: left_out.count, first: self.first(left_out), message }
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.schema.map_or("pairs", Schema::plural);
        let kept = if self.schema.is_some_and(Schema::is_many) { "pairs made from them" } else { "kept" };
        let file = self.file.display();
        write!(f, "{} {what} from {file}", self.rows)?;
        if let Some(schema) = self.schema {
            write!(f, " ({schema})")?;
        }
        write!(f, ": {} {kept}", self.kept)?;
        for (at, (&kind, left_out)) in self.left_out.iter().enumerate() {
            write!(f, "{} {}", if at == 0 { ';' } else { ',' }, self.reason(kind, left_out))?;
        }
        match self.unread.len() {
            0 => Ok(()),
            count if count > NAMED => {
                write!(f, "; not read: {} and {} more", self.unread[..NAMED].join(", "), count - NAMED)
            }
            _ => write!(f, "; not read: {}", self.unread.join(", ")),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, file) in self.files.iter().enumerate() {
            write!(f, "{}{file}", if at == 0 { "" } else { "\n" })?;
        }
        for Finding { severity, found, first, advice, .. } in &self.findings {
            let first = first.as_ref().map_or(String::new(), |first| format!(" (first: {first})"));
            write!(f, "\n{severity}: {found}{first}. {advice}")?;
        }
        Ok(())
    }
}

/// The maximum number of unread columns named in a report.
const NAMED: usize = 8;

/// Shortens a message to fit a line of a report.
fn in_a_line(message: &str) -> String {
    const LONGEST: usize = 240;
    let message = message.replace('\n', " ");
    if message.len() <= LONGEST {
        return message;
    }
    format!("{} ..", &message[..message.floor_char_boundary(LONGEST)])
}
