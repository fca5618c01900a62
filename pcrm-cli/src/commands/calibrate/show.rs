//! Calibrations as text for an 80-column terminal.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use pcrm_eval::table::percents;

use super::result::{Calibrated, Calibrations};
use crate::paragraph::paragraph;
use crate::plugins::calibrated::Calibration;
use crate::report::calibration::{cells, held_out};
use crate::report::percent;
use crate::report::run::constraint;

/// Headings that fit in 80 columns.
const COLUMNS: [&str; 6] = ["similarity", "pairs", "chosen wins", "95 %", "fitted", "as given"];

/// Formats all calibrations as tables and sentences.
pub fn text(all: &Calibrations) -> String {
    let accuracy = &all.accuracy;
    let mut text = paragraph(
        "",
        &format!(
            "{} pairs of {} prompts, {}: the chosen answer wins in {} of them (95 %: {}).",
            all.pairs,
            all.prompts,
            all.judges,
            percent(accuracy.value),
            percents(&accuracy.interval)
        ),
    );
    for one in &all.constraints {
        text.push_str(&format!("\n{}\n", one.name));
        if let Some(calibration) = &one.calibration {
            text.push_str(&deciles(calibration));
            text.push_str(&likelihoods(one, calibration));
        }
        if let Some(verdict) = &one.verdict {
            text.push_str(&paragraph("* ", verdict));
        }
        text.push_str(&paragraph("* ", &format!("fitted: {}", constraint(&one.fitted))));
        text.push_str(&format!("  use it with --constraint {}\n", one.file.display()));
    }
    if let Some(best) = all.best() {
        let said = format!("{} best predicts wins on prompts it was not fitted to.", best.name);
        text.push_str(&format!("\n{}", paragraph("", &said)));
    }
    text
}

fn deciles(calibration: &Calibration) -> String {
    table(&COLUMNS, cells(&calibration.bins))
}

fn likelihoods(one: &Calibrated, calibration: &Calibration) -> String {
    let gain = &calibration.held_out.gain;
    let rows = held_out(calibration)
        .map(|(name, value)| vec![name.to_owned(), format!("{value:.4}").replace('-', "−")]);
    let table = table(&["log-likelihood of wins, other prompts", "nats per pair"], rows.into());
    let signed = |x: f64| format!("{x:+.4}").replace('-', "−");
    let interval = gain.ends.map_or_else(String::new, |ends| {
        let level = 100.0 * calibration.level;
        format!(" ({level} %: {} to {}, bootstrap over prompts)", signed(ends.low), signed(ends.high))
    });
    let said = format!(
        "gain of the curve over a constant: {} nats per pair{interval}; as given is {}",
        signed(gain.value),
        constraint(&one.asked)
    );
    table + &paragraph("  ", &said)
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.force_no_tty().load_style(UTF8_BORDERS_ONLY);
    table.set_header(header.to_vec());
    table.add_rows(rows);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    format!("{table}\n")
}
