//! Combined results: means over seeds, and paired differences from the baseline.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::results::{Cell, Results};
use crate::error::Result;
use crate::replicates::Mean;

/// A figure of an arm in a world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Mean over the seeds that have the figure.
    pub mean: Mean,
    /// Number of finished seeds without the figure, such as a policy that never reached this KL divergence.
    pub without: usize,
    /// Mean difference from the baseline, over seeds where both have the figure; `None` for the baseline.
    pub difference: Option<Mean>,
}

/// The figures of a study by world, figure and arm. A study of several worlds also has them combined, as
/// [`TOGETHER`]: every world and seed is a replicate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyOutcome {
    /// Names of the worlds, the combined one last.
    pub worlds: Vec<String>,
    /// Arms, in the recipe's order.
    pub arms: Vec<String>,
    /// Baseline arm.
    pub baseline: String,
    /// Figures by world, name and arm.
    pub figures: BTreeMap<String, BTreeMap<String, BTreeMap<String, Found>>>,
}

/// The name of all worlds or files combined.
pub const TOGETHER: &str = "all together";

impl StudyOutcome {
    /// Combines results.
    ///
    /// # Errors
    /// Fails if a figure is not finite.
    pub fn of(results: &Results) -> Result<Self> {
        let found: BTreeSet<&str> = results.cells.iter().map(|cell| cell.world.as_str()).collect();
        let in_order = results.worlds.iter().map(|world| world.name.as_str());
        let mut worlds: Vec<String> =
            in_order.filter(|name| found.contains(name)).map(str::to_owned).collect();
        if worlds.len() > 1 {
            worlds.push(TOGETHER.to_owned());
        }
        let has = |arm: &str| results.cells.iter().any(|cell| cell.arm == arm);
        let size = results.recipe.size(results.quick);
        let arms = results.recipe.arms_of(size).into_iter().map(|arm| arm.name.get_ref().clone());
        let arms: Vec<String> = arms.filter(|arm| has(arm)).collect();
        let baseline = results.recipe.baseline.clone();
        let mut figures = BTreeMap::new();
        for world in &worlds {
            let cells: Vec<&Cell> =
                results.cells.iter().filter(|cell| *world == TOGETHER || cell.world == *world).collect();
            figures.insert(world.clone(), of_world(&cells, &arms, &baseline)?);
        }
        Ok(Self { worlds, arms, baseline, figures })
    }

    /// Returns a figure of an arm in a world.
    pub fn found(&self, world: &str, figure: &str, arm: &str) -> Option<&Found> {
        self.figures.get(world)?.get(figure)?.get(arm)
    }

    /// Returns the world whose figures answer the question: the only one, or all combined.
    pub fn main_world(&self) -> Option<&str> {
        self.worlds.last().map(String::as_str)
    }
}

fn of_world(
    cells: &[&Cell],
    arms: &[String],
    baseline: &str,
) -> Result<BTreeMap<String, BTreeMap<String, Found>>> {
    let names: BTreeSet<&String> = cells.iter().flat_map(|cell| cell.figures.keys()).collect();
    let mut all = BTreeMap::new();
    for name in names {
        let mut by_arm = BTreeMap::new();
        for arm in arms {
            if let Some(found) = of_arm(cells, name, arm, baseline)? {
                by_arm.insert(arm.clone(), found);
            }
        }
        all.insert(name.clone(), by_arm);
    }
    Ok(all)
}

fn of_arm(cells: &[&Cell], name: &str, arm: &str, baseline: &str) -> Result<Option<Found>> {
    let own: Vec<&&Cell> = cells.iter().filter(|cell| cell.arm == arm).collect();
    let values: Vec<f64> = own.iter().filter_map(|cell| cell.figures.get(name).copied()).collect();
    if values.is_empty() {
        return Ok(None);
    }
    // A follow-up that has not finished yet does not count as lacking its figures.
    let is_done = |cell: &&&&Cell| {
        name.split_once('/')
            .is_none_or(|(follow, _)| cell.courses.contains_key(follow) || cell.best.contains_key(follow))
    };
    let without = own.iter().filter(is_done).count() - values.len();
    let of_base = |cell: &Cell| {
        let same =
            |other: &&&Cell| other.arm == baseline && other.world == cell.world && other.seed == cell.seed;
        cells.iter().find(same)?.figures.get(name).copied()
    };
    let pairs: Vec<(f64, f64)> =
        own.iter().filter_map(|cell| Some((of_base(cell)?, *cell.figures.get(name)?))).collect();
    let difference = match arm == baseline || pairs.is_empty() {
        true => None,
        false => {
            let (base, own): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            Some(Mean::of_differences(&base, &own)?)
        }
    };
    Ok(Some(Found { mean: Mean::of(&values)?, without, difference }))
}
