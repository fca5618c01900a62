//! Sweeps: the best strength, measured on seeds that did not choose it, compared with the baseline and an
//! automatic arm.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::outcome::{StudyOutcome, TOGETHER};
use super::results::{Cell, Results};
use super::show::{difference, heading, signed};
use crate::error::Result;
use crate::replicates::Mean;
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot, Tile, Whisker};

/// The best arm of a sweep in one world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Name of the world.
    pub world: String,
    /// Arm with the best mean over all seeds.
    pub arm: String,
    /// Mean of this arm.
    pub mean: f64,
    /// The arm that is best on the other seeds minus the baseline, seed by seed: the gain of a sweep without
    /// selection bias.
    pub over_baseline: Option<Mean>,
    /// The arm that finds its strength automatically, minus that choice.
    pub automatic_over_best: Option<Mean>,
}

/// Returns the arms of a sweep: those with a position on an axis.
pub fn swept(results: &Results) -> Vec<String> {
    let size = results.recipe.size(results.quick);
    let arms = results.recipe.arms_of(size).into_iter().filter(|arm| !arm.at.is_empty());
    arms.map(|arm| arm.name.get_ref().clone()).collect()
}

/// Returns the best arm of the sweep in every world by the primary figure; empty without a sweep or runs.
///
/// # Errors
/// Fails if a figure is not finite.
pub fn best(results: &Results) -> Result<Vec<Best>> {
    let swept = swept(results);
    let worlds: BTreeSet<&str> = results.cells.iter().map(|cell| cell.world.as_str()).collect();
    let order = results.worlds.iter().filter(|world| worlds.contains(world.name.as_str()));
    let mut found = Vec::new();
    for world in order {
        let cells: Vec<&Cell> = results.cells.iter().filter(|cell| cell.world == world.name).collect();
        found.extend(best_of(results, &swept, &world.name, &cells)?);
    }
    Ok(found)
}

fn best_of(results: &Results, swept: &[String], world: &str, cells: &[&Cell]) -> Result<Option<Best>> {
    let recipe = &results.recipe;
    let sign = if recipe.primary.lower_is_better { -1.0 } else { 1.0 };
    let value = |arm: &str, seed: u64| {
        let cell = cells.iter().find(|cell| cell.arm == arm && cell.seed == seed)?;
        cell.figures.get(&recipe.primary.figure).copied()
    };
    let seeds: BTreeSet<u64> = cells.iter().map(|cell| cell.seed).collect();
    // The baseline is the sweep's point without a bound.
    let arms: Vec<&String> = swept.iter().chain([&recipe.baseline]).collect();
    let mean_without = |arm: &str, without: Option<u64>| {
        let others = seeds.iter().filter(|seed| Some(**seed) != without);
        let values: Vec<f64> = others.filter_map(|seed| value(arm, *seed)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let choose = |without: Option<u64>| {
        let of = |arm: &&String| Some((mean_without(arm, without)?, (*arm).clone()));
        arms.iter().filter_map(of).max_by(|a, b| (sign * a.0).total_cmp(&(sign * b.0)))
    };
    let Some((mean, arm)) = choose(None).filter(|_| !swept.is_empty()) else { return Ok(None) };
    let mut over: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for seed in &seeds {
        let Some((_, chosen)) = choose(Some(*seed)) else { continue };
        let Some(own) = value(&chosen, *seed) else { continue };
        if let Some(base) = value(&recipe.baseline, *seed) {
            over.entry("baseline").or_default().push((base, own));
        }
        if let Some(automatic) = recipe.automatic.as_ref().and_then(|arm| value(arm, *seed)) {
            over.entry("automatic").or_default().push((own, automatic));
        }
    }
    let paired = |name: &str| {
        let pairs = over.get(name).filter(|_| seeds.len() > 1)?;
        let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        Some(Mean::of_differences(&first, &second))
    };
    Ok(Some(Best {
        world: world.to_owned(),
        arm,
        mean,
        over_baseline: paired("baseline").transpose()?,
        automatic_over_best: paired("automatic").transpose()?,
    }))
}

/// Returns a sentence on the best arm of the sweep.
pub fn sentence(results: &Results, outcome: &StudyOutcome, world: &str) -> Option<String> {
    let found = best(results).ok()?;
    let of = |best: &Best| {
        let over = best.over_baseline.as_ref().map_or(String::new(), |mean| {
            format!(" (chosen on other seeds, against {}: {})", outcome.baseline, difference(mean))
        });
        let place = if world == TOGETHER { format!("in {} ", best.world) } else { String::new() };
        format!("{place}{}{over}", best.arm)
    };
    if found.is_empty() {
        return None;
    }
    let mut text = format!("Best of the sweep: {}.", found.iter().map(of).collect::<Vec<_>>().join("; "));
    if let Some(automatic) = &results.recipe.automatic {
        let of = |best: &Best| {
            best.automatic_over_best.as_ref().map(|mean| (best.world.clone(), difference(mean)))
        };
        let parts: Vec<String> =
            found.iter().filter_map(of).map(|(world, text)| format!("{world} {text}")).collect();
        if !parts.is_empty() {
            text.push_str(&format!(
                " {automatic} finds its strength without a sweep; against that choice: {}.",
                parts.join("; ")
            ));
        }
    }
    Some(text)
}

/// Returns one plot each for the primary figure, accuracy and calibration, against the single axis of a
/// sweep.
pub fn line_plots(results: &Results, outcome: &StudyOutcome, world: &str, axis: &str) -> Vec<Plot> {
    let recipe = &results.recipe;
    let mut figures = vec![recipe.primary.figure.clone()];
    for name in ["accuracy", "log_loss_scaled", "ece"].map(str::to_owned) {
        figures.extend((!figures.contains(&name)).then_some(name));
    }
    for follow in &recipe.follow {
        let name = format!("{}/truth", follow.name);
        let primary_follow = recipe.primary.figure.split('/').next() == Some(follow.name.as_str());
        figures.extend((!primary_follow).then_some(name));
    }
    let places: Vec<(String, f64)> =
        recipe.arms.iter().filter_map(|arm| Some((arm.name.get_ref().clone(), *arm.at.get(axis)?))).collect();
    let plot = |figure: &String| {
        let by_arm = outcome.figures.get(world)?.get(figure)?;
        let mut points: Vec<Whisker> = places
            .iter()
            .filter_map(|(arm, at)| {
                let mean = by_arm.get(arm)?.mean;
                Some(Whisker::new((*at, mean.value), mean.interval))
            })
            .collect();
        points.sort_by(|a, b| a.at.0.total_cmp(&b.at.0));
        let line = points.iter().map(|point| point.at).collect();
        let mut layers = vec![
            Layer::unnamed(Ink::Blue, Mark::Line(line)),
            Layer::new("mean with 95 % interval", Ink::Blue, Mark::Intervals(points.clone())),
        ];
        let across = |arm: &String, ink| {
            let mean = by_arm.get(arm)?.mean.value;
            Some(Layer::new(arm.clone(), ink, Mark::Across(mean)))
        };
        layers.extend(across(&outcome.baseline, Ink::Grey));
        layers.extend(recipe.automatic.as_ref().and_then(|arm| across(arm, Ink::Orange)));
        (!points.is_empty()).then(|| Plot {
            title: format!("{world}: {}", heading(recipe, figure)),
            about: String::new(),
            x: Axis::new(axis.to_owned()).logarithmic(),
            y: Axis::new("").spanning(0.02),
            layers,
        })
    };
    figures.iter().filter_map(plot).collect()
}

/// Returns heat maps of the primary figure minus the baseline's over two axes, one for every combination of
/// the other axes.
pub fn cell_plots(results: &Results, outcome: &StudyOutcome, world: &str, axes: &[&String]) -> Vec<Plot> {
    let recipe = &results.recipe;
    let [across, up, others @ ..] = axes else { return Vec::new() };
    let size = recipe.size(results.quick);
    let arms: Vec<_> = recipe.arms_of(size).into_iter().filter(|arm| !arm.at.is_empty()).collect();
    let values = |axis: &str| {
        let mut values: Vec<f64> = arms.iter().filter_map(|arm| arm.at.get(axis).copied()).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        values
    };
    let (xs, ys) = (values(across), values(up));
    let mut rest: Vec<Vec<(String, f64)>> = Vec::new();
    for arm in &arms {
        let own: Vec<(String, f64)> =
            others.iter().filter_map(|axis| Some(((*axis).clone(), *arm.at.get(*axis)?))).collect();
        if !rest.contains(&own) {
            rest.push(own);
        }
    }
    let Some(by_arm) = outcome.figures.get(world).and_then(|figures| figures.get(&recipe.primary.figure))
    else {
        return Vec::new();
    };
    let sign = if recipe.primary.lower_is_better { -1.0 } else { 1.0 };
    let place = |values: &[f64], value: f64| values.iter().position(|known| *known == value);
    let plot = |others: &Vec<(String, f64)>| {
        let of = arms.iter().filter(|arm| others.iter().all(|(axis, value)| arm.at.get(axis) == Some(value)));
        let cells = of.filter_map(|arm| {
            let mean = by_arm.get(arm.name.get_ref())?.difference?;
            let x = place(&xs, *arm.at.get(*across)?)?;
            let y = place(&ys, *arm.at.get(*up)?)?;
            let star = if mean.excludes_zero() { " *" } else { "" };
            Some(Tile { at: (x, y), shade: sign * mean.value, text: format!("{}{star}", signed(mean.value)) })
        });
        let cells: Vec<Tile> = cells.collect();
        let fixed: Vec<String> = others.iter().map(|(axis, value)| format!(", {axis} = {value}")).collect();
        (!cells.is_empty()).then(|| Plot {
            title: format!("{world}{}: minus {}", fixed.concat(), outcome.baseline),
            about: format!(
                "{}. Blue is better, red is worse; a star: the interval excludes 0.",
                heading(recipe, &recipe.primary.figure)
            ),
            x: Axis { label: (*across).clone(), ..Axis::of_names(xs.iter().map(f64::to_string).collect()) },
            y: Axis {
                label: format!("{up}, from below to above"),
                ..Axis::of_names(ys.iter().map(f64::to_string).collect())
            },
            layers: vec![Layer::unnamed(Ink::Blue, Mark::Cells(cells))],
        })
    };
    rest.iter().filter_map(plot).collect()
}
