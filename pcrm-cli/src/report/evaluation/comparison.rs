//! Models on the same pairs: side by side, and tests of whether they differ.

use anyhow::Result;
use pcrm_eval::RewardReport;
use pcrm_eval::bootstrap::Difference;
use pcrm_eval::compare::ModelComparison;
use pcrm_eval::measure::Measure;
use pcrm_eval::table::{Signed, p_value};

use super::plots;
use super::values::{correlation, difference_of, value_of};
use crate::report::document::{Block, Section, Severity, Table};
use crate::report::number::count;

/// Returns the comparisons of the first model with each other model; empty for a single model.
///
/// # Errors
/// Fails if a plot fails.
pub fn sections(models: &[(&str, &RewardReport)]) -> Result<Vec<Section>> {
    let Some(((first, report), others)) = models.split_first() else { return Ok(Vec::new()) };
    let mut sections = Vec::new();
    for ((second, other), compared) in others.iter().zip(report.comparisons()) {
        let comparison = &compared.comparison;
        let findings = comparison.findings(first, second);
        let findings = findings.into_iter().map(|found| Block::Note(Severity::Info, found));
        let mut blocks: Vec<Block> = findings.collect();
        blocks.extend(other.findings().into_iter().map(|found| {
            // The page's first notes are about the first model.
            Block::Note(Severity::Warning, format!("{second}: {found}"))
        }));
        if sections.is_empty() {
            blocks.push(Block::Plots(vec![plots::reliability(models)?, plots::margins_beside(models)]));
        }
        blocks.extend(
            [differences(first, second, comparison), test(first, second, comparison), scores(comparison)]
                .map(Block::Table),
        );
        let title = match others.len() {
            1 => "Comparison".to_owned(),
            _ => format!("Comparison with {second}"),
        };
        sections.push(Section::open(title, blocks));
    }
    Ok(sections)
}

fn differences(first: &str, second: &str, comparison: &ModelComparison) -> Table {
    let drawn = comparison.differences.values().any(|difference| difference.p.is_some());
    let caption = match drawn {
        true => format!(
            "Measures side by side. Intervals (95 %) and p-values: paired bootstrap over {} prompts; \
             differences of accuracy in points",
            count(comparison.prompts as u64)
        ),
        false => "Measures side by side; differences of accuracy in points".to_owned(),
    };
    let mut columns = vec!["", first, second, "right − left"];
    if drawn {
        columns.extend(["interval", "p"]);
    }
    let mut table = Table::of_numbers(caption, &columns);
    let mut add = |name: &str, of: &Difference, value: &dyn Fn(f64) -> String, shown: Signed| {
        let mut row = vec![name.to_owned(), value(of.first), value(of.second), shown.value];
        if drawn {
            let none = || "–".to_owned();
            row.extend([shown.interval.unwrap_or_else(none), of.p.map_or_else(none, p_value)]);
        }
        table.rows.push(row);
    };
    for (measure, of) in &comparison.differences {
        let value = |value| value_of(*measure, value);
        add(measure.name(), of, &value, difference_of(*measure, &of.difference));
    }
    for (measure, of) in &comparison.scaled {
        let value = |value| value_of(*measure, value);
        let name = format!("{} after a temperature", measure.name());
        add(&name, of, &value, difference_of(*measure, &of.difference));
    }
    let human = comparison.human;
    for (name, of) in [
        ("human scores, Spearman's ρ", human.and_then(|human| human.pooled_spearman)),
        ("within prompts", human.and_then(|human| human.per_prompt_spearman)),
    ] {
        if let Some(of) = of {
            let shown = difference_of(Measure::MeanMargin, &of.difference);
            add(name, &of, &|value| correlation(Some(value)), shown);
        }
    }
    table
}

fn test(first: &str, second: &str, comparison: &ModelComparison) -> Table {
    let mcnemar = &comparison.mcnemar;
    let (only_first, only_second) = (format!("only {first}"), format!("only {second}"));
    let mut table = Table::of_numbers(
        "McNemar's exact test: pairs are treated as independent; ties count as wrong",
        &["pairs ordered as labelled by", "both", &only_first, &only_second, "neither", "p"],
    );
    let counts = [mcnemar.both, mcnemar.only_first, mcnemar.only_second, mcnemar.neither];
    let name = format!("of {} pairs", count(comparison.pairs as u64));
    let cells = counts.map(|number| count(number as u64)).into_iter().chain([p_value(mcnemar.p)]);
    table.rows.push([name].into_iter().chain(cells).collect());
    table
}

fn scores(comparison: &ModelComparison) -> Table {
    let mut table = Table::of_numbers(
        "Correlation of both models' scores of the same answers",
        &["", "Pearson's r", "Spearman's ρ", "Kendall's τ-b"],
    );
    let name = format!("{} answers", count(2 * comparison.pairs as u64));
    let values = [comparison.pearson, comparison.spearman, comparison.kendall].map(correlation);
    table.rows.push([name].into_iter().chain(values).collect());
    table
}
