//! The report of an evaluation: measures, findings, plots and tables.

mod benchmarks;
mod comparison;
mod people;
mod plots;
mod ratings;
mod slices;
mod tables;
mod values;
mod whiskers;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use pcrm_eval::measure::Measure;
use pcrm_eval::table::percents;
use pcrm_eval::{PairScore, RewardReport};
use serde_json::Value;

use self::values::{end, ends_of};
use super::data::{self, Source};
use super::document::{Block, Document, Fact, Section, Severity};
use super::number::{count, number, percent};
use super::run::constraint;

pub use plots::{margins_beside, reliability};
pub use ratings::{Ratings, ratings};

/// The longest name of a model in legends and table headings, in characters.
const NAME: usize = 40;

/// An evaluation.
#[derive(Debug, Clone, Copy)]
pub struct EvaluationPage<'a> {
    /// The name of the model.
    pub model: &'a str,
    /// The names of the models it is compared with.
    pub others: &'a [String],
    /// The file of scores, if they were not computed by a model.
    pub scores: Option<&'a Path>,
    /// The constraint whose bounds margins are compared with.
    pub constraint: Option<&'a Value>,
    /// The measures.
    pub report: &'a RewardReport,
    /// The scored pairs.
    pub pairs: &'a [PairScore],
    /// Warnings about the data, such as rows left out.
    pub warnings: &'a [String],
    /// The data that were read.
    pub sources: &'a [Source],
}

/// Returns the report of an evaluation.
///
/// # Errors
/// Fails if a measure fails.
pub fn document(evaluation: &EvaluationPage<'_>) -> Result<Document> {
    let EvaluationPage { report, pairs, .. } = *evaluation;
    let names = names(evaluation);
    let reports = std::iter::once(report).chain(report.comparisons().map(|other| &other.report));
    let models: Vec<(&str, &RewardReport)> = names.iter().map(String::as_str).zip(reports).collect();
    let mut summary = vec![Block::Figures(figures(report))];
    summary.extend(evaluation.warnings.iter().map(|text| Block::Note(Severity::Warning, text.clone())));
    summary.extend(report.findings().into_iter().map(|text| Block::Note(Severity::Warning, text)));
    let mut sections =
        vec![Section::open("", summary), Section::open("", vec![Block::Facts(facts(evaluation))])];
    sections.extend(comparison::sections(&models)?);
    sections.extend(benchmarks::sections(report));
    sections.extend(people::sections(report));
    sections.push(Section::open("Plots", vec![Block::Plots(drawn(evaluation)?)]));
    sections.extend(slices::sections(&models));
    let mut shown = Vec::from_iter(tables::measures(report));
    if report.longer_preferred.is_some() {
        shown.push(tables::groups(pairs)?);
    }
    shown.extend([tables::spreads(report), tables::bins(report)?]);
    sections.push(Section::open("Tables", shown.into_iter().map(Block::Table).collect()));
    if !evaluation.sources.is_empty() {
        sections.push(Section::open("Data", data::blocks(evaluation.sources)));
    }
    Ok(Document { title: title(evaluation), about: about(evaluation), sections })
}

fn title(evaluation: &EvaluationPage<'_>) -> String {
    match evaluation.others.iter().any(|other| other != evaluation.model) {
        true => format!("Evaluation of {} beside {}", evaluation.model, evaluation.others.join(", ")),
        false => format!("Evaluation of {}", evaluation.model),
    }
}

fn about(evaluation: &EvaluationPage<'_>) -> String {
    let read = evaluation.sources.iter().flat_map(|source| &source.read.files).map(|file| &*file.file);
    let files: Vec<String> = read.chain(evaluation.scores).map(|file| file.display().to_string()).collect();
    match files.is_empty() {
        true => format!("{} preference pairs.", count(evaluation.report.pairs as u64)),
        false => {
            format!("{} preference pairs from {}.", count(evaluation.report.pairs as u64), files.join(", "))
        }
    }
}

/// Returns the models' names for legends, short and distinct.
fn names(evaluation: &EvaluationPage<'_>) -> Vec<String> {
    if evaluation.report.compared.is_none() {
        return vec!["the model".to_owned()];
    }
    let full = std::iter::once(evaluation.model).chain(evaluation.others.iter().map(String::as_str));
    let names: Vec<String> = full.map(|name| end(name, NAME)).collect();
    let different: BTreeSet<&String> = names.iter().filter(|name| !name.is_empty()).collect();
    match different.len() == names.len() {
        true => names,
        false => (1..=names.len()).map(|at| format!("model {at}")).collect(),
    }
}

fn facts(evaluation: &EvaluationPage<'_>) -> Vec<Fact> {
    let mut facts = vec![Fact::new("Model", evaluation.model)];
    if !evaluation.others.is_empty() {
        facts.push(Fact::new("Compared with", evaluation.others.join(", ")));
    }
    facts.extend(
        evaluation.constraint.map(|tagged| Fact::new("Bounds by the constraint", constraint(tagged))),
    );
    facts.push(Fact::new("Prompts", count(evaluation.report.prompts as u64)));
    if evaluation.report.ties > 0 {
        facts.push(Fact::new("Pairs with equal scores", count(evaluation.report.ties as u64)).with_note(
            format!("accuracy {} if they count as wrong", percent(evaluation.report.strict_accuracy)),
        ));
    }
    facts
}

fn drawn(evaluation: &EvaluationPage<'_>) -> Result<Vec<super::plot::Plot>> {
    let report = evaluation.report;
    let mut drawn = vec![reliability(&[("the model", report)])?, plots::margins(report)];
    drawn.extend(plots::scores(report));
    drawn.extend(plots::score_and_length(report, evaluation.pairs)?);
    Ok(drawn)
}

fn figures(report: &RewardReport) -> Vec<Fact> {
    let accuracy = report.accuracy;
    let mut figures = benchmarks::figures(report);
    figures.extend([
        Fact::new("Accuracy", percent(accuracy.value)).with_note(format!(
            "95 %: {}, {} pairs",
            percents(&report.accuracy_interval()),
            count(report.pairs as u64)
        )),
        Fact::new("Calibration error", number(report.ece)).with_note(drawn_around(
            report,
            Measure::Ece,
            "ECE, 15 bins; 0 is calibrated",
        )),
        Fact::new("Brier score", number(report.brier)).with_note(drawn_around(
            report,
            Measure::Brier,
            "guessing has 0.25",
        )),
        Fact::new("Log loss", number(report.log_loss)).with_note(drawn_around(
            report,
            Measure::LogLoss,
            "nats per pair; guessing has 0.693",
        )),
        Fact::new("Mean margin", number(report.margins.mean))
            .with_note(format!("± {} (std)", number(report.margins.std))),
    ]);
    if let Some(scaled) = report.scaled {
        let interval = scaled
            .log_loss
            .interval
            .map_or_else(String::new, |interval| format!("95 %: {}; ", ends_of(Measure::LogLoss, &interval)));
        figures.push(Fact::new("Log loss, scaled", number(scaled.log_loss.value)).with_note(format!(
            "{interval}with a temperature fitted on other prompts (on all: {}); measures order, not scale",
            number(scaled.temperature)
        )));
    }
    if let Some(rank) = report.length.spearman {
        figures.push(
            Fact::new("Score with length", number(rank)).with_note("Spearman's ρ; 0 means no length bias"),
        );
    }
    if let Some(longer) = report.longer_preferred {
        figures.push(
            Fact::new("Longer answer wins", percent(longer.by_model))
                .with_note(format!("by the labels: {}", percent(longer.by_labels))),
        );
    }
    if let Some(bounds) = report.bounds {
        figures.push(
            Fact::new("Beyond the bound", percent(bounds.beyond))
                .with_note(format!("mean Δ* {}", number(bounds.mean))),
        );
    }
    figures
}

/// Returns a note after the bootstrap interval, if there is one.
fn drawn_around(report: &RewardReport, measure: Measure, note: &str) -> String {
    match report.intervals.get(&measure).and_then(|estimate| estimate.interval) {
        Some(interval) => format!("95 %: {}; {note}", ends_of(measure, &interval)),
        None => note.to_owned(),
    }
}
