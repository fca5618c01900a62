//! The range of a reward model's scores on its own data, for judging scores of other answers later.

use pcrm_core::model::Outline;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The key of the range among the notes in a reward model's `config.json`.
pub(crate) const NOTE: &str = "scores";

/// The number of sets whose scores make a range.
pub(crate) const SETS: usize = 256;

/// The range of scores on pairs that a reward model was trained or evaluated on. A policy that exploits the model
/// leaves this range, and the data contain no evidence on scores beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct ScoreRange {
    /// Number of scores.
    pub count: usize,
    /// Mean.
    pub mean: f64,
    /// Standard deviation, dividing by the number of scores.
    pub std: f64,
    /// Lowest score.
    pub low: f64,
    /// Highest score.
    pub high: f64,
    /// Largest bound of a margin in training; `None` if no margin was bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_bound: Option<f64>,
}

impl ScoreRange {
    /// Computes the range of these scores; infinite `bounds` are ignored. `None` without scores.
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

    /// Reads the range from a reward model's `config.json`; `None` if it has none.
    pub fn noted<'a>(model: impl Into<Outline<'a>>) -> Option<Self> {
        let note = model.into().raw.get("pcrm")?.get(NOTE)?;
        Self::deserialize(note).ok()
    }

    /// Removes the range from a reward model's notes, for weights that give other scores.
    pub fn drop_noted(notes: &mut Map<String, Value>) {
        notes.shift_remove(NOTE);
    }

    /// Divides the range in a reward model's notes, if they have one, as all scores of the model are divided.
    pub fn divide_noted(notes: &mut Map<String, Value>, divisor: f64) {
        if let Some(note) = notes.get_mut(NOTE)
            && let Ok(range) = Self::deserialize(&*note)
        {
            *note = json!(Self {
                count: range.count,
                mean: range.mean / divisor,
                std: range.std / divisor,
                low: range.low / divisor,
                high: range.high / divisor,
                largest_bound: range.largest_bound.map(|bound| bound / divisor),
            });
        }
    }

    /// Returns true for a score outside the range.
    pub fn is_beyond(&self, score: f64) -> bool {
        score < self.low || score > self.high
    }

    /// Returns (score − mean) / std; 0 if all scores were equal.
    pub fn standard(&self, score: f64) -> f64 {
        if self.std > 0.0 { (score - self.mean) / self.std } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the range of scores, infinite bounds, and a round trip through the note.
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
