//! The results of a study's runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::curve::PolicyPoint;
use super::recipe::Recipe;
use crate::worlds::Carried;

/// The results of an arm in a world with a seed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Cell {
    /// Name of the arm.
    pub arm: String,
    /// Name of the world.
    pub world: String,
    /// Seed.
    pub seed: u64,
    /// Figures by name: measures of the model, and `FOLLOW/FIGURE`.
    pub figures: BTreeMap<String, f64>,
    /// Training curves of policies, by follow-up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub courses: BTreeMap<String, Vec<PolicyPoint>>,
    /// Best-of-n points (n, KL, score, true reward), by follow-up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub best: BTreeMap<String, Vec<[f64; 4]>>,
}

/// An answer that an arm picked or wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredSample {
    /// Source of the answer: an arm, with the follow-up.
    pub from: String,
    /// Name of the arm.
    pub arm: String,
    /// Prompt.
    pub prompt: String,
    /// Answer.
    pub answer: String,
    /// True reward of the answer.
    pub truth: Option<f64>,
}

/// A world of the study, with its test of whether similarity carries preference strength.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorldFound {
    /// Name.
    pub name: String,
    /// Description of its true reward and its confound.
    pub about: String,
    /// Share of preference strength explained by similarity, by measure of similarity.
    pub carried: Vec<Carried>,
}

/// All results of a study.
#[derive(Debug, Clone, Serialize)]
pub struct Results {
    /// Recipe of the study.
    pub recipe: Recipe,
    /// True with `--quick`.
    pub quick: bool,
    /// Number of requested seeds.
    pub seeds: u64,
    /// Number of finished runs.
    pub done: usize,
    /// Number of all runs.
    pub runs: usize,
    /// Arms left out, with the reason.
    pub left_out: Vec<(String, String)>,
    /// Failed runs, with the reason.
    pub failed: Vec<(String, String)>,
    /// Worlds of the study.
    pub worlds: Vec<WorldFound>,
    /// Results of every arm in every world with every seed.
    pub cells: Vec<Cell>,
    /// Answers of the first world and seed.
    pub samples: Vec<ScoredSample>,
}
