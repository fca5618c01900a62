//! What came of calibration, for a terminal of 80 columns.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use pcrm_eval::accuracy::{LEVEL, Share};

use super::result::{Calibrated, Calibrations};
use crate::paragraph::paragraph;
use crate::plugins::calibrated::Calibration;
use crate::plugins::calibration::bins::Bin;
use crate::report::run::constraint;

/// Tables and sentences.
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
            interval(accuracy.low, accuracy.high)
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
        text.push_str(&format!("  --constraint {} takes it\n", one.file.display()));
    }
    if let Some(best) = all.best() {
        let said = format!("{} foretells wins best on prompts that were not fitted to.", best.name);
        text.push_str(&format!("\n{}", paragraph("", &said)));
    }
    text
}

/// The cells of the table of deciles, a row a bin.
pub fn cells(bins: &[Bin]) -> Vec<Vec<String>> {
    let row = |bin: &Bin| {
        let share = Share::wilson(bin.win * bin.pairs as f64, bin.pairs, LEVEL);
        vec![
            format!("{:.3} to {:.3}", bin.low, bin.high),
            bin.pairs.to_string(),
            percent(bin.win),
            share.map_or_else(|_| "–".to_owned(), |share| interval(share.low, share.high)),
            percent(bin.fitted),
            percent(bin.given),
        ]
    };
    bins.iter().map(row).collect()
}

/// The headings of [`cells`].
pub const COLUMNS: [&str; 6] = ["similarity", "pairs", "chosen wins", "95 %", "fitted", "as given"];

/// Held-out log-likelihoods by what they are of.
pub fn held_out(calibration: &Calibration) -> [(&'static str, f64); 4] {
    let held_out = &calibration.held_out;
    [
        ("fitted curve", held_out.curve),
        ("fitted constant", held_out.constant),
        ("the bounds as given", held_out.given),
        ("a coin", held_out.coin),
    ]
}

fn deciles(calibration: &Calibration) -> String {
    table(&COLUMNS, cells(&calibration.bins))
}

fn likelihoods(one: &Calibrated, calibration: &Calibration) -> String {
    let gain = &calibration.held_out.gain;
    let rows = held_out(calibration)
        .map(|(name, value)| vec![name.to_owned(), format!("{value:.4}").replace('-', "−")]);
    let table = table(&["log-likelihood of wins, other prompts", "nats per pair"], rows.into());
    let gain = [gain.value, gain.low, gain.high].map(|x| format!("{x:+.4}").replace('-', "−"));
    let level = 100.0 * calibration.level;
    let said = format!(
        "curve against constant: {} nats per pair ({level} %: {} to {}); {}",
        gain[0],
        gain[1],
        gain[2],
        format_args!("as given is {}", crate::report::run::constraint(&one.asked))
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

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn interval(low: f64, high: f64) -> String {
    format!("{:.1}–{:.1}", 100.0 * low, 100.0 * high)
}
