//! The report of an evaluation on rated answers that form no pairs.

use pcrm_eval::RatingsReport;
use pcrm_eval::bootstrap::Estimate;
use pcrm_eval::table::{Signed, p_value};

use super::people;
use super::values::correlation;
use crate::report::document::{Block, Document, Fact, Section, Severity, Table};
use crate::report::number::{count, number};

/// An evaluation on rated answers.
#[derive(Debug, Clone, Copy)]
pub struct Ratings<'a> {
    /// The names of the models, the first being that of the report.
    pub models: &'a [&'a str],
    /// The measures.
    pub report: &'a RatingsReport,
    /// Warnings about the data, such as rows left out.
    pub warnings: &'a [String],
}

/// Returns the report of an evaluation on rated answers.
pub fn ratings(evaluation: &Ratings<'_>) -> Document {
    let Ratings { models, report, warnings } = *evaluation;
    let mut summary = vec![Block::Figures(figures(report))];
    let found = warnings.iter().cloned().chain(report.findings());
    summary.extend(found.map(|text| Block::Note(Severity::Warning, text)));
    let mut sections = vec![Section::open("", summary)];
    let others = report.comparisons().map(|other| &other.report);
    for (model, report) in models.iter().zip(std::iter::once(report).chain(others)) {
        let title = match models.len() {
            1 => "Human scores".to_owned(),
            _ => format!("Human scores and {model}"),
        };
        sections.push(Section { title, ..people::human(&report.human) });
    }
    sections.extend(comparison(evaluation));
    Document {
        title: format!("Evaluation of {}", models.join(" beside ")),
        about: format!("{} answers with human scores.", count(report.human.answers as u64)),
        sections,
    }
}

fn figures(report: &RatingsReport) -> Vec<Fact> {
    let pooled = &report.human.pooled;
    let figure = |name: &str, estimate: Option<Estimate>| {
        let fact = Fact::new(name, correlation(estimate.map(|estimate| estimate.value)));
        match estimate.and_then(|estimate| estimate.interval) {
            Some(ends) => {
                let ends = format!("{:.3} to {:.3}", ends.low(), ends.high()).replace('-', "−");
                fact.with_note(format!("95 %: {ends}, bootstrap over prompts"))
            }
            None => fact,
        }
    };
    let mut figures = vec![
        figure("Spearman's ρ with human scores", pooled.spearman),
        figure("Pearson's r", pooled.pearson),
        figure("Kendall's τ-b", pooled.kendall),
        Fact::new("Mean score", number(report.scores.mean))
            .with_note(format!("± {} (std)", number(report.scores.std))),
        Fact::new("Prompts", count(report.prompts as u64)),
    ];
    if let Some(rank) = report.length.and_then(|length| length.spearman) {
        figures.push(
            Fact::new("Score with length", number(rank)).with_note("Spearman's ρ; 0 means no length bias"),
        );
    }
    figures
}

/// Returns the differences from the other models; `None` for a single model.
fn comparison(evaluation: &Ratings<'_>) -> Option<Section> {
    let Ratings { models, report, .. } = *evaluation;
    let mut table = Table::of_numbers(
        "Spearman's ρ over all answers. Intervals (95 %) and p-values: paired bootstrap over prompts",
        &["model", "first", "this one", "difference", "interval", "p"],
    );
    for (model, other) in models.iter().skip(1).zip(report.comparisons()) {
        let Some(of) = other.comparison.human.and_then(|human| human.pooled_spearman) else { continue };
        let Signed { value, interval } = Signed::of(&of.difference, 1.0, 3);
        let none = || "–".to_owned();
        let (first, second) = (correlation(Some(of.first)), correlation(Some(of.second)));
        let (interval, p) = (interval.unwrap_or_else(none), of.p.map_or_else(none, p_value));
        table.rows.push(vec![(*model).to_owned(), first, second, value, interval, p]);
    }
    (!table.rows.is_empty()).then(|| Section::open("Comparison", vec![Block::Table(table)]))
}
