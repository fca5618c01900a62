//! Advantages of tokens from scores, as in PPO: KL penalties, scores, whitening, estimation.

use super::shaping::token_rewards;
use super::whiten;
use crate::error::Result;
use crate::loss::policy::{KlEstimator, KlPlace, PpoConfig};
use crate::metrics::{Metrics, ScoredAnswer};
use crate::options::refuse;

/// A sampled answer with its score and the critic's values.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Episode<'a> {
    /// ln π of the answer's tokens at the time of sampling.
    pub log_probs: &'a [f64],
    /// ln π_ref of the tokens; empty without a reference.
    pub reference: &'a [f64],
    /// The critic's value before each token.
    pub values: &'a [f64],
    /// The score of the answer.
    pub score: f64,
    /// True if the answer has an end token.
    pub ended: bool,
}

/// The advantages and returns of the tokens of a batch of answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Returns {
    /// Advantage of every token of every answer.
    pub advantages: Vec<Vec<f64>>,
    /// Return at every token, the critic's target; not whitened.
    pub returns: Vec<Vec<f64>>,
    /// Mean over answers of the KL divergence, summed over tokens; it drives an adaptive coefficient.
    pub kl: f64,
}

impl PpoConfig {
    /// Computes the advantages and returns of a batch of answers, with this coefficient of the KL penalty.
    ///
    /// The score of an answer is shaped ([`ScoreShaping`](super::ScoreShaping)) and added at its last token
    /// to −coefficient·kl_t. Rewards are whitened without shifting their mean, if requested; advantages are
    /// estimated ([`Gae`](super::Gae)) and whitened over all tokens of the batch. Masked answers are excluded
    /// from whitening and have advantages of 0.
    ///
    /// Records `objective/{kl,entropy,non_score_reward,rlhf_reward,scores}` and `val/contain_eos_token`.
    ///
    /// # Errors
    /// Fails if columns differ in length or a number is not finite; the error names answer and token.
    pub fn returns(
        &self,
        episodes: &[Episode<'_>],
        coefficient: f64,
        metrics: &mut Metrics,
    ) -> Result<Returns> {
        let in_reward = self.kl_in == KlPlace::Reward;
        // The value of k2 does not estimate the divergence; only its gradient does.
        let estimator = match self.kl_estimator {
            KlEstimator::K2 => KlEstimator::K1,
            other => other,
        };
        let mut rewards = Vec::with_capacity(episodes.len());
        let mut found = Returns::default();
        let mut clamped = 0;
        for (at, episode) in episodes.iter().enumerate() {
            check(at, episode, coefficient != 0.0)?;
            let score = self.shaping.shaped(episode.score, episode.ended);
            let estimates = episode.log_probs.iter().zip(episode.reference).map(|(log_prob, reference)| {
                let estimate = estimator.in_reward(*log_prob, *reference);
                clamped += usize::from(estimate.clamped);
                estimate.value
            });
            let mut kl: Vec<f64> = estimates.collect();
            let sum: f64 = kl.iter().sum();
            kl.resize(episode.log_probs.len(), 0.0); // without a reference
            let taken = if in_reward { coefficient } else { 0.0 };
            rewards.push(token_rewards(&kl, taken, score));
            found.kl += sum / episodes.len() as f64;
            metrics.outcome(&ScoredAnswer {
                score,
                kl: sum,
                surprise: -episode.log_probs.iter().sum::<f64>(),
                coefficient: taken,
                ended: episode.ended,
            });
        }
        metrics.sum("clamps/kl", clamped as f64);
        if self.whiten_rewards {
            self.whiten_kept(episodes, &mut rewards, false);
        }
        for (episode, rewards) in episodes.iter().zip(&rewards) {
            let (advantages, returns) = self.gae().of(rewards, episode.values);
            found.advantages.push(advantages);
            found.returns.push(returns);
        }
        if self.whiten_advantages {
            self.whiten_kept(episodes, &mut found.advantages, true);
        }
        for (episode, advantages) in episodes.iter().zip(&mut found.advantages) {
            if self.masks(episode.ended) {
                advantages.fill(0.0);
            }
        }
        Ok(found)
    }

    /// Whitens the rows of unmasked answers.
    fn whiten_kept(&self, episodes: &[Episode<'_>], rows: &mut [Vec<f64>], shift_mean: bool) {
        let places: Vec<usize> = (0..rows.len()).filter(|at| !self.masks(episodes[*at].ended)).collect();
        let mut of_kept: Vec<Vec<f64>> = places.iter().map(|at| std::mem::take(&mut rows[*at])).collect();
        whiten(&mut of_kept, shift_mean);
        for (at, row) in places.into_iter().zip(of_kept) {
            rows[at] = row;
        }
    }
}

fn check(at: usize, episode: &Episode<'_>, penalised: bool) -> Result<()> {
    let expected = episode.log_probs.len();
    let columns =
        [("log_probs", episode.log_probs), ("reference", episode.reference), ("values", episode.values)];
    for (name, numbers) in columns {
        let absent = name == "reference" && numbers.is_empty() && !penalised;
        if numbers.len() != expected && !absent {
            return refuse(name, format!("answer {at} has {}; expected {expected}", numbers.len()));
        }
        if let Some(token) = numbers.iter().position(|number| !number.is_finite()) {
            let message = format!("answer {at}, token {token}: {}; expected a finite number", numbers[token]);
            return refuse(name, message);
        }
    }
    match episode.score.is_finite() {
        true => Ok(()),
        false => refuse("reward", format!("answer {at} has {}; expected a finite number", episode.score)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advantage::{KlControl, ScoreShaping};

    /// Protects: the divergence is estimated by k1 if the loss has k2, whose value is half its square.
    #[test]
    fn k2_is_not_the_divergence() -> Result<()> {
        let config =
            PpoConfig { kl_in: KlPlace::Loss, kl_estimator: KlEstimator::K2, ..PpoConfig::default() };
        let (log_probs, reference, values) = ([-1.0, -2.0], [-1.5, -5.0], [0.0, 0.0]);
        let episode = Episode {
            log_probs: &log_probs,
            reference: &reference,
            values: &values,
            ended: true,
            ..Episode::default()
        };
        let mut metrics = Metrics::default();
        assert_eq!(config.returns(&[episode], 0.05, &mut metrics)?.kl, 3.5);
        assert_eq!(metrics.summary().get("objective/kl"), Some(3.5));
        Ok(())
    }

    /// Protects: masked answers affect neither the policy nor the whitening of others; errors name invalid
    /// columns; an answer without a reference has no penalty.
    #[test]
    fn masked_answers_are_left_out() -> Result<()> {
        let config = PpoConfig {
            mask_truncated_completions: true,
            whiten_rewards: true,
            kl: KlControl { kl_coef: 0.0, ..KlControl::default() },
            shaping: ScoreShaping { reward_clip_range: Some([-5.0, 5.0]), ..ScoreShaping::default() },
            ..PpoConfig::default()
        };
        let episode = |values, score, ended| Episode {
            log_probs: &[-1.0, -2.0],
            values,
            score,
            ended,
            ..Episode::default()
        };
        let kept = [episode(&[0.5, 1.0], 2.0, true), episode(&[-0.5, 0.0], 1.0, true)];
        let cut = episode(&[7.0, -9.0], 100.0, false);
        let mut metrics = Metrics::default();
        let alone = config.returns(&kept, 0.0, &mut metrics)?;
        let beside = config.returns(&[kept[0], cut, kept[1]], 0.0, &mut metrics)?;
        assert_eq!(alone.advantages, [beside.advantages[0].clone(), beside.advantages[2].clone()]);
        assert_eq!(beside.advantages[1], [0.0, 0.0]);
        assert_eq!(metrics.summary().get("objective/scores"), Some((3.0 + 8.0) / 5.0));
        let message = config.returns(&kept, 0.1, &mut metrics).err().map(|error| error.to_string());
        assert_eq!(message.as_deref(), Some("reference: answer 0 has 0; expected 2"));
        let nan = [episode(&[0.5, f64::NAN], 2.0, true)];
        let message = config.returns(&nan, 0.0, &mut metrics).err().map(|error| error.to_string());
        assert_eq!(message.as_deref(), Some("values: answer 0, token 1: NaN; expected a finite number"));
        Ok(())
    }
}
