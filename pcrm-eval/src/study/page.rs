//! The report of a study as a document: findings first, then the question, curves, tables and samples.

mod details;

use std::collections::BTreeSet;

use self::details::{samples, settings, strengths, worlds};
use super::curve::{PolicyPoint, at_kl};
use super::learned::learned;
use super::outcome::{StudyOutcome, TOGETHER};
use super::results::Results;
use super::show::{difference, heading, mean, short};
use crate::interval::FEWEST_REPLICATES;
use crate::report::document::{Block, Document, Section, Severity, Table};
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot, SERIES, Whisker};

/// Number of arms in one plot of curves, besides the baseline.
const TOGETHER_IN_A_PLOT: usize = 4;
/// Number of KL divergences where curves are averaged.
const PLACES: usize = 24;

/// Builds the report.
pub fn document(results: &Results, outcome: &StudyOutcome) -> Document {
    let recipe = &results.recipe;
    let state = match results.done == results.runs {
        true => format!("{} runs", results.runs),
        false => format!("{} of {} runs are done: the study is incomplete", results.done, results.runs),
    };
    let size = if results.quick { "the quick sizes" } else { "the full sizes" };
    let seeds = if results.seeds == 1 { "one seed".to_owned() } else { format!("{} seeds", results.seeds) };
    let mut sections =
        vec![Section::open("Findings", learned(results, outcome).into_iter().map(Block::Text).collect())];
    sections.push(differences(results, outcome));
    sections.push(asked(results));
    sections.extend(strengths(results, outcome));
    sections.extend(courses(results, outcome));
    sections.extend(outcome.worlds.iter().rev().map(|world| tables(results, outcome, world)));
    sections.push(worlds(results));
    sections.extend(samples(results));
    sections.push(settings(results));
    Document {
        title: recipe.title.clone(),
        about: format!("{state}, {seeds}, {size}"),
        sections: sections.into_iter().filter(|section| !section.blocks.is_empty()).collect(),
    }
}

/// Returns the section on the question, the hypotheses and the primary figure, all written before any run.
fn asked(results: &Results) -> Section {
    let recipe = &results.recipe;
    let mut blocks = vec![Block::Text(recipe.question.clone())];
    let expected = recipe.hypotheses.iter().enumerate();
    blocks.extend(expected.map(|(at, said)| Block::Text(format!("Hypothesis {}: {said}", at + 1))));
    blocks.push(Block::Text(format!("Primary figure: {}", recipe.primary.words)));
    for (arm, why) in &results.left_out {
        blocks.push(Block::Note(Severity::Warning, format!("{arm} is left out: {why}")));
    }
    blocks.extend(recipe.missing.iter().map(|said| Block::Note(Severity::Info, format!("Left out: {said}"))));
    for (run, why) in &results.failed {
        blocks.push(Block::Note(Severity::Error, format!("{run} failed: {why}")));
    }
    Section::open("Question and hypotheses, written before the runs", blocks)
}

/// Returns the section on the difference of every arm from the baseline in the primary figure.
fn differences(results: &Results, outcome: &StudyOutcome) -> Section {
    let recipe = &results.recipe;
    let plot = |world: &String| {
        let by_arm = outcome.figures.get(world)?.get(&recipe.primary.figure)?;
        let arms: Vec<&String> = outcome.arms.iter().rev().filter(|arm| **arm != outcome.baseline).collect();
        let marks = arms.iter().enumerate().filter_map(|(at, arm)| {
            let mean = by_arm.get(*arm)?.difference?;
            Some(Whisker::new((mean.value, at as f64), mean.interval))
        });
        let marks: Vec<Whisker> = marks.collect();
        let better = if recipe.primary.lower_is_better { "lower is better" } else { "higher is better" };
        let figure = heading(recipe, &recipe.primary.figure);
        let marker = match results.seeds as usize >= FEWEST_REPLICATES {
            true => "mean difference, 95 % interval over seeds",
            false => "mean difference",
        };
        (!marks.is_empty()).then(|| Plot {
            title: format!("{world}: minus {} ({better})", outcome.baseline),
            about: figure,
            x: Axis::new("").spanning(0.1),
            y: Axis::of_names(arms.into_iter().cloned().collect()),
            layers: vec![
                Layer::new(outcome.baseline.clone(), Ink::Grey, Mark::Upright(0.0)),
                Layer::new(marker, Ink::Blue, Mark::Lying(marks)),
            ],
        })
    };
    let plots: Vec<Plot> = outcome.worlds.iter().rev().filter_map(plot).collect();
    let blocks = if plots.is_empty() { Vec::new() } else { vec![Block::Plots(plots)] };
    Section::open("The primary figure", blocks)
}

/// Returns the sections on true reward against KL divergence, averaged over the seeds that reach it.
fn courses(results: &Results, outcome: &StudyOutcome) -> Vec<Section> {
    let recipe = &results.recipe;
    let mut sections = Vec::new();
    for follow in recipe.follow.iter().filter(|follow| !follow.kl.is_empty()) {
        let furthest = follow.kl.iter().copied().fold(0.0, f64::max) * 1.5;
        let mut plots = Vec::new();
        for world in
            outcome.worlds.iter().rev().filter(|world| *world != TOGETHER || outcome.worlds.len() == 1)
        {
            let line = |arm: &str| -> Vec<(f64, f64)> {
                let cells = results.cells.iter().filter(|cell| cell.arm == arm && cell.world == *world);
                let all: Vec<&Vec<PolicyPoint>> =
                    cells.filter_map(|cell| cell.courses.get(&follow.name)).collect();
                let at = |place: usize| {
                    let kl = furthest * place as f64 / PLACES as f64;
                    let there: Vec<f64> =
                        all.iter().filter_map(|points| at_kl(points, kl, |point| point.truth)).collect();
                    // A mean over fewer and fewer seeds would bend with the selection of the remaining ones.
                    (2 * there.len() > all.len())
                        .then(|| (kl, there.iter().sum::<f64>() / there.len() as f64))
                };
                (0..=PLACES).filter_map(at).collect()
            };
            let base = line(&outcome.baseline);
            let others: Vec<&String> = outcome.arms.iter().filter(|arm| **arm != outcome.baseline).collect();
            for arms in others.chunks(TOGETHER_IN_A_PLOT) {
                let mut layers =
                    vec![Layer::new(outcome.baseline.clone(), Ink::Grey, Mark::Dashes(base.clone()))];
                layers.extend(
                    arms.iter()
                        .zip(SERIES)
                        .map(|(arm, ink)| Layer::new((*arm).clone(), ink, Mark::Line(line(arm)))),
                );
                if layers.iter().any(|layer| matches!(&layer.mark, Mark::Line(points) if !points.is_empty()))
                {
                    plots.push(Plot {
                        title: format!("{world}, {}: true reward", follow.name),
                        about: "Mean over the seeds that reach this KL, as long as most do.".to_owned(),
                        x: Axis::new("KL divergence from the initial policy, nats an answer")
                            .within(0.0, furthest),
                        y: Axis::new("").spanning(0.2),
                        layers,
                    });
                }
            }
        }
        if !plots.is_empty() {
            sections.push(Section::open(
                format!("How far {} can be pushed", follow.name),
                vec![Block::Plots(plots)],
            ));
        }
    }
    sections
}

/// Returns the section with the tables of a world: means, and differences from the baseline, for models and
/// for each follow-up.
fn tables(results: &Results, outcome: &StudyOutcome, world: &str) -> Section {
    let recipe = &results.recipe;
    let names: BTreeSet<&String> =
        outcome.figures.get(world).into_iter().flat_map(|figures| figures.keys()).collect();
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    let known = super::measures::NAMES
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .chain(["truth", "win_rate"].map(str::to_owned));
    groups.push(("models".to_owned(), known.filter(|name| names.contains(name)).collect()));
    for follow in &recipe.follow {
        let of = |name: &&&String| name.split_once('/').is_some_and(|(own, _)| own == follow.name);
        let mut own: Vec<String> = names.iter().filter(of).map(|name| (**name).clone()).collect();
        own.sort_by(|a, b| order(a).total_cmp(&order(b)));
        groups.push((follow.name.clone(), own));
    }
    let mut blocks = Vec::new();
    for (group, figures) in groups.iter().filter(|(_, figures)| !figures.is_empty()) {
        let headings: Vec<String> = figures
            .iter()
            .map(|figure| {
                figure
                    .split_once('/')
                    .map_or_else(|| heading(recipe, figure), |(follow, rest)| short(recipe, follow, rest))
            })
            .collect();
        let mut columns = vec![""];
        columns.extend(headings.iter().map(String::as_str));
        let mut means = Table::of_numbers(format!("{world}, {group}: means over seeds"), &columns);
        let base = &outcome.baseline;
        let mut apart = Table::of_numbers(format!("{world}, {group}: minus {base}, seed by seed"), &columns);
        for arm in &outcome.arms {
            let cells = |of: &dyn Fn(&super::outcome::Found) -> Option<String>| -> Vec<String> {
                let cell = |figure: &String| {
                    outcome.found(world, figure, arm).and_then(of).unwrap_or_else(|| "–".to_owned())
                };
                figures.iter().map(cell).collect()
            };
            let own = cells(&|found| Some(mean(found)));
            if own.iter().all(|cell| cell == "–") {
                continue;
            }
            means.rows.push([vec![arm.clone()], own].concat());
            if arm != base {
                let own = cells(&|found| found.difference.as_ref().map(difference));
                apart.rows.push([vec![arm.clone()], own].concat());
            }
        }
        blocks.push(Block::Table(means));
        if !apart.rows.is_empty() {
            blocks.push(Block::Table(apart));
        }
    }
    if !blocks.is_empty() && results.seeds as usize >= FEWEST_REPLICATES {
        blocks.push(Block::Text(
            "A star marks a difference whose 95 % interval excludes 0; about one in twenty chance \
             differences has a star."
                .to_owned(),
        ));
    }
    match outcome.main_world() == Some(world) {
        true => Section::open(format!("Tables: {world}"), blocks),
        false => Section::closed(format!("Tables: {world}"), blocks),
    }
}

/// Returns the sort key of a figure: figures at KL divergences in their order, then those at the end.
fn order(figure: &str) -> f64 {
    let at = figure.split_once('@').and_then(|(_, at)| at.parse::<f64>().ok());
    at.unwrap_or_else(|| match figure.rsplit('/').next() {
        Some("truth") => 1e9,
        Some("proxy") => 2e9,
        Some("kl") => 3e9,
        _ => 4e9,
    })
}
