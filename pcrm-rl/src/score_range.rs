//! The scores that a reward model gives to answers of its own data, by which scores of other answers are judged later.

use pcrm_core::model::ModelConfig;
use serde::{Deserialize, Serialize};

/// The name of the range among the notes in a reward model's `config.json`.
pub(crate) const NOTE: &str = "scores";

/// Sets whose scores make a range.
pub(crate) const SETS: usize = 256;

/// Scores and margins of pairs that a reward model was trained or evaluated on. A policy that is trained by the model leaves
/// the range where it exploits it: nothing in the data says what scores beyond are worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct ScoreRange {
    /// The number of scores.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, which divides by their number.
    pub std: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
    /// The largest bound of a margin in training; `None` where no margin was bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_bound: Option<f64>,
}

impl ScoreRange {
    /// The range of these scores under these bounds, of which infinite ones are none; `None` of no score.
    pub fn of(scores: &[f64], bounds: &[f32]) -> Option<Self> {
        let count = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / count;
        let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
        let finite = bounds.iter().filter(|bound| bound.is_finite()).map(|bound| f64::from(*bound));
        (!scores.is_empty()).then(|| Self {
            count: scores.len(),
            mean,
            std: (squares / count).sqrt(),
            low: scores.iter().copied().fold(f64::INFINITY, f64::min),
            high: scores.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            largest_bound: finite.reduce(f64::max),
        })
    }

    /// The range that a reward model's `config.json` notes; `None` of a model that notes none.
    pub fn noted(config: &ModelConfig) -> Option<Self> {
        let note = config.raw.get("pcrm")?.get(NOTE)?;
        Self::deserialize(note).ok()
    }

    /// Returns true for a score beyond all of the range.
    pub fn is_beyond(&self, score: f64) -> bool {
        score < self.low || score > self.high
    }

    /// (score − mean) / std; 0 where all scores were equal.
    pub fn standard(&self, score: f64) -> f64 {
        if self.std > 0.0 { (score - self.mean) / self.std } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the range of scores, bounds that are none, and that a note is read as it was written.
    #[test]
    fn ranges_are_of_all_scores() {
        let range = ScoreRange::of(&[1.0, -2.0, 4.0], &[3.0, f32::INFINITY, 5.0]).unwrap();
        assert_eq!((range.low, range.high, range.mean, range.largest_bound), (-2.0, 4.0, 1.0, Some(5.0)));
        assert!((range.standard(4.0) - 3.0 / 6f64.sqrt()).abs() < 1e-12);
        assert_eq!((range.is_beyond(4.0), range.is_beyond(4.1), range.is_beyond(-2.1)), (false, true, true));
        assert_eq!(ScoreRange::of(&[], &[]), None);
        let note = serde_json::to_value(range).unwrap();
        assert_eq!(ScoreRange::deserialize(note).unwrap(), range);
    }
}
