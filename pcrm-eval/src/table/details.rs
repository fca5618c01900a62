//! The tables below the main one: benchmarks, subsets, deciles, human scores, best of n, comparisons with
//! other models.

use comfy_table::Table;

use super::figures::{Signed, number, p_value, percent, percents};
use super::{align, new_table};
use crate::answers::BestOfN;
use crate::benchmarks::rm_bench::StyleMatrix;
use crate::benchmarks::{RewardBench, RewardBench2, RmBench};
use crate::bootstrap::{Difference, Estimate};
use crate::compare::ModelComparison;
use crate::evaluation::LengthUnit;
use crate::human::{Correlations, HumanAgreement, HumanDifference};
use crate::interval::Interval;
use crate::measure::Measure;
use crate::reward::RewardReport;
use crate::slices::{Decile, Slice};

/// Returns all tables of a report beyond the main one, the most important first.
pub(super) fn details(report: &RewardReport) -> Vec<Table> {
    let unit = match report.length_unit {
        LengthUnit::Tokens => "chosen − rejected, tokens",
        LengthUnit::Words => "chosen − rejected, words",
    };
    let tables = [
        report.reward_bench.as_ref().map(reward_bench),
        report.reward_bench_2.as_ref().map(reward_bench_2),
        report.rm_bench.as_ref().map(rm_bench),
        report.best_of_n.as_ref().map(best_of_n),
        report.best_of_n.as_ref().and_then(worth_of_picked),
        report.human.as_ref().map(human),
        intervals(report),
        subsets(report),
        deciles(unit, &report.by_length_gap, 0),
        deciles("similarity", &report.by_similarity, 2),
    ];
    tables.into_iter().flatten().map(align).collect()
}

/// Returns the tables on the differences of two models: by measure, by pairs, and the correlation of their
/// scores.
pub(super) fn comparison(comparison: &ModelComparison, first: &str, second: &str) -> Vec<Table> {
    let drawn = comparison.differences.values().any(|difference| difference.p.is_some());
    let mut differences = Differences::new(first, second, drawn);
    for (measure, difference) in &comparison.differences {
        match measure {
            Measure::Accuracy => differences.add("accuracy, points", difference, (POINTS, 1)),
            measure => differences.add(measure.name(), difference, (1.0, 3)),
        }
        if let Some(difference) = comparison.scaled.get(measure) {
            differences.add("  scaled", difference, (1.0, 3));
        }
    }
    comparison.human.iter().for_each(|human| differences.add_human(human));
    let test = &comparison.mcnemar;
    let (only_first, only_second) = (format!("only {first}"), format!("only {second}"));
    let mut pairs =
        new_table(&["ordered as labelled by", "both", &only_first, &only_second, "neither", "McNemar p"]);
    let counts = [test.both, test.only_first, test.only_second, test.neither].map(|count| count.to_string());
    let all = format!("of {} pairs", comparison.pairs);
    pairs.add_row([all].into_iter().chain(counts).chain([p_value(test.p)]));
    let mut scores = new_table(&["correlation of both models' scores", "r", "Spearman", "Kendall"]);
    let shown = |value: Option<f64>| value.map_or("–".to_owned(), number);
    scores.add_row([
        format!("{} answers", 2 * comparison.pairs),
        shown(comparison.pearson),
        shown(comparison.spearman),
        shown(comparison.kendall),
    ]);
    [differences.table, pairs, scores].map(align).into()
}

/// A table of differences of two models.
pub(super) struct Differences {
    /// The table.
    pub table: Table,
    drawn: bool,
}

impl Differences {
    /// Creates a table without rows; `drawn` adds columns for intervals and p-values.
    pub fn new(first: &str, second: &str, drawn: bool) -> Self {
        let mut header = vec!["", first, second, "right − left"];
        if drawn {
            header.extend(["95 %", "p"]);
        }
        Self { table: new_table(&header), drawn }
    }

    /// Adds a difference in this unit, with at least this number of decimals.
    fn add(&mut self, name: &str, difference: &Difference, (unit, least): (f64, usize)) {
        let Signed { value, interval } = Signed::of(&difference.difference, unit, least);
        let (first, second) = match unit {
            POINTS => (percent(difference.first), percent(difference.second)),
            _ => (number(difference.first), number(difference.second)),
        };
        let mut row = vec![name.to_owned(), first, second, value];
        if self.drawn {
            let none = || "–".to_owned();
            row.extend([interval.unwrap_or_else(none), difference.p.map_or_else(none, p_value)]);
        }
        self.table.add_row(row);
    }

    /// Adds the differences of rank correlation with human scores.
    pub fn add_human(&mut self, human: &HumanDifference) {
        for (name, difference) in
            [("human ρ, pooled", human.pooled_spearman), ("human ρ, per prompt", human.per_prompt_spearman)]
        {
            difference.iter().for_each(|difference| self.add(name, difference, (1.0, 3)));
        }
    }
}

/// The unit of differences of accuracy.
const POINTS: f64 = 0.01;

fn reward_bench(bench: &RewardBench) -> Table {
    let mut table = new_table(&["RewardBench", "score", "subsets missing"]);
    for section in &bench.sections {
        let missing =
            if section.missing.is_empty() { "–".to_owned() } else { section.missing.len().to_string() };
        table.add_row([section.name.clone(), percent(section.score), missing]);
    }
    let overall = bench.score.map_or("– (sections are missing)".to_owned(), percent);
    table.add_row(["overall".to_owned(), overall, String::new()]);
    table
}

fn reward_bench_2(bench: &RewardBench2) -> Table {
    let mut table = new_table(&["RewardBench 2", "prompts", "score"]);
    for subset in &bench.subsets {
        table.add_row([subset.name.clone(), subset.prompts.to_string(), percent(subset.score)]);
    }
    if let Some(ties) = &bench.ties {
        for (name, share) in [
            ("  accurate, several right", ties.tied_accuracy),
            ("  accurate, one right", ties.ref_accuracy),
            ("  gap beyond spread", ties.correctness_preferred),
            ("  both gaps beyond it", ties.correctness_preferred_hard),
        ] {
            table.add_row([name.to_owned(), String::new(), percent(share)]);
        }
    }
    let overall = bench.score.map_or("– (subsets are missing)".to_owned(), percent);
    table.add_row(["overall".to_owned(), String::new(), overall]);
    table
}

fn rm_bench(bench: &RmBench) -> Table {
    let mut table = new_table(&["RM-Bench", "prompts", "easy", "normal", "hard"]);
    let mut row = |name: &str, styles: &StyleMatrix| {
        let [easy, normal, hard] = [styles.easy, styles.normal, styles.hard].map(percent);
        table.add_row([name.to_owned(), styles.prompts.to_string(), easy, normal, hard]);
    };
    bench.domains.iter().for_each(|domain| row(&domain.name, &domain.styles));
    row("all prompts", &bench.all);
    let overall = bench.score.map_or("–".to_owned(), percent);
    table.add_row(["overall".to_owned(), String::new(), String::new(), overall]);
    for (style, shares) in ["concise", "detailed", "markdown"].iter().zip(bench.all.matrix) {
        let [concise, detailed, markdown] = shares.map(percent);
        table.add_row([format!("  right {style} against"), String::new(), concise, detailed, markdown]);
    }
    table
}

fn best_of_n(best: &BestOfN) -> Table {
    let mut table = new_table(&["best of n", "prompts", "answers", "accuracy", "95 % interval", "chance"]);
    let interval = percents(&best.accuracy.interval);
    table.add_row([
        "best found".to_owned(),
        best.prompts.to_string(),
        number(best.answers),
        percent(best.accuracy.value),
        interval,
        percent(best.chance),
    ]);
    table
}

fn worth_of_picked(best: &BestOfN) -> Option<Table> {
    let worth = best.worth?;
    let mut table = new_table(&["answer", "picked by score", "at random", "best"]);
    let [picked, random, best] = [worth.picked, worth.random, worth.best].map(number);
    table.add_row(["mean human score".to_owned(), picked, random, best]);
    Some(table)
}

fn human(human: &HumanAgreement) -> Table {
    let mut table = new_table(&["human scores", "Pearson", "Spearman", "Kendall"]);
    let mut rows = |name: String, correlations: Correlations| {
        let values = [correlations.pearson, correlations.spearman, correlations.kendall];
        let shown = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        let value = |estimate: Option<Estimate>| shown(estimate.map(|estimate| number(estimate.value)));
        table.add_row([name].into_iter().chain(values.map(value)));
        let ends =
            |interval: Interval| format!("{:.3} to {:.3}", interval.low(), interval.high()).replace('-', "−");
        let intervals = values.map(|estimate| estimate?.interval);
        if intervals.iter().any(Option::is_some) {
            let cells = intervals.map(|interval| shown(interval.map(ends)));
            table.add_row(["  95 % interval".to_owned()].into_iter().chain(cells));
        }
    };
    rows(format!("{} answers", human.answers), human.pooled);
    rows(format!("{} prompts, mean", human.prompts_used), human.per_prompt);
    table
}

fn intervals(report: &RewardReport) -> Option<Table> {
    if report.intervals.is_empty() {
        return None;
    }
    let title = format!("bootstrap over {} prompts", report.prompts);
    let mut table = new_table(&[&title, "value", "95 % interval"]);
    for (measure, estimate) in &report.intervals {
        let Some(interval) = &estimate.interval else { continue };
        let (value, ends) = match measure {
            Measure::Accuracy => (percent(estimate.value), percents(interval)),
            _ => {
                (number(estimate.value), format!("{} to {}", number(interval.low()), number(interval.high())))
            }
        };
        table.add_row([measure.name().to_owned(), value, ends]);
    }
    Some(table)
}

fn subsets(report: &RewardReport) -> Option<Table> {
    if report.subsets.is_empty() {
        return None;
    }
    let mut table = slices("subset");
    for subset in &report.subsets {
        add_slice(&mut table, short(&subset.name), &subset.slice);
    }
    Some(table)
}

fn deciles(title: &str, deciles: &[Decile], places: usize) -> Option<Table> {
    if deciles.is_empty() {
        return None;
    }
    let mut table = slices(title);
    for decile in deciles {
        let range = match decile.low == decile.high {
            true => format!("{:.places$}", decile.low),
            false => format!("{:.places$} to {:.places$}", decile.low, decile.high),
        };
        add_slice(&mut table, range.replace('-', "−"), &decile.slice);
    }
    Some(table)
}

fn slices(title: &str) -> Table {
    new_table(&[title, "pairs", "accuracy", "95 % interval", "margin"])
}

fn add_slice(table: &mut Table, name: String, slice: &Slice) {
    let Slice { pairs, accuracy, mean_margin, .. } = slice;
    let interval = percents(&accuracy.interval);
    table.add_row([name, pairs.to_string(), percent(accuracy.value), interval, number(*mean_margin)]);
}

/// Shortens a long name to its beginning, so that tables stay within their width.
fn short(name: &str) -> String {
    const MOST: usize = 30;
    match name.chars().count() > MOST {
        true => name.chars().take(MOST - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}
