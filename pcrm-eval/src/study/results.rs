//! What the runs of a study found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::curve::Point;
use super::recipe::Recipe;
use crate::worlds::Carried;

/// The results of an arm in a world with a seed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Cell {
    /// The arm.
    pub arm: String,
    /// The world.
    pub world: String,
    /// The seed.
    pub seed: u64,
    /// Figures by name: measures of the model, and `FOLLOW/FIGURE`.
    pub figures: BTreeMap<String, f64>,
    /// The courses of policies, by follow-up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub courses: BTreeMap<String, Vec<Point>>,
    /// Best of n: (n, KL, score, true reward), by follow-up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub best: BTreeMap<String, Vec<[f64; 4]>>,
}

/// An answer that an arm chose or wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Where it comes from: an arm, by a follow-up.
    pub from: String,
    /// The arm.
    pub arm: String,
    /// The prompt.
    pub prompt: String,
    /// The answer.
    pub answer: String,
    /// Its true reward.
    pub truth: Option<f64>,
}

/// A world of the study, with its own test of whether likeness carries preference strength.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorldFound {
    /// Its name.
    pub name: String,
    /// What is worth and what is liked in it.
    pub about: String,
    /// The share of preference strength that likeness carries, by measure of likeness.
    pub carried: Vec<Carried>,
}

/// Everything a study found.
#[derive(Debug, Clone, Serialize)]
pub struct Results {
    /// The study.
    pub recipe: Recipe,
    /// True with `--quick`.
    pub quick: bool,
    /// Seeds that were asked for.
    pub seeds: u64,
    /// Runs that are done.
    pub done: usize,
    /// All runs.
    pub runs: usize,
    /// Arms that were left out, with the reason.
    pub left_out: Vec<(String, String)>,
    /// Runs that failed, with the reason.
    pub failed: Vec<(String, String)>,
    /// The worlds.
    pub worlds: Vec<WorldFound>,
    /// The results of every arm in every world with every seed.
    pub cells: Vec<Cell>,
    /// Answers of the first world and seed.
    pub samples: Vec<Sample>,
}
