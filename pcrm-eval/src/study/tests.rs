//! Statistics, sentences and pages on hand-made results.

use std::collections::BTreeMap;

use super::curve::PolicyPoint;
use super::learned::learned;
use super::outcome::TOGETHER;
use super::{Cell, Recipe, Results, StudyOutcome, map, markdown, page};
use crate::report::render;

const RECIPE: &str = r#"
title = "By hand"
question = "?"
hypotheses = ["nothing differs"]
primary = { figure = "ppo/truth@4", words = "true reward at 4 nats" }
baseline = "bt"
automatic = "calibrated"
worlds = ["questions"]
full = { seeds = 4, pairs = 60, answers = 2 }
quick = { seeds = 1, pairs = 60, answers = 2 }
[[arm]]
name = "bt"
reward = {}
[[arm]]
name = "calibrated"
reward = {}
[[grid]]
name = "fixed {bound}"
values = { bound = [1, 2] }
reward = {}
[[follow]]
name = "ppo"
verb = "ppo"
kl = [4]
"#;

/// Builds results of two arms of a sweep and a calibrated one: with seed s, bt is at s, fixed 1 better by 0.5
/// and fixed 2 by 1.
fn results(seeds: u64) -> Results {
    let mut cells = Vec::new();
    for seed in 0..seeds {
        let base = seed as f64 * 3.0;
        let wobble = 0.01 * (seed as f64 * 2.3).sin();
        for (arm, by) in [("bt", 0.0), ("calibrated", 0.98), ("fixed 1", 0.5), ("fixed 2", 1.0)] {
            let truth = base + by + if by > 0.0 { wobble * by } else { 0.0 };
            let mut figures = BTreeMap::from([("accuracy".to_owned(), 0.6), ("ppo/truth".to_owned(), truth)]);
            // The last seed's fixed 1 never reaches 4 nats.
            if (arm, seed) != ("fixed 1", 3) {
                figures.insert("ppo/truth@4".to_owned(), truth);
            }
            let point = |step, kl| PolicyPoint { step, kl, proxy: kl, truth, length: 9.0 };
            let courses = BTreeMap::from([("ppo".to_owned(), vec![point(0, 0.0), point(1, 6.0)])]);
            let world = "questions".to_owned();
            cells.push(Cell { arm: arm.to_owned(), world, seed, figures, courses, best: BTreeMap::new() });
        }
    }
    Results {
        recipe: Recipe::parse(RECIPE, "by-hand").unwrap(),
        quick: false,
        seeds,
        done: 9,
        runs: 10,
        left_out: vec![("floor".to_owned(), "no --floor".to_owned())],
        failed: vec![("a run".to_owned(), "no temperature".to_owned())],
        worlds: vec![super::results::WorldFound {
            name: "questions".to_owned(),
            about: "a".to_owned(),
            carried: Vec::new(),
        }],
        cells,
        samples: Vec::new(),
    }
}

/// Protects: differences are paired by seed, over the seeds that both have, and a run that never reached a KL
/// divergence is counted instead of guessed.
#[test]
fn differences_are_paired_and_gaps_are_counted() {
    let results = results(4);
    let outcome = StudyOutcome::of(&results).unwrap();
    assert_eq!(outcome.worlds, ["questions"]);
    let found = outcome.found("questions", "ppo/truth@4", "fixed 1").unwrap();
    assert_eq!((found.without, found.mean.replicates), (1, 3));
    let apart = found.difference.unwrap();
    // The seeds differ by 3 each: without pairing no interval would exclude 0.
    assert!((apart.value - 0.5).abs() < 0.01 && apart.excludes_zero(), "{apart:?}");
    assert!(outcome.found("questions", "ppo/truth@4", "bt").unwrap().difference.is_none());
    assert!(outcome.found("questions", "accuracy", "fixed 1").unwrap().difference.unwrap().value == 0.0);
}

/// Protects: several worlds are combined, each world and seed being a replicate.
#[test]
fn worlds_are_read_together() {
    let mut results = results(3);
    let mut other = results.cells.clone();
    other.iter_mut().for_each(|cell| cell.world = "dialogue".to_owned());
    results.cells.extend(other);
    results
        .worlds
        .push(super::results::WorldFound { name: "dialogue".to_owned(), ..results.worlds[0].clone() });
    let outcome = StudyOutcome::of(&results).unwrap();
    assert_eq!(outcome.worlds, ["questions", "dialogue", TOGETHER]);
    let together = outcome.found(TOGETHER, "ppo/truth@4", "fixed 2").unwrap();
    assert_eq!(together.difference.unwrap().replicates, 6);
}

/// Protects: the best of a sweep is measured on seeds that did not choose it, and the automatic arm is
/// compared with that choice.
#[test]
fn the_best_is_chosen_on_other_seeds() {
    let found = map::best(&results(4)).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].arm, "fixed 2");
    let over = found[0].over_baseline.unwrap();
    assert!((over.value - 1.0).abs() < 0.02 && over.excludes_zero(), "{over:?}");
    let automatic = found[0].automatic_over_best.unwrap();
    assert!((automatic.value + 0.02).abs() < 0.005, "{automatic:?}");
    // Two arms that are best by chance, in turn: on other seeds the gain of the choice is negative.
    let mut lucky = results(2);
    for cell in &mut lucky.cells {
        let by = match (cell.arm.as_str(), cell.seed) {
            ("fixed 1", 0) | ("fixed 2", 1) => 1.0,
            ("fixed 1" | "fixed 2", _) => -1.0,
            _ => 0.0,
        };
        cell.figures.insert("ppo/truth@4".to_owned(), by);
    }
    let over = map::best(&lucky).unwrap()[0].over_baseline.unwrap();
    assert_eq!(over.value, -1.0);
}

/// Protects: the first sentences follow from the intervals: better, no difference, or too few seeds to tell.
#[test]
fn sentences_follow_from_intervals() {
    let said = |results: &Results| learned(results, &StudyOutcome::of(results).unwrap());
    let found = said(&results(4));
    assert!(
        found[0].starts_with(
            "True reward at 4 nats, ppo (bt: 4.500), 95 % intervals over 4 replicates: better: "
        )
    );
    assert!(found[0].contains("calibrated (+0.98") && found[0].contains("fixed 2 (+1.00"), "{found:?}");
    assert!(found.last().unwrap().contains("Best of the sweep: fixed 2"), "{found:?}");
    let mut null = results(4);
    for cell in &mut null.cells {
        let noise = (cell.seed as f64 * 1.9 + cell.arm.len() as f64).sin();
        cell.figures.insert("ppo/truth@4".to_owned(), noise);
    }
    let found = said(&null);
    assert!(found[0].contains("no arm is better beyond chance"), "{found:?}");
    let mut idle = results(4);
    let of_bt: Vec<f64> =
        idle.cells.iter().filter(|cell| cell.arm == "bt").map(|cell| cell.figures["ppo/truth@4"]).collect();
    for cell in idle.cells.iter_mut().filter(|cell| cell.arm == "fixed 1") {
        cell.figures.insert("ppo/truth@4".to_owned(), of_bt[cell.seed as usize]);
    }
    let found = said(&idle);
    assert!(found[0].contains("the same as bt in every seed: fixed 1"), "{found:?}");
    assert!(said(&results(2))[0].contains("two seeds cannot separate an effect from chance"));
    let mut none = results(4);
    none.cells.clear();
    assert_eq!(said(&none), ["No run is done yet."]);
}

/// Protects: the primary figure is also read off the other algorithms that have its KL divergence, and every
/// policy that a coefficient alone limits has a sentence.
#[test]
fn every_algorithm_has_its_sentence() {
    let mut results = results(4);
    let of = |name: &str, kl: &[f64]| {
        let mut follow = results.recipe.follow[0].clone();
        (follow.name, follow.kl) = (name.to_owned(), kl.to_vec());
        follow
    };
    let more = [of("grpo", &[2.0, 4.0]), of("rloo", &[2.0]), of("ppo at 0.1", &[]), of("grpo at 0.1", &[])];
    results.recipe.follow.extend(more);
    for cell in &mut results.cells {
        for figure in ["grpo/truth@4", "rloo/truth@2", "ppo at 0.1/truth", "grpo at 0.1/truth"] {
            cell.figures.insert(figure.to_owned(), 1.0);
            let follow = figure.split('/').next().unwrap_or_default();
            cell.courses.insert(follow.to_owned(), cell.courses["ppo"].clone());
        }
    }
    let found = learned(&results, &StudyOutcome::of(&results).unwrap());
    let starts = ["4 nats, ppo (", "4 nats, grpo (", "the end, ppo at 0.1 (", "the end, grpo at 0.1 ("];
    for (sentence, start) in found.iter().zip(starts) {
        assert!(sentence.starts_with(&format!("True reward at {start}")), "{found:#?}");
    }
    assert_eq!(found.len(), 5, "{found:#?}");
}

/// Protects: a page can be made of partial results, names what is missing, and has the same tables in
/// Markdown.
#[test]
fn pages_say_what_is_missing() {
    let whole = results(4);
    for results in [whole.clone(), Results { cells: Vec::new(), ..whole.clone() }, results(1)] {
        let outcome = StudyOutcome::of(&results).unwrap();
        let page = render(&page::document(&results, &outcome)).unwrap();
        for part in ["9 of 10 runs are done", "floor is left out: no --floor", "a run failed: no temperature"]
        {
            assert!(page.contains(part), "{part}");
        }
    }
    let text = markdown::text(&whole, &StudyOutcome::of(&whole).unwrap());
    assert!(text.contains("| fixed 1 | 3.49") || text.contains("| fixed 1 | 3.50"), "{text}");
    assert!(text.contains("(1 without)") && text.contains("| --- | ---: |"), "{text}");
}

/// Protects: a sweep over three axes has a map for every value of the third, with a tile for every arm.
#[test]
fn three_axes_make_maps() {
    let mut results = results(3);
    let grid = RECIPE.replace(
        "name = \"fixed {bound}\"\nvalues = { bound = [1, 2] }",
        "name = \"g {a} {b} {c}\"\nvalues = { a = [1, 2], b = [3, 4], c = [5, 6, 7] }",
    );
    results.recipe = Recipe::parse(&grid, "grid").unwrap();
    let base: Vec<Cell> = results.cells.iter().filter(|cell| cell.arm == "bt").cloned().collect();
    for arm in results.recipe.arms.clone().iter().filter(|arm| !arm.at.is_empty()) {
        for cell in &base {
            let mut cell = Cell { arm: arm.name.get_ref().clone(), ..cell.clone() };
            let more = arm.at["a"] - arm.at["c"] + 0.01 * cell.seed as f64;
            cell.figures.entry("ppo/truth@4".to_owned()).and_modify(|value| *value += more);
            results.cells.push(cell);
        }
    }
    let outcome = StudyOutcome::of(&results).unwrap();
    let axes: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
    let plots = map::cell_plots(&results, &outcome, "questions", &axes.iter().collect::<Vec<_>>());
    assert_eq!(plots.len(), 3);
    assert!(plots[0].title.contains("c = 5"), "{}", plots[0].title);
    let page = render(&page::document(&results, &outcome)).unwrap();
    assert!(page.contains("−3.990 *"), "a tile of a = 1, c = 5");
}
