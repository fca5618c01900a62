//! Reports as terminal tables: one report, or several side by side, readable at 80 columns.

mod details;
mod figures;
mod ratings;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table};

use crate::bootstrap::Estimate;
use crate::histogram::Histogram;
use crate::quantiles::QuantileSummary;
use crate::reward::{Compared, RewardReport};

pub use figures::{Signed, number, p_value, percent, percents};

/// The maximum width of tables, in characters.
const WIDTH: u16 = 80;
/// The number of reports side by side that fit in [`WIDTH`].
const BESIDE: usize = 3;

impl RewardReport {
    /// Returns the report as terminal tables, the most important first, followed by its findings; lines end
    /// in `\n`, no colours.
    ///
    /// `names` are the models' names, this report's first; with one model they are not shown. Tables of
    /// details describe the first model.
    pub fn table(&self, names: &[&str]) -> String {
        let name = |at: usize| named(names, at);
        let others: Vec<&Compared> = self.comparisons().collect();
        let mut text = match others.is_empty() {
            true => side_by_side(&[("", self)]),
            false => {
                let names: Vec<String> = (0..=others.len()).map(name).collect();
                let reports = std::iter::once(self).chain(others.iter().map(|other| &other.report));
                side_by_side(&names.iter().map(String::as_str).zip(reports).collect::<Vec<_>>())
            }
        };
        for (at, other) in others.iter().enumerate() {
            push(&mut text, details::comparison(&other.comparison, &name(0), &name(at + 1)));
        }
        push(&mut text, details::details(self));
        push(&mut text, [align(reliability(self))]);
        for found in self.all_findings(names) {
            text.push_str(&paragraph(&found));
        }
        text
    }

    /// Returns the findings of all models and comparisons; with several models each begins with the model's
    /// name.
    pub fn all_findings(&self, names: &[&str]) -> Vec<String> {
        let name =
            |at: usize| names.get(at).map_or_else(|| format!("model {}", at + 1), |name| (*name).to_owned());
        let others: Vec<&Compared> = self.comparisons().collect();
        if others.is_empty() {
            return self.findings();
        }
        let compared = others.iter().enumerate();
        let compared = compared.flat_map(|(at, other)| other.comparison.findings(&name(0), &name(at + 1)));
        let reports = std::iter::once(self).chain(others.iter().map(|other| &other.report));
        let own = reports.enumerate().flat_map(|(at, report)| {
            let named = move |found: String| format!("{}: {found}", name(at));
            report.findings().into_iter().map(named)
        });
        let mut all: Vec<String> = compared.collect();
        all.extend(own);
        all
    }
}

/// Returns the name that tables show for a model: its own, shortened, or else its number.
fn named(names: &[&str], at: usize) -> String {
    names.get(at).map_or_else(|| format!("model {}", at + 1), |name| shortened(name))
}

/// Shortens a long name to its end, where models in one folder differ.
fn shortened(name: &str) -> String {
    const MOST: usize = 16;
    let length = name.chars().count();
    match length > MOST {
        true => ['…'].into_iter().chain(name.chars().skip(length + 1 - MOST)).collect(),
        false => name.to_owned(),
    }
}

/// Breaks a finding between words at the width of the tables.
fn paragraph(text: &str) -> String {
    let mut lines = vec!["*".to_owned()];
    for word in text.split(' ') {
        let line =
            lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= WIDTH.into());
        match line {
            Some(line) => line.push_str(&format!(" {word}")),
            None => lines.push(format!("  {word}")),
        }
    }
    lines.join("\n") + "\n"
}

fn push(text: &mut String, tables: impl IntoIterator<Item = Table>) {
    for table in tables {
        text.push_str(&format!("{table}\n"));
    }
}

fn reliability(report: &RewardReport) -> Table {
    let mut table = new_table(&["confidence", "pairs", "mean confidence", "accuracy", "gap"]);
    for bin in &report.reliability {
        table.add_row(vec![
            format!("{:.3} to {:.3}", bin.low, bin.high),
            bin.count.to_string(),
            percent(bin.confidence),
            percent(bin.accuracy),
            Signed::of(&Estimate { value: bin.accuracy - bin.confidence, interval: None }, 0.01, 1).value
                + " %",
        ]);
    }
    table
}

/// Returns named reports as columns of one table, or of several below each other if there are more than
/// three.
pub fn side_by_side(columns: &[(&str, &RewardReport)]) -> String {
    columns.chunks(BESIDE).map(|columns| format!("{}\n", block(columns))).collect()
}

fn block(columns: &[(&str, &RewardReport)]) -> Table {
    let mut header = vec![""];
    header.extend(columns.iter().map(|(name, _)| *name));
    let mut table = new_table(&header);
    // Half as many histogram columns if three reports share the line.
    let places = if columns.len() < BESIDE { Histogram::BINS } else { Histogram::BINS / 2 };
    for (label, value) in rows() {
        add(&mut table, label, columns, value);
    }
    let label = format!("margins −{} to {}", -Histogram::LOW, Histogram::HIGH);
    add(&mut table, &label, columns, |report| Some(report.histogram.sparkline(places)));
    align(table)
}

/// A row's label and the value it shows of a report, if the report has one.
type Row<R> = (&'static str, fn(&R) -> Option<String>);

fn rows() -> Vec<Row<RewardReport>> {
    vec![
        ("pairs", |report| Some(report.pairs.to_string())),
        ("accuracy", |report| Some(percent(report.accuracy.value))),
        ("  ties as wrong", |report| (report.ties > 0).then(|| percent(report.strict_accuracy))),
        ("  95 % interval", |report| Some(percents(&report.accuracy_interval()))),
        ("log loss", |report| Some(number(report.log_loss))),
        ("Brier score", |report| Some(number(report.brier))),
        ("calibration error", |report| Some(number(report.ece))),
        ("after a temperature", |report| Some(format!("T = {}", number(report.scaled?.temperature)))),
        ("  log loss", |report| Some(number(report.scaled?.log_loss.value))),
        ("  Brier score", |report| Some(number(report.scaled?.brier.value))),
        ("  calibration error", |report| Some(number(report.scaled?.ece.value))),
        ("score mean ± std", |report| Some(spread(&report.scores))),
        ("  range", |report| Some(range(report.scores.min, report.scores.max))),
        ("margin mean ± std", |report| Some(spread(&report.margins))),
        ("  range", |report| Some(range(report.margins.min, report.margins.max))),
        ("  1 to 99 %", |report| Some(range(report.margins.p1, report.margins.p99))),
        ("  5 to 95 %", |report| Some(range(report.margins.p5, report.margins.p95))),
        ("  25 to 75 %", |report| Some(range(report.margins.p25, report.margins.p75))),
        ("  median", |report| Some(number(report.margins.p50))),
        ("mean bound", |report| report.bounds.map(|bounds| number(bounds.mean))),
        ("  margins beyond it", |report| report.bounds.map(|bounds| percent(bounds.beyond))),
        ("score and length: r", |report| report.length.pearson.map(number)),
        ("  Spearman", |report| report.length.spearman.map(number)),
        ("longer wins, labels", |report| report.longer_preferred.map(|shares| percent(shares.by_labels))),
        ("  model", |report| report.longer_preferred.map(|shares| percent(shares.by_model))),
        ("true reward: r", |report| report.true_reward?.pearson.map(number)),
        ("  Spearman", |report| report.true_reward?.spearman.map(number)),
        ("  Kendall", |report| report.true_reward?.kendall.map(number)),
    ]
}

/// Adds a row unless no report has the value; reports without it show a dash.
fn add<R>(table: &mut Table, label: &str, columns: &[(&str, &R)], value: impl Fn(&R) -> Option<String>) {
    let values: Vec<Option<String>> = columns.iter().map(|(_, report)| value(report)).collect();
    if values.iter().all(Option::is_none) {
        return;
    }
    let mut row = vec![label.to_owned()];
    row.extend(values.into_iter().map(|value| value.unwrap_or_else(|| "–".to_owned())));
    table.add_row(row);
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    // Piped and redirected output must look the same as on a terminal.
    table.force_no_tty();
    table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    if header.iter().any(|name| !name.is_empty()) {
        table.set_header(header.iter().copied());
    }
    table
}

/// Aligns numbers to the right, and the labels to the left without wrapping.
fn align(mut table: Table) -> Table {
    if let Some(labels) = table.column_mut(0) {
        labels.set_constraint(ColumnConstraint::ContentWidth);
    }
    table.column_iter_mut().skip(1).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    table
}

fn spread(summary: &QuantileSummary) -> String {
    format!("{} ± {}", number(summary.mean), number(summary.std))
}

fn range(low: f64, high: f64) -> String {
    format!("{} to {}", number(low), number(high))
}

#[cfg(test)]
mod tests;
