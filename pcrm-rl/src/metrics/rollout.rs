//! Metrics of sampled answers, common to all trainers: lengths, ends, scores and divergences.

use pcrm_eval::correlation::pearson;

use super::Metrics;

/// A sampled answer with its length and reward.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Completion {
    /// Number of tokens that the policy chose, including the end.
    pub tokens: usize,
    /// True if the answer ended by itself.
    pub ended: bool,
    /// Reward; `None` if no function scored the answer.
    pub reward: Option<f64>,
}

/// The scores of a sampled answer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ScoredAnswer {
    /// Score for training.
    pub score: f64,
    /// KL divergence from the reference, summed over tokens.
    pub kl: f64,
    /// Σ −ln π of its tokens.
    pub surprise: f64,
    /// Coefficient of the divergence that is subtracted from the score.
    pub coefficient: f64,
    /// True if the answer ended by itself.
    pub ended: bool,
}

impl Metrics {
    /// Records the lengths of a rollout's answers, as GRPO does: `completions/{mean,min,max}_length`,
    /// `completions/{mean,min,max}_terminated_length` of those that ended, and `completions/clipped_ratio`,
    /// the share of the others. For the scored ones also `completions/reward_length_correlation`, Pearson's r
    /// of reward and length.
    pub fn completions(&mut self, answers: &[Completion]) {
        for answer in answers {
            let tokens = answer.tokens as f64;
            self.mean("completions/mean_length", tokens, 1.0);
            self.min("completions/min_length", tokens);
            self.max("completions/max_length", tokens);
            self.mean("completions/clipped_ratio", f64::from(u8::from(!answer.ended)), 1.0);
            if answer.ended {
                self.mean("completions/mean_terminated_length", tokens, 1.0);
                self.min("completions/min_terminated_length", tokens);
                self.max("completions/max_terminated_length", tokens);
            }
        }
        let scored = answers.iter().filter_map(|answer| Some((answer.reward?, answer.tokens as f64)));
        let (rewards, lengths): (Vec<f64>, Vec<f64>) = scored.unzip();
        if let Ok(Some(r)) = pearson(&rewards, &lengths) {
            self.mean("completions/reward_length_correlation", r, 1.0);
        }
    }

    /// Records the scores of an answer, as PPO and online DPO do: `objective/{scores,kl,entropy}`,
    /// `objective/non_score_reward` (−coefficient·KL), `objective/rlhf_reward` (the sum of that and the
    /// score) and `val/contain_eos_token`. As in TRL, the entropy is Σ −ln π of the sampled tokens.
    pub fn outcome(&mut self, outcome: &ScoredAnswer) {
        let penalty = -outcome.coefficient * outcome.kl;
        for (name, value) in [
            ("objective/kl", outcome.kl),
            ("objective/entropy", outcome.surprise),
            ("objective/non_score_reward", penalty),
            ("objective/rlhf_reward", outcome.score + penalty),
            ("objective/scores", outcome.score),
            ("val/contain_eos_token", f64::from(u8::from(outcome.ended))),
        ] {
            self.mean(name, value, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: answers that were cut off are in the lengths and not in those of ended ones; unscored ones
    /// are excluded from the correlation.
    #[test]
    fn lengths_are_of_ended_and_of_all() {
        let of = |tokens, ended, reward| Completion { tokens, ended, reward };
        let mut metrics = Metrics::default();
        metrics.completions(&[
            of(4, true, Some(1.0)),
            of(8, false, Some(3.0)),
            of(2, true, Some(0.0)),
            of(6, true, None),
        ]);
        let summary = metrics.summary();
        for (name, value) in [
            ("completions/mean_length", 5.0),
            ("completions/min_length", 2.0),
            ("completions/max_length", 8.0),
            ("completions/clipped_ratio", 0.25),
            ("completions/mean_terminated_length", 4.0),
            ("completions/max_terminated_length", 6.0),
            ("completions/reward_length_correlation", 1.0),
        ] {
            assert!(summary.get(name).is_some_and(|got| (got - value).abs() < 1e-12), "{name}: {summary:?}");
        }
        let mut cut = Metrics::default();
        cut.completions(&[of(3, false, None)]);
        assert_eq!(cut.summary().get("completions/mean_terminated_length"), None);
        assert_eq!(cut.summary().get("completions/reward_length_correlation"), None);
    }
}
