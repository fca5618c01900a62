//! The table of the quickstart and its conclusions, within 80 columns.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use pcrm_eval::histogram::Histogram;

use super::measure::{MeasuredModel, Measures};

/// Columns of a distribution: half of the histogram's bins, so that four columns fit.
const PLACES: usize = Histogram::BINS / 2;

/// Returns the table of the models, with the labellers as the last column.
pub fn table(models: &[MeasuredModel], labellers: &Measures) -> String {
    let mut table = Table::new();
    table.force_no_tty().load_style(UTF8_BORDERS_ONLY);
    let mut header = vec![""];
    header.extend(models.iter().map(|model| model.name.as_str()));
    header.push("labellers");
    table.set_header(header);
    table.add_rows(cells(models, labellers));
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    format!("{table}\n")
}

/// Returns the table's rows: a label, a cell per model, and the labellers'.
pub fn cells(models: &[MeasuredModel], labellers: &Measures) -> Vec<Vec<String>> {
    let row = |(label, of_labellers, value): Row| {
        let mut row = vec![label];
        row.extend(models.iter().map(|model| value(&model.measures)));
        row.push(if of_labellers { value(labellers) } else { "–".to_owned() });
        row
    };
    rows().into_iter().map(row).collect()
}

/// Returns the conclusions, a paragraph each; the other models are compared with the first.
pub fn reading(models: &[MeasuredModel], labellers: &Measures) -> Vec<String> {
    let Some((first, others)) = models.split_first() else { return Vec::new() };
    let mut said = vec![sureness(models)];
    if !others.is_empty() {
        said.push(spread(first, others));
        said.push(order(first, others));
    }
    said.push(closeness(models, labellers));
    said
}

/// A row's label, whether the labellers have a value, and the function that formats the value.
type Row = (String, bool, fn(&Measures) -> String);

fn rows() -> Vec<Row> {
    let row =
        |label: &str, of_labellers, value: fn(&Measures) -> String| (label.to_owned(), of_labellers, value);
    vec![
        row("right by labels", true, |it| percent(it.report.accuracy.value)),
        row("  95 % interval", true, |it| {
            format!("{:.1}–{:.1}", 100.0 * it.report.accuracy.low(), 100.0 * it.report.accuracy.high())
        }),
        row("right by truth", true, |it| percent(it.true_order.value)),
        row("expects right", true, |it| percent(it.confidence)),
        row("ECE, 15 bins", true, |it| format!("{:.3}", it.report.ece)),
        row("Brier score", true, |it| format!("{:.3}", it.report.brier)),
        row("log loss, labels", true, |it| format!("{:.3}", it.report.log_loss)),
        row("  probabilities", true, |it| format!("{:.3}", it.cross_entropy)),
        row("scores", false, |it| range(it.report.scores.min, it.report.scores.max)),
        row("margins, 5–95 %", true, |it| range(it.report.margins.p5, it.report.margins.p95)),
        row(&format!("  from {} to {}", Histogram::LOW, Histogram::HIGH), true, |it| {
            it.report.histogram.sparkline(PLACES)
        }),
        row("longer wins", true, |it| {
            it.report.longer_preferred.map_or_else(|| "–".to_owned(), |shares| percent(shares.by_model))
        }),
        row("true reward: r", false, |it| {
            let r = it.report.true_reward.and_then(|reward| reward.pearson);
            r.map_or_else(|| "–".to_owned(), |r| format!("{r:.3}"))
        }),
    ]
}

/// Compares mean confidence with accuracy.
fn sureness(models: &[MeasuredModel]) -> String {
    let say = |model: &MeasuredModel| {
        let (expects, right) = (model.measures.confidence, model.measures.report.accuracy);
        let verdict = match expects {
            expects if expects > right.high() => "overconfident",
            expects if expects < right.low() => "underconfident",
            _ => "calibrated, within chance",
        };
        format!(
            "{} is {} confident on average and right in {} of the pairs: {verdict}",
            quoted(model),
            percent(expects),
            percent(right.value)
        )
    };
    format!("{}.", models.iter().map(say).collect::<Vec<_>>().join("; "))
}

fn spread(first: &MeasuredModel, others: &[MeasuredModel]) -> String {
    let span = |model: &MeasuredModel| model.measures.report.scores.max - model.measures.report.scores.min;
    let say = |model: &MeasuredModel| {
        let margins = model.measures.report.margins.std / first.measures.report.margins.std;
        let scores = span(model) / span(first);
        format!(
            "relative to {}, the score range of {} is {scores:.2} and its margin spread {margins:.2}",
            quoted(first),
            quoted(model)
        )
    };
    format!("Spread: {}.", others.iter().map(say).collect::<Vec<_>>().join("; "))
}

/// Compares accuracies on the same pairs by McNemar's test, which counts the pairs that two models disagree
/// on.
fn order(first: &MeasuredModel, others: &[MeasuredModel]) -> String {
    let say = |model: &MeasuredModel| {
        let both = || model.margins.iter().zip(&first.margins);
        let gained = both().filter(|(ours, theirs)| **ours > 0.0 && **theirs <= 0.0).count();
        let lost = both().filter(|(ours, theirs)| **ours <= 0.0 && **theirs > 0.0).count();
        let (won, differ) = (gained as f64 - lost as f64, (gained + lost) as f64);
        let verdict = match won / differ.max(1.0).sqrt() {
            z if z > 1.96 => "significantly better",
            z if z < -1.96 => "significantly worse",
            _ => "not significant",
        };
        let (first, model) = (quoted(first), quoted(model));
        let pairs = if gained == 1 { "pair" } else { "pairs" };
        format!(
            "{model} gets {gained} {pairs} right that {first} gets wrong, and {lost} vice versa: {verdict}"
        )
    };
    format!("Accuracy: {}.", others.iter().map(say).collect::<Vec<_>>().join("; "))
}

/// Ranks models by their log loss against the labellers' own probabilities.
fn closeness(models: &[MeasuredModel], labellers: &Measures) -> String {
    let excess = |model: &MeasuredModel| model.measures.cross_entropy - labellers.cross_entropy;
    let mut ranked: Vec<&MeasuredModel> = models.iter().collect();
    ranked.sort_by(|a, b| excess(a).total_cmp(&excess(b)));
    let say = |model: &&MeasuredModel| format!("{} {:.3}", quoted(model), excess(model));
    format!(
        "Excess log loss over the best possible against the labellers' probabilities ({:.3}): {}.",
        labellers.cross_entropy,
        ranked.iter().map(say).collect::<Vec<_>>().join(", ")
    )
}

/// Returns the name of a model in quotation marks, since a model without a constraint is named `none`.
fn quoted(model: &MeasuredModel) -> String {
    format!("\"{}\"", model.name)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Formats two numbers in at most twelve characters, if they have at most two digits.
fn range(low: f64, high: f64) -> String {
    let number = |value: f64| match value.abs() < 9.95 {
        true => format!("{value:.1}"),
        false => format!("{value:.0}"),
    };
    format!("{} to {}", number(low), number(high))
}
