//! Reports on rated answers as terminal tables.

use super::details::Differences;
use super::figures::number;
use super::{BESIDE, Row, add, align, named, new_table, paragraph, push, range, spread};
use crate::bootstrap::Estimate;
use crate::ratings::{ComparedRatings, RatingsReport};

impl RatingsReport {
    /// Returns the report as terminal tables, followed by its findings; lines end in `\n`, no colours. `names` are the
    /// models' names, this report's first; with one model they are not shown.
    pub fn table(&self, names: &[&str]) -> String {
        let others: Vec<&ComparedRatings> = self.comparisons().collect();
        let reports = std::iter::once(self).chain(others.iter().map(|other| &other.report));
        let names: Vec<String> = match others.is_empty() {
            true => vec![String::new()],
            false => (0..=others.len()).map(|at| named(names, at)).collect(),
        };
        let columns: Vec<(&str, &Self)> = names.iter().map(String::as_str).zip(reports).collect();
        let mut text = String::new();
        for columns in columns.chunks(BESIDE) {
            let mut header = vec![""];
            header.extend(columns.iter().map(|(name, _)| *name));
            let mut table = new_table(&header);
            for (label, value) in rows() {
                add(&mut table, label, columns, value);
            }
            push(&mut text, [align(table)]);
        }
        for (at, other) in others.iter().enumerate() {
            if let Some(human) = &other.comparison.human {
                let drawn = human.pooled_spearman.is_some_and(|difference| difference.p.is_some());
                let mut differences = Differences::new(&names[0], &names[at + 1], drawn);
                differences.add_human(human);
                push(&mut text, [align(differences.table)]);
            }
        }
        for found in self.findings() {
            text.push_str(&paragraph(&found));
        }
        text
    }
}

fn rows() -> Vec<Row<RatingsReport>> {
    vec![
        ("rated answers", |report| Some(report.human.answers.to_string())),
        ("prompts", |report| Some(report.prompts.to_string())),
        ("human scores: r", |report| value(report.human.pooled.pearson)),
        ("  95 % interval", |report| ends(report.human.pooled.pearson)),
        ("  Spearman", |report| value(report.human.pooled.spearman)),
        ("  95 % interval", |report| ends(report.human.pooled.spearman)),
        ("  Kendall", |report| value(report.human.pooled.kendall)),
        ("  95 % interval", |report| ends(report.human.pooled.kendall)),
        ("score mean ± std", |report| Some(spread(&report.scores))),
        ("  range", |report| Some(range(report.scores.min, report.scores.max))),
        ("score and length: r", |report| report.length?.pearson.map(number)),
        ("  Spearman", |report| report.length?.spearman.map(number)),
    ]
}

fn value(estimate: Option<Estimate>) -> Option<String> {
    estimate.map(|estimate| number(estimate.value))
}

fn ends(estimate: Option<Estimate>) -> Option<String> {
    let interval = estimate?.interval?;
    Some(format!("{:.3} to {:.3}", interval.low(), interval.high()).replace('-', "−"))
}
