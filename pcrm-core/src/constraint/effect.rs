//! The effect of features on Δ*, for display.

use serde::{Deserialize, Serialize};

/// The direction of Δ* as a feature grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Unrestricted.
    Free,
    /// Never decreasing.
    Increasing,
    /// Never increasing.
    Decreasing,
}

/// The effect of one feature on Δ*, for constraints fitted to several features; for display.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    /// The feature's name.
    pub feature: String,
    /// The direction that Δ* was allowed to take as the feature grows.
    pub direction: Direction,
    /// The feature's mean over the fitted pairs, in its own units.
    pub mean: f64,
    /// Its standard deviation over the fitted pairs.
    pub std: f64,
    /// The weight of the feature, if the model has weights.
    pub weight: Option<Weight>,
    /// Its values from the 1st to the 99th percentile with Δ* at each, the other features at their means.
    pub points: Vec<(f64, f64)>,
}

/// The weight of a feature: the change of the model's output per standard deviation of the feature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Weight {
    /// The mean over the models of all folds.
    pub mean: f64,
    /// The smallest over the models.
    pub low: f64,
    /// The largest over the models.
    pub high: f64,
}
