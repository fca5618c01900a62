//! Reports as Markdown: the page's text and tables, without its plots.

use super::outcome::StudyOutcome;
use super::page;
use super::results::Results;
use crate::report::document::{Align, Block, Document, Table};

/// Returns the report of a study as Markdown.
pub fn text(results: &Results, outcome: &StudyOutcome) -> String {
    of(&page::document(results, outcome))
}

/// Converts a document to Markdown.
pub fn of(document: &Document) -> String {
    let mut text = format!("# {}\n\n{}\n", document.title, document.about);
    let has_text = |block: &Block| !matches!(block, Block::Plots(_));
    for section in document.sections.iter().filter(|section| section.blocks.iter().any(has_text)) {
        if !section.title.is_empty() {
            text.push_str(&format!("\n## {}\n", section.title));
        }
        for block in &section.blocks {
            match block {
                Block::Text(said) => text.push_str(&format!("\n{said}\n")),
                Block::Note(_, said) => text.push_str(&format!("\n> {said}\n")),
                Block::Figures(facts) | Block::Facts(facts) => {
                    text.push('\n');
                    for fact in facts {
                        let note =
                            if fact.note.is_empty() { String::new() } else { format!(" ({})", fact.note) };
                        text.push_str(&format!("* {}: {}{note}\n", fact.name, fact.value));
                    }
                }
                Block::Table(found) => text.push_str(&table(found)),
                Block::Tokens(found) => {
                    let tokens: String = found.tokens.iter().map(|token| token.text.as_str()).collect();
                    text.push_str(&format!("\n{}\n\n> {}{tokens}\n", found.caption, found.before));
                }
                Block::Plots(_) => {}
            }
        }
    }
    text
}

fn table(table: &Table) -> String {
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let cell = |text: &String| text.replace('|', "\\|").replace('\n', " ⏎ ");
    let mut text = String::from("\n");
    if !table.caption.is_empty() {
        text.push_str(&format!("{}\n\n", table.caption));
    }
    text.push_str(&row(table.columns.iter().map(|column| cell(&column.name)).collect()));
    let rule = |align: Align| if align == Align::Left { "---" } else { "---:" };
    text.push_str(&row(table.columns.iter().map(|column| rule(column.align).to_owned()).collect()));
    for cells in &table.rows {
        text.push_str(&row(cells.iter().map(cell).collect()));
    }
    text
}
