//! The sections below the tables: the sweep, the worlds, sample answers, settings.

use std::collections::BTreeSet;

use super::super::outcome::StudyOutcome;
use super::super::results::Results;
use super::super::show::{difference, fixed, heading};
use super::super::{fill, map};
use crate::report::document::{Block, Fact, Section, Table};
use crate::worlds::Verdict;

/// Returns the sections on sweeps: a line plot for one axis, heat maps for more, and the best arms.
pub(super) fn strengths(results: &Results, outcome: &StudyOutcome) -> Vec<Section> {
    let recipe = &results.recipe;
    let size = recipe.size(results.quick);
    let swept: Vec<_> = recipe.arms_of(size).into_iter().filter(|arm| !arm.at.is_empty()).collect();
    let Some(first) = swept.first() else { return Vec::new() };
    let axes: Vec<&String> = first.at.keys().collect();
    let mut plots = Vec::new();
    for world in &outcome.worlds {
        plots.extend(match axes[..] {
            [axis] => map::line_plots(results, outcome, world, axis),
            _ => map::cell_plots(results, outcome, world, &axes),
        });
    }
    let mut blocks = if plots.is_empty() { Vec::new() } else { vec![Block::Plots(plots)] };
    let base = &outcome.baseline;
    let automatic = recipe.automatic.clone().unwrap_or_default();
    let mut columns = vec!["world", "best arm", "its mean"];
    let over = format!("chosen on other seeds, minus {base}");
    let own = format!("{automatic}, minus that choice");
    columns.push(&over);
    if !automatic.is_empty() {
        columns.push(&own);
    }
    let mut table = Table::of_numbers(
        format!("Best of the sweep by {}", heading(recipe, &recipe.primary.figure)),
        &columns,
    );
    for best in map::best(results).unwrap_or_default() {
        let shown =
            |mean: &Option<crate::replicates::Mean>| mean.as_ref().map_or_else(|| "–".to_owned(), difference);
        let mut row =
            vec![best.world.clone(), best.arm.clone(), fixed(best.mean), shown(&best.over_baseline)];
        if !automatic.is_empty() {
            row.push(shown(&best.automatic_over_best));
        }
        table.rows.push(row);
    }
    if !table.rows.is_empty() {
        blocks.push(Block::Table(table));
    }
    vec![Section::open("The sweep", blocks)]
}

/// Returns the section on the worlds, and whether the similarity of answers carries preference strength in
/// them; or the one on the user's files.
pub(super) fn worlds(results: &Results) -> Section {
    if results.recipe.data.is_some() {
        let mut table = Table::of_text("", &["data", "about"]);
        table.rows.extend(results.worlds.iter().map(|file| vec![file.name.clone(), file.about.clone()]));
        return Section::open("The data", vec![Block::Table(table)]);
    }
    let mut table = Table::of_text(
        "Likeness: the share of the variance of preference strength |ln p/(1 − p)| that it explains, \
         cross-fitted over prompts, 95 % interval.",
        &["world", "true reward and confound", "likeness in length", "likeness in words"],
    );
    for world in &results.worlds {
        let mut row = vec![world.name.clone(), world.about.clone()];
        row.extend(world.carried.iter().map(|carried| {
            let verdict = match carried.verdict() {
                Verdict::Carries => "carries strength",
                Verdict::DoesNot => "does not carry strength",
                Verdict::Open => "may carry some",
            };
            let explained = &carried.explained;
            let ends = explained.interval.map_or(String::new(), |interval| {
                format!(" [{}, {}]", fixed(interval.low()), fixed(interval.high()))
            });
            format!("{verdict}: {}{ends}", fixed(explained.value))
        }));
        table.rows.push(row);
    }
    Section::open("The worlds", vec![Block::Table(table)])
}

/// Returns the section with answers of every arm side by side.
pub(super) fn samples(results: &Results) -> Option<Section> {
    let mut prompts: Vec<&String> = Vec::new();
    for sample in &results.samples {
        if !prompts.contains(&&sample.prompt) {
            prompts.push(&sample.prompt);
        }
    }
    let table = |prompt: &&String| {
        let mut table = Table::of_text((*prompt).clone(), &["arm", "by", "true reward", "answer"]);
        let of = results.samples.iter().filter(|sample| sample.prompt == **prompt);
        table.rows.extend(of.map(|sample| {
            let truth = sample.truth.map_or_else(|| "–".to_owned(), fixed);
            vec![sample.arm.clone(), sample.from.clone(), truth, sample.answer.trim().to_owned()]
        }));
        Block::Table(table)
    };
    (!prompts.is_empty()).then(|| Section::closed("Answers", prompts.iter().map(table).collect()))
}

/// Returns the section on arms and options.
pub(super) fn settings(results: &Results) -> Section {
    let recipe = &results.recipe;
    let size = recipe.size(results.quick);
    let mut arms = Table::of_text("", &["arm", "options"]);
    for arm in recipe.arms_of(size) {
        let shown = |table: &toml::Table| table.to_string().trim().replace('\n', ", ");
        let options = match (&arm.reward, &arm.dpo, &arm.temperature_of) {
            (Some(options), ..) => {
                let members = arm.mean_of.map_or(String::new(), |members| format!("the mean of {members}; "));
                format!("{members}pcrm reward: {}", shown(options))
            }
            (_, Some(options), _) => format!("pcrm dpo: {}", shown(options)),
            (_, _, Some(of)) => format!("{of}, its scores divided by a temperature fitted on held-out pairs"),
            _ if arm.minimum_of.is_some() => {
                let of = arm.minimum_of.as_deref().unwrap_or_default();
                format!("the lowest of the standardised scores of the models of {of}")
            }
            _ => "the policy that training begins from".to_owned(),
        };
        arms.rows.push(vec![arm.name.get_ref().clone(), options]);
    }
    let mut verbs = Table::of_text("", &["verb", "options"]);
    let mut all: BTreeSet<&String> = recipe.options.keys().collect();
    all.extend(size.options.keys());
    for verb in all {
        let both = [&recipe.options, &size.options].into_iter().filter_map(|options| options.get(verb));
        let table = fill::layered(both);
        verbs.rows.push(vec![verb.clone(), table.to_string().trim().replace('\n', ", ")]);
    }
    for follow in &recipe.follow {
        let own = follow.options.to_string().trim().replace('\n', ", ");
        verbs.rows.push(vec![format!("{} (pcrm {})", follow.name, follow.verb.name()), own]);
    }
    let share = |share: f64| format!("{:.0} %", 100.0 * share);
    let facts = match &recipe.data {
        None => vec![
            Fact::new("Training pairs", size.pairs.to_string()),
            Fact::new("Answers per held-out prompt", size.answers.to_string()),
        ],
        Some(data) => vec![
            Fact::new("Prompts held out", share(data.held_out)),
            Fact::new("Of the others, for temperatures", share(data.calibration)),
        ],
    };
    let blocks = vec![Block::Facts(facts), Block::Table(arms), Block::Table(verbs)];
    Section::closed("Arms and options", blocks)
}
