//! The content of a report, independent of its layout.

use serde::Serialize;

use super::plot::Plot;

/// A report with a title and sections.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Document {
    /// Subject of the report, such as a model or a file.
    pub title: String,
    /// Origin in one line: the program, the time, the inputs.
    pub about: String,
    /// Sections, in order.
    pub sections: Vec<Section>,
}

/// A section of a report.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Section {
    /// Heading; empty for none.
    pub title: String,
    /// State when the page opens.
    pub fold: Fold,
    /// Content, in order.
    pub blocks: Vec<Block>,
}

/// The state of a section when the page opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// Shown immediately.
    #[default]
    Open,
    /// Hidden until the reader opens it.
    Closed,
}

/// A block of a section.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A remark that stands out.
    Note(Severity, String),
    /// The most important numbers, in large type.
    Figures(Vec<Fact>),
    /// Names and values.
    Facts(Vec<Fact>),
    /// A table.
    Table(Table),
    /// Plots side by side, as many as fit.
    Plots(Vec<Plot>),
    /// A text token by token, shaded by probability.
    Tokens(Tokens),
}

/// A text as tokens with their probabilities.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Tokens {
    /// Caption; empty for none.
    pub caption: String,
    /// Text before the first token, unshaded; empty for none.
    pub before: String,
    /// Tokens, in order.
    pub tokens: Vec<Token>,
}

/// A token with its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Token {
    /// Text of the token.
    pub text: String,
    /// Natural logarithm of its probability.
    pub log_prob: f64,
}

/// The importance of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Background information.
    Info,
    /// A possible problem.
    Warning,
    /// A definite problem.
    Error,
}

/// A name and a value.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Fact {
    /// Name of the value.
    pub name: String,
    /// Value with its unit.
    pub value: String,
    /// Interval, comparison or condition; empty for none.
    pub note: String,
}

impl Fact {
    /// Creates a fact without a note.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), note: String::new() }
    }

    /// Returns the fact with this note.
    #[must_use]
    pub fn with_note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }
}

/// A table whose first column holds names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Table {
    /// Caption; empty for none.
    pub caption: String,
    /// Columns with their alignment.
    pub columns: Vec<Column>,
    /// Cells, row by row.
    pub rows: Vec<Vec<String>>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// Alignment of the cells.
    pub align: Align,
}

/// The alignment of a column's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Align {
    /// Left, for text.
    Left,
    /// Right, for numbers.
    Right,
}

impl Table {
    /// Creates a table whose first column holds names and all others numbers.
    pub fn of_numbers(caption: impl Into<String>, columns: &[&str]) -> Self {
        let column = |(at, name): (usize, &&str)| Column {
            name: (*name).to_owned(),
            align: if at == 0 { Align::Left } else { Align::Right },
        };
        Self {
            caption: caption.into(),
            columns: columns.iter().enumerate().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Creates a table of text.
    pub fn of_text(caption: impl Into<String>, columns: &[&str]) -> Self {
        let column = |name: &&str| Column { name: (*name).to_owned(), align: Align::Left };
        Self { caption: caption.into(), columns: columns.iter().map(column).collect(), rows: Vec::new() }
    }
}

impl Section {
    /// Creates a section that is shown immediately.
    pub fn open(title: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self { title: title.into(), fold: Fold::Open, blocks }
    }

    /// Creates a section that is hidden until the reader opens it.
    pub fn closed(title: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self { title: title.into(), fold: Fold::Closed, blocks }
    }
}
