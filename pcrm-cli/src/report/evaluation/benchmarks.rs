//! The scores of published benchmarks, if the data are from one.

use pcrm_eval::RewardReport;
use pcrm_eval::benchmarks::rm_bench::StyleMatrix;
use pcrm_eval::benchmarks::{RewardBench, RewardBench2, RmBench};

use crate::report::document::{Align, Block, Fact, Section, Table};
use crate::report::number::{count, number, percent};

const STYLES: [&str; 3] = ["concise", "detailed", "markdown"];

/// Returns the overall scores, for the top of the page.
pub fn figures(report: &RewardReport) -> Vec<Fact> {
    let overall = |score: Option<f64>| score.map_or_else(|| "–".to_owned(), percent);
    let note = |score: Option<f64>, whole: &str, missing: &str| {
        if score.is_some() { whole.to_owned() } else { missing.to_owned() }
    };
    let mut figures = Vec::new();
    if let Some(bench) = &report.reward_bench {
        figures.push(Fact::new("RewardBench", overall(bench.score)).with_note(note(
            bench.score,
            "mean of the sections",
            "sections are missing",
        )));
    }
    if let Some(bench) = &report.reward_bench_2 {
        figures.push(Fact::new("RewardBench 2", overall(bench.score)).with_note(note(
            bench.score,
            "mean of the six subsets",
            "subsets are missing",
        )));
    }
    if let Some(bench) = &report.rm_bench {
        figures.push(Fact::new("RM-Bench", overall(bench.score)).with_note(note(
            bench.score,
            "mean of the domains",
            "domains are missing",
        )));
    }
    figures
}

/// Returns a section per benchmark.
pub fn sections(report: &RewardReport) -> Vec<Section> {
    let sections = [
        report.reward_bench.as_ref().map(reward_bench),
        report.reward_bench_2.as_ref().map(reward_bench_2),
        report.rm_bench.as_ref().map(rm_bench),
    ];
    sections.into_iter().flatten().collect()
}

fn reward_bench(bench: &RewardBench) -> Section {
    let mut table = Table::of_numbers(
        "Sections: strict accuracy, subsets weighted",
        &["section", "score", "subsets missing"],
    );
    table.columns[2].align = Align::Left;
    for section in &bench.sections {
        let missing = if section.missing.is_empty() { "none".to_owned() } else { section.missing.join(", ") };
        table.rows.push(vec![section.name.clone(), percent(section.score), missing]);
    }
    let overall = bench.score.map_or_else(|| "–".to_owned(), percent);
    table.rows.push(vec!["overall".to_owned(), overall, String::new()]);
    Section::open("RewardBench", vec![Block::Table(table)])
}

fn reward_bench_2(bench: &RewardBench2) -> Section {
    let mut table = Table::of_numbers(
        "Subsets: how often the best of four answers is found",
        &["subset", "prompts", "score"],
    );
    for subset in &bench.subsets {
        table.rows.push(vec![subset.name.clone(), count(subset.prompts as u64), percent(subset.score)]);
    }
    let overall = bench.score.map_or_else(|| "–".to_owned(), percent);
    table.rows.push(vec!["overall".to_owned(), String::new(), overall]);
    let mut blocks = vec![Block::Table(table)];
    if let Some(ties) = &bench.ties {
        let mut parts = Table::of_numbers("The parts of the Ties score", &["part", "weight", "value"]);
        for (name, weight, value) in [
            ("accurate, several right answers", "0.30", percent(ties.tied_accuracy)),
            ("accurate, one right answer", "0.30", percent(ties.ref_accuracy)),
            (
                "gap to wrong answers exceeds the spread of right ones",
                "0.20",
                percent(ties.correctness_preferred),
            ),
            ("both gaps exceed it", "0.20", percent(ties.correctness_preferred_hard)),
            ("closeness, tanh(gap / spread − 1)", "0.01", number(ties.margin_score)),
        ] {
            parts.rows.push(vec![name.to_owned(), weight.to_owned(), value]);
        }
        blocks.push(Block::Table(parts));
    }
    Section::open("RewardBench 2", blocks)
}

fn rm_bench(bench: &RmBench) -> Section {
    let mut matrix = Table::of_numbers(
        "How often the right answer scores higher, by the styles of both answers",
        &["right answer", "wrong one concise", "wrong one detailed", "wrong one markdown"],
    );
    for (style, shares) in STYLES.iter().zip(bench.all.matrix) {
        matrix.rows.push([(*style).to_owned()].into_iter().chain(shares.map(percent)).collect());
    }
    let mut table = Table::of_numbers(
        "Domains. Easy: the right answer has the richer style; hard: the wrong one does",
        &["domain", "prompts", "easy", "normal", "hard"],
    );
    let mut add = |name: &str, styles: &StyleMatrix| {
        let shares = [styles.easy, styles.normal, styles.hard].map(percent);
        let row = [name.to_owned(), count(styles.prompts as u64)].into_iter().chain(shares);
        table.rows.push(row.collect());
    };
    bench.domains.iter().for_each(|domain| add(&domain.name, &domain.styles));
    add("all prompts", &bench.all);
    Section::open("RM-Bench", vec![Block::Table(matrix), Block::Table(table)])
}
