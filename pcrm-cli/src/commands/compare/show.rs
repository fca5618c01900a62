//! A comparison as terminal tables.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use pcrm_eval::replicates::Mean;

use super::outcome::{Measure, Outcome};
use crate::report::count;

/// Arms beside each other in 80 columns.
const BESIDE: usize = 4;

/// The tables, and what they say.
pub fn text(outcome: &Outcome) -> String {
    let mut text = format!("\n{}\n", heading(outcome));
    for arms in (0..outcome.arms.len()).collect::<Vec<_>>().chunks(BESIDE) {
        let mut table = Table::new();
        table.force_no_tty().load_style(UTF8_BORDERS_ONLY);
        let mut header = vec![String::new()];
        header.extend(arms.iter().map(|arm| outcome.arms[*arm].label.clone()));
        table.set_header(header);
        for (label, cells) in rows(outcome) {
            let mut row = vec![label];
            row.extend(arms.iter().map(|arm| cells[*arm].clone()));
            table.add_row(row);
        }
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        text.push_str(&format!("{table}\n"));
    }
    outcome.reading().iter().for_each(|said| text.push_str(&format!("* {said}\n")));
    text
}

/// What the numbers are of.
pub fn heading(outcome: &Outcome) -> String {
    let (runs, pairs) = (outcome.replicates, count(outcome.pairs as u64));
    let seeds = if runs == 1 { "one seed".to_owned() } else { format!("{runs} seeds") };
    let first = outcome.arms.first().map_or("", |arm| arm.label.as_str());
    format!(
        "{} constraints, {seeds} each, {pairs} held-out pairs in all. Means with 95 % intervals over seeds (Student's \
         t); differences to {first} are taken seed by seed.",
        outcome.arms.len()
    )
}

/// Rows of the table: a label, and a cell per arm.
pub fn rows(outcome: &Outcome) -> Vec<(String, Vec<String>)> {
    let mut rows = Vec::new();
    for (at, measure) in outcome.measures.iter().enumerate() {
        let of = |mean: &Option<Mean>| mean.map_or_else(|| "–".to_owned(), |mean| value(measure, mean.value));
        let half = |mean: &Option<Mean>| {
            let half = mean.and_then(|mean| Some((mean.interval?.1 - mean.value).abs()));
            half.map_or_else(String::new, |half| format!("±{}", value(measure, half)))
        };
        rows.push((measure.heading.to_owned(), outcome.arms.iter().map(|arm| of(&arm.means[at])).collect()));
        if outcome.replicates < 2 {
            continue;
        }
        rows.push(("  interval".to_owned(), outcome.arms.iter().map(|arm| half(&arm.means[at])).collect()));
        let differ = |mean: &Option<Mean>| {
            mean.map_or_else(String::new, |mean| {
                let sign = if mean.value < 0.0 { "−" } else { "+" };
                let star = if mean.excludes_zero() { "*" } else { "" };
                format!("{star}{sign}{} {}", value(measure, mean.value.abs()), half(&Some(mean)))
            })
        };
        let differences: Vec<String> = outcome.arms.iter().map(|arm| differ(&arm.differences[at])).collect();
        if differences.iter().any(|cell| !cell.is_empty()) {
            rows.push(("  difference".to_owned(), differences));
        }
    }
    rows
}

fn value(measure: &Measure, value: f64) -> String {
    match measure.name {
        "accuracy" | "beyond_bound" => format!("{:.1} %", 100.0 * value),
        "score_range" | "margin_std" | "mean_bound" => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
