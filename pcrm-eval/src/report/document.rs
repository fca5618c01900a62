//! The content of a report, independent of its looks.

use serde::Serialize;

use super::plot::Plot;

/// A report.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Document {
    /// Its subject: a model, a file.
    pub title: String,
    /// Its origin in one line: the program, the time, the inputs.
    pub about: String,
    /// Its parts, in order.
    pub sections: Vec<Section>,
}

/// A part of a report.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Section {
    /// Its heading; empty for none.
    pub title: String,
    /// Its state when the page opens.
    pub fold: Fold,
    /// Its content, in order.
    pub blocks: Vec<Block>,
}

/// The state of a section when the page opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// Shown at once.
    #[default]
    Open,
    /// Hidden until the reader opens it.
    Closed,
}

/// A piece of a section.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A remark that stands out.
    Note(Severity, String),
    /// The numbers that matter most, large.
    Figures(Vec<Fact>),
    /// Names and values.
    Facts(Vec<Fact>),
    /// A table.
    Table(Table),
    /// Plots beside each other, as many as there is room for.
    Plots(Vec<Plot>),
}

/// The importance of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Worth a look.
    Warning,
    /// Wrong.
    Error,
}

/// A value and its name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Fact {
    /// Its name.
    pub name: String,
    /// The value, with its unit.
    pub value: String,
    /// An interval, a comparison, a condition; empty for none.
    pub note: String,
}

impl Fact {
    /// A fact without a note.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), note: String::new() }
    }

    /// The same with a note.
    #[must_use]
    pub fn with_note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }
}

/// A table. Its first column holds names, the others are aligned as said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Table {
    /// Its caption; empty for none.
    pub caption: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The cells, row by row.
    pub rows: Vec<Vec<String>>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// The alignment of its cells.
    pub align: Align,
}

/// The alignment of a column's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Align {
    /// Text: to the left.
    Left,
    /// Numbers: to the right.
    Right,
}

impl Table {
    /// A table whose first column holds names and all others numbers.
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

    /// A table of text.
    pub fn of_text(caption: impl Into<String>, columns: &[&str]) -> Self {
        let column = |name: &&str| Column { name: (*name).to_owned(), align: Align::Left };
        Self { caption: caption.into(), columns: columns.iter().map(column).collect(), rows: Vec::new() }
    }
}

impl Section {
    /// A section that is shown at once.
    pub fn open(title: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self { title: title.into(), fold: Fold::Open, blocks }
    }

    /// A section that the reader opens.
    pub fn closed(title: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self { title: title.into(), fold: Fold::Closed, blocks }
    }
}
