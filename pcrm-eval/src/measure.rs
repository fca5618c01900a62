//! The measures of margins as an enum, for code that iterates over all of them.

use serde::{Deserialize, Serialize};

use crate::accuracy::correctness;
use crate::calibration::{BINS, brier, expected_calibration_error, log_loss, reliability};
use crate::error::{Result, check_finite};
use crate::quantiles::mean;

/// A measure of a set of margins Δ = score(chosen) − score(rejected).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Share of pairs ordered as labelled, ties one half.
    Accuracy,
    /// Mean −ln σ(Δ), in nats.
    LogLoss,
    /// Mean (1 − σ(Δ))².
    Brier,
    /// Expected calibration error with 15 bins.
    Ece,
    /// Mean Δ, in the unit of the scores.
    MeanMargin,
}

impl Measure {
    /// All measures.
    pub const ALL: [Self; 5] = [Self::Accuracy, Self::LogLoss, Self::Brier, Self::Ece, Self::MeanMargin];

    /// The measures that a temperature changes and that are shown after one.
    pub const SCALED: [Self; 3] = [Self::LogLoss, Self::Brier, Self::Ece];

    /// Returns the name in tables and sentences.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::LogLoss => "log loss",
            Self::Brier => "Brier score",
            Self::Ece => "calibration error",
            Self::MeanMargin => "mean margin",
        }
    }

    /// Computes the measure on these margins.
    ///
    /// # Errors
    /// Fails if there are no margins or a margin is not finite.
    pub fn of(self, margins: &[f64]) -> Result<f64> {
        check_finite("margin of pair", margins)?;
        match self {
            Self::Accuracy => Ok(margins.iter().map(|&m| correctness(m)).sum::<f64>() / margins.len() as f64),
            Self::LogLoss => log_loss(margins),
            Self::Brier => brier(margins),
            Self::Ece => expected_calibration_error(&reliability(margins, BINS)?),
            Self::MeanMargin => Ok(mean(margins)),
        }
    }
}
