//! An explanation as a page: a section for the constraint and for each of its parts.

use pcrm_core::constraint::Effect;
use pcrm_core::data::survey::bounds::sureness;

use super::explain::{LEAST, table};
use super::explanation::{BoundForm, Explanation};
use crate::report::document::{Block, Document, Section, Table};
use crate::report::number;
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot};

/// Returns the page of an explanation.
pub fn document(explanation: &Explanation) -> Document {
    let mut sections = Vec::new();
    explain(explanation, "", &mut sections);
    Document {
        title: format!("Constraint {}", explanation.kind()),
        about: explanation.about.to_owned(),
        sections,
    }
}

fn explain(explanation: &Explanation, title: &str, sections: &mut Vec<Section>) {
    let mut blocks: Vec<Block> =
        explanation.formula.map(|formula| Block::Text(formula.to_owned())).into_iter().collect();
    let plots = plots(explanation);
    if !plots.is_empty() {
        blocks.push(Block::Plots(plots));
    }
    match explanation.form() {
        BoundForm::Curve => {
            let mut rows = table(explanation).into_iter();
            let names = rows.next().unwrap_or_default();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            blocks.push(Block::Table(Table { rows: rows.collect(), ..Table::of_numbers(LEAST, &names) }));
        }
        BoundForm::Constant(bound) => {
            blocks.push(Block::Text(format!("Δ* = {} for every pair. {LEAST}", number(bound))));
        }
        BoundForm::None => blocks.push(Block::Text("No margin is bounded: Bradley-Terry.".to_owned())),
        BoundForm::Other => {}
    }
    if !explanation.parameters.is_empty() {
        let mut parameters = Table::of_text("", &["parameter", "value", "meaning"]);
        parameters.rows = explanation
            .parameters
            .iter()
            .map(|of| {
                let value = of.shown().unwrap_or_else(|| "–".to_owned());
                vec![of.name.clone(), value, of.meaning.to_owned()]
            })
            .collect();
        blocks.push(Block::Table(parameters));
    }
    blocks.extend(explanation.evidence.iter().map(|evidence| Block::Text(format!("Fitted to {evidence}."))));
    sections.push(Section::open(title, blocks));
    for (at, part) in explanation.parts.iter().enumerate() {
        let above = if title.is_empty() { String::new() } else { format!("{title}: ") };
        explain(part, &format!("{above}part {at}, {}", part.kind()), sections);
    }
}

fn plots(explanation: &Explanation) -> Vec<Plot> {
    let mut plots = Vec::new();
    let line = |points| vec![Layer::unnamed(Ink::Blue, Mark::Line(points))];
    if explanation.form() == BoundForm::Curve {
        let (curve, beyond) = explanation.visible_curve();
        let highest = curve.iter().map(|(_, bound)| *bound).fold(0.0, f64::max);
        let y = Axis::new("bound of the margin, Δ*");
        plots.push(Plot {
            title: "Δ* over s".into(),
            about: beyond.map_or(String::new(), |most| {
                format!("Where there is no line, Δ* is above {}.", number(most))
            }),
            x: Axis::new("similarity s of the answers").within(0.0, 1.0),
            y: if beyond.is_some() { y.within(0.0, highest) } else { y.spanning(1.0) },
            layers: line(curve),
        });
        plots.push(Plot {
            title: "P = σ(Δ*/2) over s".into(),
            about: "The confidence in a pair's label at which its loss is smallest.".into(),
            x: Axis::new("similarity s of the answers").within(0.0, 1.0),
            y: Axis::shares("P").within(0.5, 1.0),
            layers: line(explanation.curve.iter().map(|(s, bound)| (*s, sureness(*bound))).collect()),
        });
    }
    if !explanation.course.is_empty() {
        plots.push(Plot {
            title: "Factor over training".into(),
            about: "Bounds are multiplied by the factor, which ends at 1.".into(),
            x: Axis::shares("share of completed steps").within(0.0, 1.0),
            y: Axis::new("factor"),
            layers: line(explanation.course.clone()),
        });
    }
    // A common scale makes effects comparable.
    let points = explanation.effects.iter().flat_map(|effect| &effect.points);
    let highest = points.map(|(_, bound)| *bound).fold(0.0, f64::max);
    let effect = |effect: &Effect| Plot {
        title: format!("Δ* over {}", effect.feature),
        about: "From the feature's 1st to its 99th percentile, with all others at their means. All features \
                share a scale."
            .into(),
        x: Axis::new(effect.feature.clone()),
        y: Axis::new("Δ*").within(0.0, highest),
        layers: line(effect.points.clone()),
    };
    plots.extend(explanation.effects.iter().map(effect));
    plots
}
