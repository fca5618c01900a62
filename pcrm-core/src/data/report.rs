//! The result of reading data files: how many records were kept, and why the others were not.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::schema::Schema;
use super::survey::Finding;

/// The place of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The file.
    pub file: Arc<Path>,
    /// Its line, from 1.
    pub line: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The treatment of a record that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// Leave it out, count it and name it in the report.
    #[default]
    Skip,
    /// Fail with its file and line.
    Refuse,
}

/// Why a record cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProblemKind {
    /// Broken JSON, missing keys, wrong types, or another schema than the file's.
    Malformed,
    /// The file says that neither answer is better: a margin of 0, or equal scores.
    Tie,
    /// Two answers of a set that rank the same, while others of the set do not: the set is used without the
    /// pair.
    TieInSet,
    /// Both answers are the same.
    Identical,
    /// Fewer than two answers that people ranked.
    Unranked,
    /// An answer that says nothing.
    EmptyAnswer,
    /// Well-formed, but asking for what is not supported (tools, images).
    Unsupported,
}

impl ProblemKind {
    /// Returns true if a record that is left out for it is lost: ties within a set and records that rank
    /// nothing are not.
    fn is_loss(self) -> bool {
        !matches!(self, Self::TieInSet | Self::Unranked)
    }

    /// Returns true if [`Strictness::Refuse`] refuses it: a ranked set may hold ties.
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
    /// Why.
    pub kind: ProblemKind,
    /// Its place.
    pub origin: Origin,
    /// The fault, and what was expected.
    pub message: String,
}

/// The result of reading one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The file.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<Path>,
    /// The schema of its records; none if no record has a known one.
    pub schema: Option<Schema>,
    /// The records it has.
    pub rows: usize,
    /// The rows that were kept: records, or pairs made of them.
    pub kept: usize,
    /// The records that were not kept, by reason.
    pub left_out: BTreeMap<ProblemKind, LeftOut>,
    /// Columns that hold something and that nothing is read from.
    pub unread: Vec<String>,
}

fn as_text<S: Serializer>(path: &Arc<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// The records of a file that were not kept for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Their number.
    pub count: usize,
    /// The line of the first.
    pub first_line: u64,
    /// The fault of the first, and what was expected.
    pub first_message: String,
}

/// The records of all files that were not kept for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Why.
    pub kind: ProblemKind,
    /// Their number.
    pub count: usize,
    /// The place of the first.
    pub first: Origin,
    /// The fault of the first, and what was expected.
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
    /// The records there are.
    pub rows: usize,
    /// The rows that were kept: records, or pairs made of them.
    pub kept: usize,
    /// The first few records that were not kept, for each reason.
    pub problems: Vec<Problem>,
    /// The same, file by file.
    pub files: Vec<FileReport>,
    /// Findings about the records that were kept: each is printed with the report.
    pub findings: Vec<Finding>,
}

/// The number of problems of one kind that are kept in full.
const FIRST_FEW: usize = 5;

/// Beyond this share of records or pairs, leaving them out is worth a warning.
pub const MANY_LEFT_OUT: f64 = 0.02;

impl Report {
    /// Returns the number of records that were not kept, by reason.
    pub fn counts(&self) -> BTreeMap<ProblemKind, usize> {
        self.left_out().into_iter().map(|reason| (reason.kind, reason.count)).collect()
    }

    /// Returns the records that were not kept, by reason, with the first of each.
    pub fn left_out(&self) -> Vec<Reason> {
        let mut reasons: BTreeMap<ProblemKind, Reason> = BTreeMap::new();
        for file in &self.files {
            for (&kind, LeftOut { count, first_line, first_message }) in &file.left_out {
                let first = Origin { file: file.file.clone(), line: *first_line };
                let reason = || Reason { kind, count: 0, first, message: first_message.clone() };
                reasons.entry(kind).or_insert_with(reason).count += count;
            }
        }
        reasons.into_values().collect()
    }

    /// Returns the share of the records that were left out, from 0 to 1. Ranked sets are used without their
    /// ties, and a record that ranks nothing has nothing to lose: neither counts.
    pub fn share_left_out(&self) -> f64 {
        let counted = |reason: &Reason| reason.kind.is_loss().then_some(reason.count);
        let count: usize = self.left_out().iter().filter_map(counted).sum();
        if self.rows == 0 { 0.0 } else { (count as f64 / self.rows as f64).min(1.0) }
    }

    /// Returns a sentence about the records that were left out, with the reasons, where they are more than
    /// [`MANY_LEFT_OUT`] of all: `12 % of the records are left out: 5 malformed (first: a.jsonl:3: ..)`.
    pub fn shortfall(&self) -> Option<String> {
        let share = self.share_left_out();
        (share > MANY_LEFT_OUT).then(|| {
            let reasons = self.left_out().into_iter().filter(|reason| reason.kind.is_loss());
            let reasons: Vec<String> = reasons.map(|reason| reason.to_string()).collect();
            format!("{:.1} % of the records are left out: {}", 100.0 * share, reasons.join(", "))
        })
    }

    /// Takes note of a record of the last file that is not kept.
    pub(super) fn add(&mut self, problem: Problem) {
        if let Some(file) = self.files.last_mut() {
            file.left_out.entry(problem.kind).and_modify(|left_out| left_out.count += 1).or_insert_with(
                || LeftOut {
                    count: 1,
                    first_line: problem.origin.line,
                    first_message: problem.message.clone(),
                },
            );
        }
        if self.problems.iter().filter(|known| known.kind == problem.kind).count() < FIRST_FEW {
            self.problems.push(problem);
        }
    }

    /// Sums the files up.
    pub(super) fn finish(&mut self) {
        self.rows = self.files.iter().map(|file| file.rows).sum();
        self.kept = self.files.iter().map(|file| file.kept).sum();
        let mut schemas = self.files.iter().map(|file| file.schema);
        let first = schemas.next().flatten();
        self.schema = first.filter(|_| schemas.all(|schema| schema == first));
    }
}

impl FileReport {
    /// Nothing is known of the file yet.
    pub(super) fn new(file: Arc<Path>) -> Self {
        Self { file, schema: None, rows: 0, kept: 0, left_out: BTreeMap::new(), unread: Vec::new() }
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.schema.map_or("pairs", Schema::plural);
        let kept = if self.schema.is_some_and(Schema::is_many) { "pairs made of them" } else { "kept" };
        let file = self.file.display();
        write!(f, "{} {what} from {file}", self.rows)?;
        if let Some(schema) = self.schema {
            write!(f, " ({schema})")?;
        }
        write!(f, ": {} {kept}", self.kept)?;
        for (at, (&kind, LeftOut { count, first_line, first_message })) in self.left_out.iter().enumerate() {
            let first = Origin { file: self.file.clone(), line: *first_line };
            let reason = Reason { kind, count: *count, first, message: first_message.clone() };
            write!(f, "{} {reason}", if at == 0 { ';' } else { ',' })?;
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

/// The number of unread columns that a report names.
const NAMED: usize = 8;

/// A message that fits a line of a report.
fn in_a_line(message: &str) -> String {
    const LONGEST: usize = 240;
    let message = message.replace('\n', " ");
    if message.len() <= LONGEST {
        return message;
    }
    format!("{} ..", &message[..message.floor_char_boundary(LONGEST)])
}
