//! Normalisation of scores by all scores so far (`RunningMoments` of trlx and TRL's former PPO).

use serde::{Deserialize, Serialize};

/// The constant added to a standard deviation before dividing by it: the precision of f32, as in trlx.
const EPSILON: f64 = f32::EPSILON as f64;

/// The mean and variance of all scores so far, stored in checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RunningMoments {
    /// Number of scores.
    pub count: f64,
    /// Mean.
    pub mean: f64,
    /// Σ (score − mean)².
    pub squares: f64,
}

impl RunningMoments {
    /// Adds the scores of a batch (Chan, Golub and LeVeque 1983).
    pub fn update(&mut self, scores: &[f64]) {
        let more = scores.len() as f64;
        if more == 0.0 {
            return;
        }
        let mean = scores.iter().sum::<f64>() / more;
        let squares: f64 = scores.iter().map(|score| (score - mean) * (score - mean)).sum();
        let (count, apart) = (self.count + more, mean - self.mean);
        self.squares += squares + apart * apart * self.count * more / count;
        self.mean += apart * more / count;
        self.count = count;
    }

    /// Returns the unbiased standard deviation; 1 for fewer than two scores.
    pub fn std(&self) -> f64 {
        match self.count > 1.0 {
            true => (self.squares / (self.count - 1.0)).sqrt(),
            false => 1.0,
        }
    }

    /// Returns score / std, or (score − mean) / std with `shift_mean`.
    pub fn normalise(&self, score: f64, shift_mean: bool) -> f64 {
        let shifted = if shift_mean { score - self.mean } else { score };
        shifted / (self.std() + EPSILON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: successive batches give the moments of all numbers together, also after serialisation.
    #[test]
    fn moments_are_those_of_all_scores() {
        let scores = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0];
        let (mut parts, mut whole) = (RunningMoments::default(), RunningMoments::default());
        assert_eq!(parts.normalise(2.0, false), 2.0 / (1.0 + EPSILON));
        whole.update(&scores);
        for part in [&scores[..1], &[], &scores[1..4], &scores[4..]] {
            parts.update(part);
            let text = serde_json::to_string(&parts).unwrap();
            parts = serde_json::from_str(&text).unwrap();
        }
        assert!((parts.mean - whole.mean).abs() < 1e-12 && (parts.std() - whole.std()).abs() < 1e-12);
        let mean = scores.iter().sum::<f64>() / 6.0;
        let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / 5.0;
        assert!((whole.std() - variance.sqrt()).abs() < 1e-12);
        assert!((whole.normalise(4.0, true) - (4.0 - mean) / variance.sqrt()).abs() < 1e-6);
    }
}
