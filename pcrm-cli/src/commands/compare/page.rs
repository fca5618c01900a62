//! A comparison's page.

use super::outcome::{Better, Measure, Outcome};
use super::show;
use crate::report::document::{Block, Document, Section, Table};
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot};

/// The page: an interval plot per measure that can be better or worse, the table, the constraints.
pub fn document(outcome: &Outcome) -> Document {
    let telling = |(_, measure): &(usize, &Measure)| measure.better != Better::Neither;
    let plots: Vec<Plot> = outcome
        .measures
        .iter()
        .enumerate()
        .filter(telling)
        .map(|(at, measure)| plot(outcome, at, measure))
        .collect();
    let mut columns = vec![""];
    columns.extend(outcome.arms.iter().map(|arm| arm.label.as_str()));
    let mut table = Table::of_numbers("", &columns);
    let row = |(label, cells): (String, Vec<String>)| [vec![label], cells].concat();
    table.rows = show::rows(outcome).into_iter().map(row).collect();
    let mut constraints = Table::of_text("", &["", "constraint"]);
    for arm in &outcome.arms {
        let row = |constraint: &String| vec![arm.label.clone(), constraint.clone()];
        constraints.rows.extend(arm.constraints.iter().map(row));
    }
    let said = outcome.reading().into_iter().map(Block::Text).collect();
    Document {
        title: "Constraints compared".to_owned(),
        about: show::heading(outcome),
        sections: vec![
            Section::open("What the numbers say", said),
            Section::open("", vec![Block::Plots(plots)]),
            Section::open(
                "Measures",
                vec![
                    Block::Table(table),
                    Block::Text("A star marks a difference whose interval leaves out 0.".to_owned()),
                ],
            ),
            Section::closed("Constraints, with the numbers fitted", vec![Block::Table(constraints)]),
        ],
    }
}

/// The measure of every arm, with its interval, from above to below.
fn plot(outcome: &Outcome, at: usize, measure: &Measure) -> Plot {
    let names = outcome.arms.iter().rev().map(|arm| arm.label.clone()).collect();
    let marks = outcome.arms.iter().rev().enumerate().filter_map(|(place, arm)| {
        let mean = arm.means[at]?;
        let (low, high) = mean.interval.unwrap_or((mean.value, mean.value));
        Some((mean.value, place as f64, low, high))
    });
    let x = match measure.name {
        "accuracy" | "beyond_bound" => Axis::shares(""),
        _ => Axis::new(""),
    };
    let mut layers = Vec::new();
    if let Some(first) = outcome.arms.first().and_then(|arm| arm.means[at]) {
        layers.push(Layer::unnamed(Ink::Grey, Mark::Upright(first.value)));
    }
    layers.push(Layer::unnamed(Ink::Blue, Mark::Lying(marks.collect())));
    let better = match measure.better {
        Better::More => "more is better",
        Better::Less | Better::Neither => "less is better",
    };
    let (title, about) = (format!("{} ({better})", measure.heading), String::new());
    Plot { title, about, x, y: Axis::of_names(names), layers }
}
