//! Agreement of scores with people: human scores, true rewards, best of n.

use pcrm_eval::RewardReport;
use pcrm_eval::answers::BestOfN;
use pcrm_eval::bootstrap::Estimate;
use pcrm_eval::human::{Correlations, HumanAgreement};
use pcrm_eval::reward::TrueReward;
use pcrm_eval::table::percents;

use super::values::correlation;
use super::whiskers::{self, WhiskerRow};
use crate::report::document::{Block, Fact, Section, Table};
use crate::report::number::{count, number, percent};
use crate::report::plot::{Axis, Plot};

/// Returns the sections that the report has data for.
pub fn sections(report: &RewardReport) -> Vec<Section> {
    let sections = [
        report.human.as_ref().map(human),
        report.best_of_n.as_ref().map(best_of_n),
        report.true_reward.as_ref().map(true_reward),
    ];
    sections.into_iter().flatten().collect()
}

fn rows(of: &Correlations) -> [(&'static str, Option<Estimate>); 3] {
    [("Pearson's r", of.pearson), ("Spearman's ρ", of.spearman), ("Kendall's τ-b", of.kendall)]
}

/// Returns the section on human scores.
pub fn human(human: &HumanAgreement) -> Section {
    let estimates = rows(&human.pooled).into_iter().chain(rows(&human.per_prompt));
    let drawn = estimates.filter_map(|(_, estimate)| estimate?.interval).next().is_some();
    let mut table = Table::of_numbers(
        format!(
            "{} answers to {} prompts. Within prompts: the mean over the {} on which neither side is \
             constant{}",
            count(human.answers as u64),
            count(human.prompts as u64),
            count(human.prompts_used as u64),
            if drawn { ". Intervals: 95 %, by the bootstrap over prompts" } else { "" },
        ),
        &["correlation", "all answers", "interval", "within prompts", "interval"],
    );
    let ends = |estimate: Option<Estimate>| match estimate.and_then(|estimate| estimate.interval) {
        Some(interval) => format!("{:.3} to {:.3}", interval.low(), interval.high()).replace('-', "−"),
        None => "–".to_owned(),
    };
    let value = |estimate: Option<Estimate>| correlation(estimate.map(|estimate| estimate.value));
    let mut whiskers = Vec::new();
    for ((name, pooled), (_, within)) in rows(&human.pooled).into_iter().zip(rows(&human.per_prompt)) {
        table.rows.push(vec![name.to_owned(), value(pooled), ends(pooled), value(within), ends(within)]);
        let values =
            [pooled, within].map(|estimate| estimate.map(|estimate| (estimate.value, estimate.interval)));
        whiskers.push(WhiskerRow { name: name.to_owned(), values: values.into() });
    }
    let series = ["over all answers", "within prompts"];
    let plot = Plot {
        about: "Within prompts: agreement on the order of the answers to one prompt.".into(),
        ..whiskers::plot(
            "Agreement with human scores",
            Axis::new("correlation"),
            &series,
            &whiskers,
            0.0,
            "none",
        )
    };
    Section::open("Human scores", vec![Block::Plots(vec![plot]), Block::Table(table)])
}

fn best_of_n(best: &BestOfN) -> Section {
    let mut figures = vec![
        Fact::new("Best answer found", percent(best.accuracy.value))
            .with_note(format!("95 %: {}", percents(&best.accuracy.interval))),
        Fact::new("By chance", percent(best.chance)).with_note("an answer drawn at random"),
        Fact::new("Prompts", count(best.prompts as u64))
            .with_note(format!("{} answers each on average", number(best.answers))),
    ];
    if let Some(worth) = best.worth {
        figures.push(Fact::new("Human score of the picked answer", number(worth.picked)).with_note(format!(
            "random answer {}, best answer {}",
            number(worth.random),
            number(worth.best)
        )));
    }
    Section::open("Best of n", vec![Block::Figures(figures)])
}

fn true_reward(reward: &TrueReward) -> Section {
    let caption = format!("{} answers", count(reward.answers as u64));
    let mut table = Table::of_numbers(caption, &["correlation of score and true reward", "value"]);
    for (name, value) in [
        ("Pearson's r", reward.pearson),
        ("Spearman's ρ", reward.spearman),
        ("Kendall's τ-b", reward.kendall),
    ] {
        table.rows.push(vec![name.to_owned(), correlation(value)]);
    }
    Section::open("True reward", vec![Block::Table(table)])
}
