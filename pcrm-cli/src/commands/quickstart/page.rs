//! The quickstart's page: its models side by side.

use anyhow::Result;
use pcrm_eval::RewardReport;

use super::measure::{MeasuredModel, Measures};
use super::show;
use crate::report::document::{Block, Document, Section, Table};
use crate::report::evaluation;

/// Returns the page: plots with a line per model, the table, and conclusions.
///
/// # Errors
/// Fails if a measure fails.
pub fn document(models: &[MeasuredModel], labellers: &Measures, legend: &str) -> Result<Document> {
    let mut named: Vec<(&str, &RewardReport)> =
        models.iter().map(|model| (model.name.as_str(), &model.measures.report)).collect();
    named.push(("labellers", &labellers.report));
    let said = show::reading(models, labellers).into_iter().map(Block::Text);
    Ok(Document {
        title: "Quickstart: what constraints do".to_owned(),
        about: format!(
            "Reward models of a generated world, trained on the same pairs from the same weights; {} pairs \
             were held out.",
            labellers.report.pairs
        ),
        sections: vec![
            Section::open(
                "",
                vec![Block::Plots(vec![
                    evaluation::reliability(&named)?,
                    evaluation::margins_beside(&named),
                ])],
            ),
            Section::open("Conclusions", said.collect()),
            Section::open(
                "Measures",
                vec![Block::Table(table(models, labellers)), Block::Text(legend.to_owned())],
            ),
        ],
    })
}

fn table(models: &[MeasuredModel], labellers: &Measures) -> Table {
    let mut columns = vec![""];
    columns.extend(models.iter().map(|model| model.name.as_str()));
    columns.push("labellers");
    let mut table = Table::of_numbers("", &columns);
    table.rows = show::cells(models, labellers);
    table
}
