//! The findings of a study in a few sentences, based on its intervals.

use super::map;
use super::outcome::{Found, StudyOutcome};
use super::results::Results;
use super::show::{difference, fixed, heading, listed};
use crate::interval::FEWEST_REPLICATES;

/// Returns the sentences: the primary figure, the same figure of other algorithms, the true reward at an equal
/// coefficient if policies ran to their end, and the best arm of a sweep.
pub fn learned(results: &Results, outcome: &StudyOutcome) -> Vec<String> {
    let Some(world) = outcome.main_world() else {
        return vec!["No run is done yet.".to_owned()];
    };
    let primary = &results.recipe.primary;
    let mut said = vec![sentence(results, outcome, world, &primary.figure, primary.lower_is_better)];
    for figure in of_others(results, &primary.figure) {
        said.push(sentence(results, outcome, world, &figure, primary.lower_is_better));
    }
    for figure in at_the_end(results, &primary.figure) {
        said.push(sentence(results, outcome, world, &figure, false));
    }
    said.extend(map::sentence(results, outcome, world));
    said
}

/// Returns the names of the primary figure of the other follow-ups that have its KL divergence.
fn of_others(results: &Results, primary: &str) -> Vec<String> {
    let Some((own, figure)) = primary.split_once('/') else { return Vec::new() };
    let Some(kl) = figure.split_once('@').and_then(|(_, kl)| kl.parse::<f64>().ok()) else {
        return Vec::new();
    };
    let others = results.recipe.follow.iter().filter(|follow| follow.name != own && follow.kl.contains(&kl));
    others.map(|follow| format!("{}/{figure}", follow.name)).collect()
}

/// Returns the names of the true rewards at the end of policies that are limited by a coefficient alone.
fn at_the_end(results: &Results, primary: &str) -> Vec<String> {
    let limited = results.recipe.follow.iter().filter(|follow| {
        follow.kl.is_empty()
            && follow.verb != super::recipe::Verb::BestOfN
            && !primary.starts_with(&format!("{}/", follow.name))
    });
    limited.map(|follow| format!("{}/truth", follow.name)).collect()
}

fn sentence(results: &Results, outcome: &StudyOutcome, world: &str, figure: &str, lower: bool) -> String {
    let words = heading(&results.recipe, figure);
    let base = &outcome.baseline;
    let Some(of_base) = outcome.found(world, figure, base) else {
        return format!("{}: no run of {base} has this figure yet.", capital(&words));
    };
    let others = outcome.arms.iter().filter(|arm| *arm != base);
    let found: Vec<(&String, &Found)> =
        others.filter_map(|arm| Some((arm, outcome.found(world, figure, arm)?))).collect();
    let with_interval =
        found.iter().any(|(_, found)| found.difference.is_some_and(|mean| mean.interval.is_some()));
    let start = format!("{} ({base}: {})", capital(&words), fixed(of_base.mean.value));
    if !with_interval {
        let seeds = match of_base.mean.replicates {
            1 => "one seed",
            2 => "two seeds",
            _ => "seeds with equal results",
        };
        return format!(
            "{start}: {seeds} cannot separate an effect from chance; intervals need at least \
             {FEWEST_REPLICATES}."
        );
    }
    let (mut better, mut worse, mut open) = (Vec::new(), Vec::new(), Vec::new());
    let (mut equal, mut thin) = (Vec::new(), Vec::new());
    for (arm, found) in found {
        match found.difference {
            Some(mean) if mean.excludes_zero() => {
                let text = format!("{arm} ({})", difference(&mean).trim_end_matches(" *"));
                if (mean.value > 0.0) == lower { &mut worse } else { &mut better }.push(text);
            }
            Some(mean) if mean.interval.is_some() => open.push(arm.clone()),
            // Seeds that all differ by the same amount have no interval, however many they are.
            Some(mean) if mean.replicates >= FEWEST_REPLICATES && mean.value == 0.0 => {
                equal.push(arm.clone());
            }
            _ => thin.push(arm.clone()),
        }
    }
    let mut parts = Vec::new();
    if better.is_empty() {
        parts.push("no arm is better beyond chance".to_owned());
    } else {
        parts.push(format!("better: {}", listed(&better)));
    }
    if !worse.is_empty() {
        parts.push(format!("worse: {}", listed(&worse)));
    }
    let differs = !better.is_empty() || !worse.is_empty();
    if differs && !open.is_empty() {
        parts.push(format!("no difference beyond chance: {}", listed(&open)));
    }
    if !equal.is_empty() {
        parts.push(format!("the same as {base} in every seed: {}", listed(&equal)));
    }
    if !thin.is_empty() {
        parts.push(format!("too few seeds: {}", listed(&thin)));
    }
    format!("{start}, 95 % intervals over {} replicates: {}.", of_base.mean.replicates, parts.join("; "))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
