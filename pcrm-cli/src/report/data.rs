//! Tables about data files: what was read, and what was left out and why.

use pcrm_core::data::encode::EncodeReport;
use pcrm_core::data::report::{LeftOut, Report};

use super::document::{Block, Table};
use super::number::{count, percent};

/// Data read for one purpose.
#[derive(Debug, Clone)]
pub struct Source {
    /// The purpose.
    pub role: String,
    /// The report of reading.
    pub read: Report,
    /// The report of encoding.
    pub encoded: EncodeReport,
}

/// Returns tables about data: by file, and as tokens.
pub fn blocks(sources: &[Source]) -> Vec<Block> {
    let read: Vec<_> = sources.iter().map(|source| (source.role.as_str(), &source.read)).collect();
    vec![Block::Table(files(&read)), Block::Table(tokens(sources))]
}

/// Returns a table of the files read, with the purpose of each report's files.
pub fn files(read: &[(&str, &Report)]) -> Table {
    let mut table =
        Table::of_numbers("Files read", &["file", "rows", "kept", "left out, and why", "schema", "for"]);
    for column in &mut table.columns[3..] {
        column.align = super::document::Align::Left;
    }
    for (role, report) in read {
        for file in &report.files {
            let why =
                file.left_out.iter().map(|(kind, LeftOut { count: left, first_line, first_message, .. })| {
                    let first = if *left == 1 { "line" } else { "first in line" };
                    format!("{} {kind} ({first} {first_line}: {first_message})", count(*left as u64))
                });
            let why = why.collect::<Vec<_>>().join(", ");
            table.rows.push(vec![
                file.file.display().to_string(),
                count(file.rows as u64),
                count(file.kept as u64),
                if why.is_empty() { "none".to_owned() } else { why },
                file.schema.map_or_else(|| "unknown".to_owned(), |schema| schema.to_string()),
                (*role).to_owned(),
            ]);
        }
    }
    table
}

/// A row's label and the function for its number.
type Row = (&'static str, fn(&EncodeReport) -> usize);

fn tokens(sources: &[Source]) -> Table {
    let mut columns = vec![""];
    columns.extend(sources.iter().map(|source| source.role.as_str()));
    let mut table = Table::of_numbers("Pairs as tokens", &columns);
    let rows: [Row; 8] = [
        ("pairs", |encoded| encoded.pairs),
        ("kept", |encoded| encoded.kept),
        ("too long, left out", |encoded| encoded.dropped_too_long),
        ("too long, prompt cut", |encoded| encoded.cut_prompts),
        ("identical as tokens, left out", |encoded| encoded.identical_after_tokenisation),
        ("longest sequence, tokens", |encoded| encoded.longest),
        ("tokens", |encoded| encoded.tokens),
        ("tokens, prompts counted once", |encoded| encoded.unique_tokens),
    ];
    let mut add = |label: &str, cell: &dyn Fn(&EncodeReport) -> String| {
        let cells = sources.iter().map(|source| cell(&source.encoded));
        table.rows.push([label.to_owned()].into_iter().chain(cells).collect());
    };
    for (label, of) in rows {
        add(label, &|encoded| count(of(encoded) as u64));
    }
    add("saved compared with padded batches of 8 in file order", &|encoded| {
        percent(1.0 - encoded.unique_tokens as f64 / encoded.padded_tokens.max(1) as f64)
    });
    table
}
