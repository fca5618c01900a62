//! The tables of an evaluation: measures with their intervals, margins, scores, bins of confidence.

use anyhow::Result;
use pcrm_eval::accuracy::{LEVEL, Share, accuracy};
use pcrm_eval::bootstrap::Estimate;
use pcrm_eval::measure::Measure;
use pcrm_eval::table::{Signed, percents};
use pcrm_eval::{PairScore, RewardReport};

use super::values::{ends_of, value_of};
use crate::report::document::Table;
use crate::report::number::{count, number, percent};

/// Returns the measures with their bootstrap intervals, or `None` without bootstrap samples.
pub fn measures(report: &RewardReport) -> Option<Table> {
    let mut table = Table::of_numbers(
        format!("95 % intervals by the bootstrap over {} prompts", count(report.prompts as u64)),
        &["measure", "value", "interval"],
    );
    for (measure, estimate) in &report.intervals {
        let Some(interval) = &estimate.interval else { continue };
        let value = value_of(*measure, estimate.value);
        table.rows.push(vec![measure.name().to_owned(), value, ends_of(*measure, interval)]);
    }
    if let Some(scaled) = &report.scaled {
        for (measure, estimate) in
            Measure::SCALED.into_iter().zip([scaled.log_loss, scaled.brier, scaled.ece])
        {
            let Some(interval) = &estimate.interval else { continue };
            let name = format!("{} after a temperature", measure.name());
            table.rows.push(vec![name, value_of(measure, estimate.value), ends_of(measure, interval)]);
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

/// A group of pairs: its name and its condition.
type Group = (&'static str, fn(&PairScore) -> bool);

/// Returns the table of accuracy for longer and for shorter preferred answers.
///
/// # Errors
/// Fails if an interval cannot be computed.
pub fn groups(pairs: &[PairScore]) -> Result<Table> {
    let mut table = Table::of_numbers(
        "Accuracy with 95 % Wilson intervals",
        &["pairs whose preferred answer is", "pairs", "accuracy", "interval", "mean margin"],
    );
    let groups: [Group; 4] = [
        ("any", |_| true),
        ("the longer one", |pair| pair.chosen_tokens > pair.rejected_tokens),
        ("the shorter one", |pair| pair.chosen_tokens < pair.rejected_tokens),
        ("as long as the other", |pair| pair.chosen_tokens == pair.rejected_tokens),
    ];
    for (name, within) in groups {
        let margins: Vec<f64> = pairs.iter().filter(|pair| within(pair)).map(PairScore::margin).collect();
        if margins.is_empty() {
            continue;
        }
        let share = accuracy(&margins, LEVEL)?;
        let mean = margins.iter().sum::<f64>() / margins.len() as f64;
        table.rows.push(vec![
            name.to_owned(),
            count(margins.len() as u64),
            percent(share.value),
            percents(&share.interval),
            number(mean),
        ]);
    }
    Ok(table)
}

/// Returns the table of the distributions of margins and scores.
pub fn spreads(report: &RewardReport) -> Table {
    let columns = ["", "mean", "std", "min", "5 %", "25 %", "median", "75 %", "95 %", "max"];
    let mut table = Table::of_numbers("Distribution of margins and scores", &columns);
    for (name, of) in [("margins", &report.margins), ("scores", &report.scores)] {
        let numbers = [of.mean, of.std, of.min, of.p5, of.p25, of.p50, of.p75, of.p95, of.max];
        table.rows.push(
            [name.to_owned()]
                .into_iter()
                .chain(numbers.map(|value| format!("{value:.2}").replace('-', "−")))
                .collect(),
        );
    }
    table
}

/// Returns the bins of the reliability plot.
///
/// # Errors
/// Fails if an interval cannot be computed.
pub fn bins(report: &RewardReport) -> Result<Table> {
    let columns =
        ["confidence", "pairs", "mean confidence", "accuracy", "interval", "accuracy − confidence, points"];
    let mut table = Table::of_numbers("Reliability, bin by bin", &columns);
    for bin in &report.reliability {
        let share = Share::wilson((2.0 * bin.accuracy * bin.count as f64).round() / 2.0, bin.count, LEVEL)?;
        let gap = Estimate { value: bin.accuracy - bin.confidence, interval: None };
        table.rows.push(vec![
            format!("{:.1} to {:.1} %", 100.0 * bin.low, 100.0 * bin.high),
            count(bin.count as u64),
            percent(bin.confidence),
            percent(bin.accuracy),
            percents(&share.interval),
            Signed::of(&gap, 0.01, 1).value,
        ]);
    }
    Ok(table)
}
