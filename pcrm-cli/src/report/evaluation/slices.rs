//! Accuracy by subset, by the difference in length of the answers, and by their similarity.

use pcrm_eval::RewardReport;
use pcrm_eval::slices::{Decile, Slice};
use pcrm_eval::table::percents;

use super::values::{beginning, unit};
use super::whiskers::{self, WhiskerRow};
use crate::report::document::{Block, Section, Table};
use crate::report::number::{count, number, percent};
use crate::report::plot::{Axis, Plot};

/// The most subsets in a plot.
const SUBSETS: usize = 40;
/// The longest name of a subset in a table, in characters.
const NAME: usize = 60;

/// A slice of the pairs: its name and each model's results.
struct Part<'a> {
    name: String,
    slices: Vec<Option<&'a Slice>>,
}

/// Returns sections on subsets and deciles of the first report; other models are shown where their slices
/// match.
pub fn sections(models: &[(&str, &RewardReport)]) -> Vec<Section> {
    let Some((_, first)) = models.first() else { return Vec::new() };
    let names: Vec<&str> = models.iter().map(|(name, _)| *name).collect();
    let mut sections = Vec::new();
    let subsets = subsets(models);
    if !subsets.is_empty() {
        let blocks = vec![
            Block::Plots(vec![subset_plot(&names, &subsets)]),
            Block::Table(table("Subsets, with 95 % Wilson intervals", "subset", &names, &subsets)),
        ];
        sections.push(Section::open("Accuracy by subset", blocks));
    }
    let gap_name = format!("chosen − rejected, {}", unit(first));
    let gaps = deciles(models, |report| &report.by_length_gap, 0);
    let similar = deciles(models, |report| &report.by_similarity, 2);
    let (mut plots, mut tables) = (Vec::new(), Vec::new());
    for (title, about, column, parts) in [
        (
            "Accuracy by difference in length",
            format!(
                "Deciles of length(chosen) − length(rejected) in {}. In the upper rows the preferred answer \
                 is the shorter one.",
                unit(first)
            ),
            gap_name.as_str(),
            gaps,
        ),
        (
            "Accuracy by similarity",
            "Deciles of the similarity of the two answers, from 0 to 1.".to_owned(),
            "similarity",
            similar,
        ),
    ] {
        if !parts.is_empty() {
            plots.push(Plot { about, ..plot(title, &names, &parts) });
            tables.push(Block::Table(table(&format!("{title}, decile by decile"), column, &names, &parts)));
        }
    }
    if !plots.is_empty() {
        sections.push(Section::open("Accuracy by length and similarity", vec![Block::Plots(plots)]));
        sections.push(Section::closed("Deciles as tables", tables));
    }
    sections
}

fn subsets<'a>(models: &[(&str, &'a RewardReport)]) -> Vec<Part<'a>> {
    let Some((_, first)) = models.first() else { return Vec::new() };
    let of = |name: &str, report: &'a RewardReport| {
        report.subsets.iter().find(|subset| subset.name == name).map(|subset| &subset.slice)
    };
    let part = |name: &String| Part {
        name: beginning(name, NAME),
        slices: models.iter().map(|(_, report)| of(name, report)).collect(),
    };
    first.subsets.iter().map(|subset| part(&subset.name)).collect()
}

/// Returns a part per decile of the first report, with the other models whose deciles have the same ends. They differ
/// if models count lengths differently.
fn deciles<'a>(
    models: &[(&str, &'a RewardReport)],
    of: fn(&RewardReport) -> &[Decile],
    places: usize,
) -> Vec<Part<'a>> {
    let Some((_, first)) = models.first() else { return Vec::new() };
    let ends = |report: &RewardReport| of(report).iter().map(|d| (d.low, d.high)).collect::<Vec<_>>();
    let alike: Vec<&RewardReport> =
        models.iter().map(|(_, report)| *report).filter(|report| ends(report) == ends(first)).collect();
    let part = |(at, decile): (usize, &Decile)| {
        let (low, high) = (format!("{:.places$}", decile.low), format!("{:.places$}", decile.high));
        let name = if low == high { low } else { format!("{low} to {high}") };
        Part {
            name: name.replace('-', "−"),
            slices: alike.iter().map(|report| of(report).get(at).map(|decile| &decile.slice)).collect(),
        }
    };
    of(first).iter().enumerate().map(part).collect()
}

fn subset_plot(names: &[&str], parts: &[Part<'_>]) -> Plot {
    let pairs = |part: &Part<'_>| part.slices[0].map_or(0, |slice| slice.pairs);
    let accuracy = |part: &Part<'_>| part.slices[0].map_or(0.0, |slice| slice.accuracy.value);
    let mut shown: Vec<&Part<'_>> = parts.iter().collect();
    shown.sort_by_key(|part| std::cmp::Reverse(pairs(part)));
    shown.truncate(SUBSETS);
    shown.sort_by(|a, b| accuracy(b).total_cmp(&accuracy(a)));
    let about = match parts.len() > SUBSETS {
        true => format!("The {SUBSETS} largest of {} subsets, best first.", parts.len()),
        false => "Best first.".to_owned(),
    };
    let about = format!("{about} Whiskers are 95 % Wilson intervals.");
    Plot { about, ..plot("Accuracy by subset", names, shown) }
}

fn plot<'a>(title: &str, names: &[&str], parts: impl IntoIterator<Item = &'a Part<'a>>) -> Plot {
    let whisker = |slice: &Slice| (slice.accuracy.value, Some(slice.accuracy.interval));
    let row = |part: &Part<'_>| WhiskerRow {
        name: part.name.clone(),
        values: part.slices.iter().map(|slice| slice.map(whisker)).collect(),
    };
    let rows: Vec<WhiskerRow> = parts.into_iter().map(row).collect();
    let intervals =
        rows.iter().flat_map(|row| row.values.iter().flatten()).filter_map(|(_, interval)| *interval);
    let lowest = intervals.map(|interval| interval.low()).fold(0.5, f64::min);
    let x = Axis::shares("share of pairs ordered as labelled").within((10.0 * lowest).floor() / 10.0, 1.0);
    whiskers::plot(title, x, names, &rows, 0.5, "guessing")
}

fn table(caption: &str, column: &str, names: &[&str], parts: &[Part<'_>]) -> Table {
    let others = names.get(1..).unwrap_or_default().iter().flat_map(|name| [*name, "interval"]);
    let columns: Vec<&str> = [column, "pairs", "ties", "accuracy", "interval", "mean margin", "log loss"]
        .into_iter()
        .chain(others)
        .collect();
    let caption = match names {
        [first, _, ..] => format!("{caption}; the columns up to log loss are {first}'s"),
        _ => caption.to_owned(),
    };
    let mut table = Table::of_numbers(caption, &columns);
    for part in parts {
        let Some(Some(own)) = part.slices.first() else { continue };
        let mut row = vec![
            part.name.clone(),
            count(own.pairs as u64),
            count(own.ties as u64),
            percent(own.accuracy.value),
            percents(&own.accuracy.interval),
            number(own.mean_margin),
            number(own.log_loss),
        ];
        for at in 1..names.len() {
            let other = part.slices.get(at).copied().flatten();
            row.push(other.map_or("–".to_owned(), |slice| percent(slice.accuracy.value)));
            row.push(other.map_or("–".to_owned(), |slice| percents(&slice.accuracy.interval)));
        }
        table.rows.push(row);
    }
    table
}
