//! Reports as terminal tables: one report, or several side by side, readable at 80 columns.

mod details;
mod figures;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table};

use crate::bootstrap::Estimate;
use crate::histogram::Histogram;
use crate::quantiles::Summary;
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
    /// `names` are those of the models, this report's first; with one model they are not shown. Tables of
    /// details are those of the first model.
    pub fn table(&self, names: &[&str]) -> String {
        let name =
            |at: usize| names.get(at).map_or_else(|| format!("model {}", at + 1), |name| shortened(name));
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
type Row = (&'static str, fn(&RewardReport) -> Option<String>);

fn rows() -> Vec<Row> {
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
fn add(
    table: &mut Table,
    label: &str,
    columns: &[(&str, &RewardReport)],
    value: impl Fn(&RewardReport) -> Option<String>,
) {
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

fn spread(summary: &Summary) -> String {
    format!("{} ± {}", number(summary.mean), number(summary.std))
}

fn range(low: f64, high: f64) -> String {
    format!("{} to {}", number(low), number(high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::{AnswerSet, Labels};
    use crate::bootstrap::Bootstrap;
    use crate::evaluation::Evaluation;
    use crate::reward::PairScore;

    fn report(scale: f64, bound: Option<f64>, rewards: bool) -> RewardReport {
        let pairs: Vec<PairScore> = (0..200_usize)
            .map(|at| {
                let wave = (at as f64 * 0.7).sin();
                PairScore {
                    chosen: scale * (0.8 + wave),
                    rejected: scale * (at as f64 * 0.3).cos() * 0.5,
                    chosen_tokens: 10 + at % 17,
                    rejected_tokens: 10 + at % 13,
                    bound,
                    similarity: Some((at % 7) as f64 / 7.0),
                    true_chosen: rewards.then_some(wave),
                    true_rejected: rewards.then_some(-wave),
                }
            })
            .collect();
        RewardReport::new(&pairs).unwrap()
    }

    /// Builds a report with every table, and with names and numbers of maximum length.
    fn everything() -> RewardReport {
        let mut evaluations = [Evaluation::default(), Evaluation::default()];
        for (scale, evaluation) in [0.01, 12_345.6].into_iter().zip(&mut evaluations) {
            for at in 0..60_usize {
                let wave = |step: f64| scale * (at as f64 * step).sin();
                let pair = PairScore {
                    chosen: wave(0.7),
                    rejected: wave(0.3),
                    chosen_tokens: 1000 + at * at,
                    rejected_tokens: 9000,
                    similarity: Some(at as f64 / 60.0),
                    ..PairScore::default()
                };
                let subset = ["safety-refuse-with-a-name-that-does-not-end", "Factuality"][at % 2];
                evaluation.add_pair(pair, Some(subset), None);
                let set = |labels| AnswerSet {
                    id: at.to_string(),
                    subset: None,
                    scores: [0.1, 0.2, 0.5, 0.3, 0.4, 0.9].map(wave).to_vec(),
                    lengths: vec![10, 20, 30, 40, 50, 60],
                    labels,
                };
                let human = [1.0, 4.0, 3.0, 2.0, 5.0, 5.0].map(|score| score + (at % 3) as f64);
                evaluation.add_set(set(Labels::Human(human.to_vec()))).unwrap();
            }
        }
        let bootstrap = Bootstrap { resamples: 40, ..Bootstrap::default() };
        RewardReport::beside(&evaluations[0], &evaluations[1..], &bootstrap).unwrap()
    }

    const LONG: [&str; 2] =
        ["runs/2026-11-02/pythia-70m-helpful-length-ratio-20-0.001-15", "runs/2026-11-02/pythia-70m-none"];

    fn widest(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap()
    }

    /// Protects: tables stay within 80 columns, even with long names, huge scores and many reports.
    #[test]
    fn tables_fit_eighty_columns() {
        let (small, huge) = (report(1.0, Some(3.0), true), report(-1e7, None, false));
        assert!(widest(&small.table(&[])) <= 80 && widest(&huge.table(&[])) <= 80);
        assert!(widest(&everything().table(&LONG)) <= 80, "{}", everything().table(&LONG));
        let name = "runs/2026-11-02/pythia-70m-helpful-length-ratio-20-0.001-15";
        for count in 1..=7 {
            let columns = vec![(name, &huge); count];
            let text = side_by_side(&columns);
            assert!(widest(&text) <= 80, "{count} columns:\n{text}");
            assert_eq!(text.matches("│ score and length: r ").count(), count.div_ceil(BESIDE), "{text}");
        }
    }

    /// Protects: rows that no report has are left out; a report that lacks a value beside others shows a
    /// dash.
    #[test]
    fn absent_measures_are_left_out_or_dashed() {
        let (with, without) = (report(1.0, Some(3.0), true), report(1.0, None, false));
        let alone = without.table(&[]);
        assert!(!alone.contains("mean bound") && !alone.contains("true reward"), "{alone}");
        let both = side_by_side(&[("bt", &without), ("pcrm", &with)]);
        let row = both.lines().find(|line| line.contains("mean bound")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["│", "mean", "bound", "–", "3.000", "│"]);
    }

    /// Protects: the histogram stays on one line, with 24 columns for two reports and 12 for three.
    #[test]
    fn histograms_keep_their_places() {
        let report = report(1.0, None, false);
        for (count, places) in [(1, 24), (2, 24), (3, 12)] {
            let text = side_by_side(&vec![("name", &report); count]);
            assert_eq!(text.matches(&report.histogram.sparkline(places)).count(), count, "{text}");
        }
    }
}
