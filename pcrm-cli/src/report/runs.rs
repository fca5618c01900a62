//! The page and the table of several training runs.

use std::collections::{BTreeMap, BTreeSet};

use toml::Table as Options;

use super::curves::{Curves, smooth, thin};
use super::document::{Align, Block, Column, Document, Section, Table};
use super::number;
use super::plot::{Axis, Layer, Mark, Plot, SERIES};
use crate::page::Page;

/// Metrics that are shown first, the most informative ones in front.
const FIRST: [&str; 16] = [
    "eval_loss",
    "eval_ranking_loss",
    "eval_accuracy",
    "eval_rewards/accuracies",
    "eval_rewards/margins",
    "eval_reward",
    "eval_objective/kl",
    "eval_mean_token_accuracy",
    "eval_completions/mean_length",
    "loss",
    "accuracy",
    "reward",
    "rewards/accuracies",
    "rewards/margins",
    "objective/kl",
    "entropy",
];
/// Columns of the table unless metrics are chosen.
const COLUMNS: usize = 6;
/// Options that differ between any two runs.
const OWN: [&str; 2] = ["output", "config"];

/// A run in a table or page of several.
#[derive(Debug)]
pub struct ShownRun {
    /// The name of the run.
    pub name: String,
    /// The metrics of all steps.
    pub curves: Curves,
    /// The options, from the run's config file.
    pub options: Options,
}

/// The horizontal axis of the curves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Steps.
    Steps,
    /// Tokens computed.
    Tokens,
    /// Minutes in steps.
    Minutes,
}

/// Writes the table of the runs and the options in which they differ.
pub fn show(runs: &[ShownRun], chosen: &[String], page: &mut Page) {
    page.columns(&rows(&last(runs, chosen)));
    let differing = differing(runs);
    if !differing.rows.is_empty() {
        page.heading("options that differ");
        page.columns(&rows(&differing));
    }
}

/// Returns a table's heading and rows.
fn rows(table: &Table) -> Vec<Vec<String>> {
    let heading = table.columns.iter().map(|column| column.name.clone()).collect();
    std::iter::once(heading).chain(table.rows.iter().cloned()).collect()
}

/// Returns the page of the runs.
pub fn document(runs: &[ShownRun], chosen: &[String], over: Over) -> Document {
    let mut sections = vec![Section::open("", vec![Block::Table(last(runs, chosen))])];
    let differing = differing(runs);
    if !differing.rows.is_empty() {
        sections.push(Section::open("Options that differ", vec![Block::Table(differing)]));
    }
    let (first, others): (Vec<String>, Vec<String>) = names(runs, chosen)
        .into_iter()
        .partition(|name| !chosen.is_empty() || FIRST.contains(&name.as_str()));
    let plots = |names: Vec<String>| -> Vec<Plot> {
        names.iter().map(|name| curves(runs, name, over)).filter(|plot| !plot.layers.is_empty()).collect()
    };
    sections.push(Section::open("Course of training", vec![Block::Plots(plots(first))]));
    let others = plots(others);
    if !others.is_empty() {
        sections.push(Section::closed("Other metrics", vec![Block::Plots(others)]));
    }
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    Document {
        title: if names.len() == 1 { format!("Run {}", names[0]) } else { format!("{} runs", names.len()) },
        about: names.join(", "),
        sections,
    }
}

/// Returns the metrics of any run, or only the chosen ones if there are any, with the most informative ones in front.
fn names(runs: &[ShownRun], chosen: &[String]) -> Vec<String> {
    if !chosen.is_empty() {
        return chosen.to_vec();
    }
    let all: BTreeSet<&str> = runs.iter().flat_map(|run| run.curves.all_names()).collect();
    let first = FIRST.iter().copied().filter(|name| all.contains(name));
    let others = all.iter().copied().filter(|name| !FIRST.contains(name));
    first.chain(others).map(str::to_owned).collect()
}

/// Returns the last value of each metric: of an evaluation as it is, of training as the mean of the last
/// twentieth.
fn last(runs: &[ShownRun], chosen: &[String]) -> Table {
    let mut names = names(runs, chosen);
    if chosen.is_empty() {
        names.retain(|name| FIRST.contains(&name.as_str()));
        names.truncate(COLUMNS);
    }
    let mut columns = vec!["run", "steps"];
    columns.extend(names.iter().map(String::as_str));
    let mut table = Table::of_numbers("", &columns);
    for run in runs {
        let steps = run.curves.last().and_then(|line| line["step"].as_u64());
        let mut row = vec![run.name.clone(), steps.map_or("–".to_owned(), |step| step.to_string())];
        row.extend(names.iter().map(|name| {
            let points = run.curves.points(name);
            let smoothed = if name.starts_with("eval_") { points } else { smooth(&points) };
            smoothed.last().map_or("–".to_owned(), |(_, value)| number(*value))
        }));
        table.rows.push(row);
    }
    table
}

/// Returns the options whose values differ between runs.
fn differing(runs: &[ShownRun]) -> Table {
    let keys: BTreeSet<&str> = runs
        .iter()
        .flat_map(|run| run.options.keys().map(String::as_str))
        .filter(|key| !OWN.contains(key))
        .collect();
    let columns = std::iter::once("option").chain(runs.iter().map(|run| run.name.as_str()));
    let mut table = Table {
        caption: String::new(),
        columns: columns.map(|name| Column { name: name.to_owned(), align: Align::Left }).collect(),
        rows: Vec::new(),
    };
    for key in keys {
        let shown = |value: &toml::Value| match value.as_str() {
            Some(text) => text.to_owned(),
            None => value.to_string(),
        };
        let values: Vec<String> = runs
            .iter()
            .map(|run| run.options.get(key).map_or("–".to_owned(), |value| shown(value).replace('\n', " ")))
            .collect();
        if values.iter().any(|value| *value != values[0]) {
            table.rows.push(std::iter::once(key.to_owned()).chain(values).collect());
        }
    }
    table
}

/// Returns the plot of one metric with a line per run: smoothed in training, as it is in evaluations.
fn curves(runs: &[ShownRun], name: &str, over: Over) -> Plot {
    let is_evaluation = name.starts_with("eval_");
    let mut layers = Vec::new();
    for (run, ink) in runs.iter().zip(SERIES) {
        let axis = run.axis(over);
        let points: Vec<(f64, f64)> = run
            .curves
            .points(name)
            .into_iter()
            .filter_map(|(step, value)| Some((*axis.get(&(step as u64))?, value)))
            .collect();
        if points.is_empty() {
            continue;
        }
        if is_evaluation {
            layers.push(Layer::new(run.name.clone(), ink, Mark::Line(thin(&points))));
            layers.push(Layer::unnamed(ink, Mark::Dots(points)));
        } else {
            layers.push(Layer::new(run.name.clone(), ink, Mark::Line(smooth(&points))));
        }
    }
    Plot {
        title: name.to_owned(),
        x: Axis::new(match over {
            Over::Steps => "step",
            Over::Tokens => "tokens",
            Over::Minutes => "minutes in steps",
        }),
        y: Axis::new(if is_evaluation { "held out" } else { "training, smoothed" }),
        layers,
        ..Plot::default()
    }
}

impl ShownRun {
    /// Returns the position of every step on an axis.
    fn axis(&self, over: Over) -> BTreeMap<u64, f64> {
        match over {
            Over::Steps => self.curves.steps().map(|step| (step, step as f64)).collect(),
            Over::Tokens => self.curves.at_steps(|line| line["num_tokens"].as_f64()),
            Over::Minutes => self.curves.minutes(),
        }
    }
}
