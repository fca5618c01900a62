//! Shapes an answer's score before it becomes a reward: clipping, and a penalty for answers without an end.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::options::{number, refuse};

/// Clipping of scores, and the penalty for answers that were cut off.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ScoreShaping {
    /// Lowest and highest score; scores beyond are clipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_clip_range: Option<[f64; 2]>,
    /// Penalty subtracted from the score of an answer without an end token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_eos_penalty: Option<f64>,
}

impl ScoreShaping {
    /// Refuses an empty range and an invalid penalty.
    ///
    /// # Errors
    /// Fails if the range is empty or the penalty is not positive.
    pub fn check(&self) -> Result<()> {
        if let Some([low, high]) = self.reward_clip_range
            && !(low < high && low.is_finite() && high.is_finite())
        {
            return refuse(
                "reward-clip-range",
                format!("{low}, {high}: expected a lower and a higher number"),
            );
        }
        match self.missing_eos_penalty {
            Some(penalty) => number("missing-eos-penalty", penalty, penalty > 0.0, "a positive number"),
            None => Ok(()),
        }
    }

    /// Returns the score after clipping and, for an answer without an end, after subtracting the penalty,
    /// which is not clipped.
    pub fn shaped(&self, score: f64, ended: bool) -> f64 {
        let clipped = match self.reward_clip_range {
            Some([low, high]) => score.max(low).min(high),
            None => score,
        };
        match self.missing_eos_penalty {
            Some(penalty) if !ended => clipped - penalty,
            _ => clipped,
        }
    }
}

/// Returns the rewards of an answer's tokens: −coefficient·kl_t for each, plus the score at the last one.
///
/// TRL's PPO adds the score one token later if the padded row has room, and bootstraps from the value there.
pub fn token_rewards(kl: &[f64], coefficient: f64, score: f64) -> Vec<f64> {
    let mut rewards: Vec<f64> = kl.iter().map(|kl| -coefficient * kl).collect();
    if let Some(last) = rewards.last_mut() {
        *last += score;
    }
    rewards
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: clipping before the penalty, the penalty only for cut answers, and the score on the last
    /// token.
    #[test]
    fn scores_are_clipped_and_cut_answers_pay() {
        let shaping = ScoreShaping { reward_clip_range: Some([-5.0, 5.0]), missing_eos_penalty: Some(1.0) };
        assert_eq!((shaping.shaped(9.0, true), shaping.shaped(-9.0, false)), (5.0, -6.0));
        assert_eq!(ScoreShaping::default().shaped(9.0, false), 9.0);
        assert_eq!(token_rewards(&[1.0, -2.0], 0.5, 3.0), [-0.5, 4.0]);
        assert_eq!(token_rewards(&[], 0.5, 3.0), [0.0; 0]);
        for (faulty, expected) in [
            (ScoreShaping { reward_clip_range: Some([1.0, 1.0]), ..shaping }, "reward-clip-range: 1, 1: "),
            (ScoreShaping { missing_eos_penalty: Some(-1.0), ..shaping }, "missing-eos-penalty: -1: "),
        ] {
            let message = faulty.check().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
