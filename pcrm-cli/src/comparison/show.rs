//! A comparison as terminal tables.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use pcrm_eval::Interval;
use pcrm_eval::comparison::{ArmOutcome, ComparisonOutcome, HeldOut, Measure, Unit};
use pcrm_eval::interval::FEWEST_REPLICATES;
use pcrm_eval::table::{percent, percents};

use crate::paragraph::paragraph;
use crate::report::count;

/// The width of tables, in characters.
const WIDTH: usize = 80;

/// Formats the tables and their conclusions.
pub fn text(outcome: &ComparisonOutcome) -> String {
    let mut text = format!("\n{}", paragraph("", &heading(outcome)));
    let rows = rows(outcome);
    let mut next = 0;
    while next < outcome.arms.len() {
        let beside = beside(outcome, &rows, next);
        let arms = next..next + beside;
        let mut table = Table::new();
        table.force_no_tty().load_style(UTF8_BORDERS_ONLY);
        let mut header = vec![String::new()];
        header.extend(arms.clone().map(|arm| outcome.arms[arm].label.clone()));
        table.set_header(header);
        for row in &rows {
            let mut cells = vec![row.short.to_owned()];
            cells.extend(arms.clone().map(|arm| row.cells[arm].clone()));
            table.add_row(cells);
        }
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        text.push_str(&format!("{table}\n"));
        next += beside;
    }
    outcome.reading().iter().for_each(|said| text.push_str(&paragraph("* ", said)));
    text
}

/// Returns the number of arms, starting with this one, that fit side by side; at least one.
fn beside(outcome: &ComparisonOutcome, rows: &[ArmRow], from: usize) -> usize {
    let length = |text: &str| text.chars().count() + 2;
    let column = |arm: usize| {
        let cells = rows.iter().map(|row| length(&row.cells[arm]));
        cells.chain([length(&outcome.arms[arm].label)]).max().unwrap_or(0)
    };
    let mut width = 2 + rows.iter().map(|row| length(row.short)).max().unwrap_or(0);
    let fits = (from..outcome.arms.len()).take_while(|arm| {
        width += column(*arm);
        width <= WIDTH
    });
    fits.count().max(1)
}

/// Describes the data behind the numbers.
pub fn heading(outcome: &ComparisonOutcome) -> String {
    let runs = outcome.replicates;
    let seeds = if runs == 1 { "one seed".to_owned() } else { format!("{runs} seeds") };
    let first = outcome.arms.first().map_or("", |arm| arm.label.as_str());
    let pairs = match outcome.held_out {
        HeldOut::Own(pairs) if runs == 1 => format!("{} held-out pairs", count(pairs as u64)),
        HeldOut::Own(pairs) => format!("{} held-out pairs over all seeds", count(pairs as u64)),
        HeldOut::Same(pairs) => format!("{} held-out pairs, the same for every seed", count(pairs as u64)),
    };
    let intervals = match (runs, runs < FEWEST_REPLICATES) {
        (1, _) => String::new(),
        (_, true) => format!("Means over seeds; differences from {first} are paired by seed."),
        (_, false) => format!(
            "Means with 95 % intervals over seeds (Student's t); differences from {first} are paired by seed."
        ),
    };
    format!("{} constraints, {seeds} each, {pairs}. {intervals}", outcome.arms.len()).trim_end().to_owned()
}

/// A row of the table.
pub struct ArmRow {
    /// The label below the row of its measure.
    pub short: &'static str,
    /// The label on its own.
    pub label: String,
    /// A cell for each arm.
    pub cells: Vec<String>,
}

/// Returns the rows of the table: for every measure the means, their intervals, and the differences from the
/// first arm.
pub fn rows(outcome: &ComparisonOutcome) -> Vec<ArmRow> {
    let first = outcome.arms.first().map_or("", |arm| arm.label.as_str());
    let mut rows = Vec::new();
    for (at, measure) in outcome.measures.iter().enumerate() {
        let heading = measure.heading;
        let mut add = |short: &'static str, label: String, of: &dyn Fn(&ArmOutcome) -> Option<String>| {
            let cells: Vec<Option<String>> = outcome.arms.iter().map(of).collect();
            if short == heading || cells.iter().any(Option::is_some) {
                let none = if short == heading { "–" } else { "" };
                let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| none.to_owned())).collect();
                rows.push(ArmRow { short, label, cells });
            }
        };
        add(heading, heading.to_owned(), &|arm| Some(value(measure, arm.means[at]?.value)));
        add("  95 %", format!("{heading}, 95 %"), &|arm| Some(ends(measure, &arm.means[at]?.interval?)));
        let points = if measure.unit == Unit::Share { ", points" } else { "" };
        if outcome.replicates > 1 {
            let label = format!("{heading} − that of {first}{points}");
            add("  difference", label, &|arm| {
                let mean = arm.differences[at]?;
                let star = if mean.excludes_zero() { "*" } else { "" };
                Some(format!("{star}{}", measure.signed(&mean).value))
            });
            let label = format!("{heading} − that of {first}, 95 %");
            add("  its 95 %", label, &|arm| measure.signed(&arm.differences[at]?).interval);
        }
    }
    rows
}

fn value(measure: &Measure, value: f64) -> String {
    match measure.unit {
        Unit::Share => percent(value),
        Unit::Loss => format!("{value:.3}"),
        Unit::Score => format!("{value:.2}"),
    }
}

fn ends(measure: &Measure, interval: &Interval) -> String {
    match measure.unit {
        Unit::Share => percents(interval),
        _ => format!("{} to {}", value(measure, interval.low()), value(measure, interval.high())),
    }
}
