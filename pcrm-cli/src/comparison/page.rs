//! The page of a comparison.

use pcrm_eval::comparison::{Better, ComparisonOutcome, Measure, Unit};
use pcrm_eval::interval::FEWEST_REPLICATES;

use super::show;
use crate::report::document::{Block, Document, Section, Table};
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot, Whisker};

/// Returns the page: conclusions, a plot per measure of quality, the table, the constraints.
pub fn document(outcome: &ComparisonOutcome) -> Document {
    let directed = |(_, measure): &(usize, &Measure)| measure.better != Better::Neither;
    let plots: Vec<Plot> = outcome
        .measures
        .iter()
        .enumerate()
        .filter(directed)
        .map(|(at, measure)| plot(outcome, at, measure))
        .collect();
    let mut columns = vec![""];
    columns.extend(outcome.arms.iter().map(|arm| arm.label.as_str()));
    let mut table = Table::of_numbers("", &columns);
    let row = |row: show::ArmRow| [vec![row.label], row.cells].concat();
    table.rows = show::rows(outcome).into_iter().map(row).collect();
    let mut constraints = Table::of_text("", &["", "constraint"]);
    for arm in &outcome.arms {
        let row = |constraint: &String| vec![arm.label.clone(), constraint.clone()];
        constraints.rows.extend(arm.settings.iter().map(row));
    }
    let said = outcome.reading().into_iter().map(Block::Text).collect();
    let mut measures = vec![Block::Table(table)];
    if outcome.replicates >= FEWEST_REPLICATES {
        measures.push(Block::Text("A star marks a difference whose interval excludes 0.".to_owned()));
    }
    Document {
        title: "Constraints compared".to_owned(),
        about: show::heading(outcome),
        sections: vec![
            Section::open("Summary", said),
            Section::open("", vec![Block::Plots(plots)]),
            Section::open("Measures", measures),
            Section::closed("Constraints with their fitted numbers", vec![Block::Table(constraints)]),
        ],
    }
}

/// Returns the plot of a measure: a row per arm with a dot per seed, and the mean with its interval.
fn plot(outcome: &ComparisonOutcome, at: usize, measure: &Measure) -> Plot {
    let names = outcome.arms.iter().rev().map(|arm| arm.label.clone()).collect();
    let arms = || outcome.arms.iter().rev().enumerate();
    let marks = arms().filter_map(|(place, arm)| {
        let mean = arm.means[at]?;
        Some(Whisker::new((mean.value, place as f64), mean.interval))
    });
    let seeds = arms().flat_map(|(place, arm)| {
        let values = arm.values[at].iter().flatten();
        values.map(move |value| (*value, place as f64 - BELOW)).collect::<Vec<_>>()
    });
    // A minimum range keeps a difference in the third digit from looking like an effect.
    let x = match measure.unit {
        Unit::Share => Axis::shares("").spanning(0.1),
        Unit::Loss => Axis::new("").spanning(0.05),
        Unit::Score => Axis::new("").spanning(0.5),
    };
    let mut layers = Vec::new();
    if let Some((label, mean)) = outcome.arms.first().and_then(|arm| Some((&arm.label, arm.means[at]?))) {
        layers.push(Layer::new(format!("mean of {label}"), Ink::Grey, Mark::Upright(mean.value)));
    }
    if outcome.replicates > 1 {
        layers.push(Layer::new("a seed", Ink::Orange, Mark::Dots(seeds.collect())));
    }
    let name = match outcome.replicates {
        1 => "the run",
        runs if runs < FEWEST_REPLICATES => "mean",
        _ => "mean with 95 % interval",
    };
    layers.push(Layer::new(name, Ink::Blue, Mark::Lying(marks.collect())));
    let better = if measure.better == Better::Higher { "higher is better" } else { "lower is better" };
    let title = format!("{} ({better})", capitalised(measure.heading));
    Plot { title, about: String::new(), x, y: Axis::of_names(names), layers }
}

/// The offset of a seed's dot below its mean, in rows.
const BELOW: f64 = 0.3;

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
