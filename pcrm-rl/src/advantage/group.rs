//! Advantages within a group: each answer to a prompt against the other answers to it (GRPO, arXiv
//! 2402.03300).

use serde::{Deserialize, Serialize};

use super::rewards::weighted;
use super::{Advantages, EPSILON, Moments, Rewards, check_groups};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::options::refuse;

/// The divisor of advantages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// The standard deviation of the rewards of a prompt's answers.
    #[default]
    Group,
    /// The standard deviation of all rewards of the batch (arXiv 2508.08221).
    Batch,
    /// No division (Dr. GRPO, arXiv 2503.20783).
    None,
}

/// The order of summing and normalising several rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MultiObjective {
    /// The weighted sum of the rewards is normalised.
    #[default]
    SumThenNormalize,
    /// Each reward is normalised within its group, and their weighted sum over the batch (GDPO, arXiv
    /// 2601.05242).
    NormalizeThenSum,
}

/// The advantages of GRPO, with TRL's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GroupAdvantages {
    /// Divisor of advantages.
    pub scale_rewards: ScaleRewards,
    /// Order of summing and normalising several rewards.
    pub multi_objective_aggregation: MultiObjective,
}

impl GroupAdvantages {
    /// Computes the advantages of answers in consecutive groups of `group`.
    ///
    /// `sum_then_normalize`: A = (r − mean of the group) / (std + 1e-4), with r = Σ w·reward, or the combined
    /// reward ([`Rewards::combined`]).
    /// `normalize_then_sum`: every reward is normalised this way within its group, and A is the normalised
    /// weighted sum over the whole batch; `scale_rewards` does not apply. Standard deviations are unbiased;
    /// an answer with nothing to compare to gets 0.
    ///
    /// # Errors
    /// Fails if the group size does not divide the number of answers, or if `normalize_then_sum` gets rewards
    /// that are combined in another way.
    pub fn of(&self, rewards: &Rewards, group: usize) -> Result<Advantages> {
        check_groups(rewards.len(), group)?;
        if rewards.is_combined() && self.multi_objective_aggregation == MultiObjective::NormalizeThenSum {
            let message = "normalize_then_sum: sums rewards, which are combined in another way; expected \
                           sum_then_normalize";
            refuse("multi-objective-aggregation", message.into())?;
        }
        Ok(match self.multi_objective_aggregation {
            MultiObjective::SumThenNormalize => self.sum_then_normalize(rewards, group),
            MultiObjective::NormalizeThenSum => normalize_then_sum(rewards, group),
        })
    }

    fn sum_then_normalize(&self, rewards: &Rewards, group: usize) -> Advantages {
        let totals = rewards.totals();
        let batch = Moments::of(totals.iter().copied().flatten());
        let mut values = Vec::with_capacity(totals.len());
        let mut equal = 0;
        for of_group in totals.chunks(group) {
            let own = Moments::of(of_group.iter().copied().flatten());
            let scale = if self.scale_rewards == ScaleRewards::Batch { batch } else { own };
            equal += if scale.is_some_and(Moments::is_constant) { of_group.len() } else { 0 };
            let advantage = |reward: &Option<f64>| {
                let apart = (*reward)? - own?.mean;
                match self.scale_rewards {
                    ScaleRewards::None => Some(apart),
                    ScaleRewards::Group | ScaleRewards::Batch => Some(apart / (scale?.std? + EPSILON)),
                }
            };
            values.extend(of_group.iter().map(|reward| advantage(reward).unwrap_or(0.0)));
        }
        Advantages { zero_std: share(equal, totals.len()), values, rewards: totals }
    }
}

fn normalize_then_sum(rewards: &Rewards, group: usize) -> Advantages {
    let mut normalised = Vec::with_capacity(rewards.len());
    for rows in rewards.rows().chunks(group) {
        let moments: Vec<Option<Moments>> = (0..rewards.weights().len())
            .map(|function| Moments::of(rows.iter().filter_map(|row| row[function])))
            .collect();
        normalised.extend(rows.iter().map(|row| {
            let of = |(value, moments): (&Option<f64>, &Option<Moments>)| (*moments)?.normalise((*value)?);
            let normal: Vec<Option<f64>> = row.iter().zip(&moments).map(of).collect();
            // A reward that was alone in its group contributes nothing, but its answer was scored.
            let scored = row.iter().any(Option::is_some);
            scored.then(|| weighted(&normal, rewards.weights()).unwrap_or(0.0))
        }));
    }
    let batch = Moments::of(normalised.iter().copied().flatten());
    let advantage = |value: &Option<f64>| batch.and_then(|batch| batch.normalise((*value)?)).unwrap_or(0.0);
    let equal = if batch.is_some_and(Moments::is_constant) { rewards.len() } else { 0 };
    Advantages {
        values: normalised.iter().map(advantage).collect(),
        rewards: rewards.totals(),
        zero_std: share(equal, rewards.len()),
    }
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

impl Advantages {
    /// Records `frac_reward_zero_std`.
    pub fn record(&self, metrics: &mut Metrics) {
        metrics.mean("frac_reward_zero_std", self.zero_std, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advantage::LeaveOneOut;
    use crate::loss::policy::{RlooConfig, Sampled};

    fn rewards(rows: &[Option<f64>]) -> Result<Rewards> {
        Rewards::new(vec!["r".into()], vec![1.0], rows.iter().map(|value| vec![*value]).collect())
    }

    /// Protects: combined rewards take the place of the weighted sum, in GRPO, RLOO and the metrics, and are not
    /// normalised one by one.
    #[test]
    fn combined_rewards_replace_the_sum() -> Result<()> {
        let rows = vec![vec![Some(3.0), Some(1.0)], vec![Some(0.0), Some(2.0)]];
        let sums = Rewards::new(vec!["a".into(), "b".into()], vec![1.0, 1.0], rows)?;
        let lowest = sums.clone().combined(vec![Some(1.0), Some(0.0)])?;
        let unscaled = GroupAdvantages { scale_rewards: ScaleRewards::None, ..GroupAdvantages::default() };
        assert_eq!(unscaled.of(&sums, 2)?.values, [1.0, -1.0]);
        assert_eq!(unscaled.of(&lowest, 2)?.values, [0.5, -0.5]);
        let rloo = RlooConfig { beta: 0.0, ..RlooConfig::default() };
        let (mut metrics, answers) = (Metrics::default(), [Sampled::default(); 2]);
        assert_eq!(rloo.advantages(&lowest, &answers, 2, &mut metrics)?.values, [1.0, -1.0]);
        assert_eq!(metrics.summary().get("reward"), Some(0.5));
        assert_eq!(rloo.advantages(&sums, &answers, 2, &mut Metrics::default())?.values, [2.0, -2.0]);
        let each = GroupAdvantages {
            multi_objective_aggregation: MultiObjective::NormalizeThenSum,
            ..GroupAdvantages::default()
        };
        let message = each.of(&lowest, 2).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains("normalize_then_sum: sums rewards"), "{message}");
        assert!(
            sums.clone().combined(vec![None]).is_err() && sums.combined(vec![Some(f64::NAN); 2]).is_err()
        );
        Ok(())
    }

    /// Protects: equal rewards have no advantage and no signal, however their sum is rounded.
    #[test]
    fn equal_rewards_have_no_signal() -> Result<()> {
        for (reward, count) in [(0.1, 8), (0.3, 6), (0.7, 7), (f64::from(0.1_f32) * 0.1, 8)] {
            let rewards = rewards(&vec![Some(reward); count])?;
            for scale_rewards in [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None] {
                let options = GroupAdvantages { scale_rewards, ..GroupAdvantages::default() };
                let found = options.of(&rewards, count)?;
                assert_eq!(found.values, vec![0.0; count], "{count} times {reward}, {scale_rewards:?}");
                assert_eq!((found.signals(count), found.zero_std), (vec![false], 1.0));
            }
            let found = LeaveOneOut::default().of(&rewards.totals(), count)?;
            assert_eq!((found.values, found.zero_std), (vec![0.0; count], 1.0));
        }
        // 0.1 + 0.2 and 0.3 are the same reward, up to rounding.
        let found = GroupAdvantages::default().of(&rewards(&[Some(0.1 + 0.2), Some(0.3)])?, 2)?;
        assert_eq!(found.signals(2), [false]);
        Ok(())
    }

    /// Protects: groups without signal, without rewards and with a single reward give 0, never NaN.
    #[test]
    fn groups_without_signal_give_nothing() -> Result<()> {
        let rows = [Some(2.0), Some(2.0), None, None, Some(1.0), None, Some(0.0), Some(1.0)];
        for scale_rewards in [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None] {
            let found =
                GroupAdvantages { scale_rewards, ..GroupAdvantages::default() }.of(&rewards(&rows)?, 2)?;
            assert_eq!(found.values[..6], [0.0; 6], "{scale_rewards:?}");
            assert!(found.values[6] < 0.0 && found.values[7] == -found.values[6], "{scale_rewards:?}");
            assert_eq!(found.signals(2), [false, false, false, true]);
            assert_eq!(found.zero_std, if scale_rewards == ScaleRewards::Batch { 0.0 } else { 0.25 });
        }
        let none = rewards(&[None, None])?;
        for multi_objective_aggregation in
            [MultiObjective::SumThenNormalize, MultiObjective::NormalizeThenSum]
        {
            let options = GroupAdvantages { multi_objective_aggregation, ..GroupAdvantages::default() };
            assert_eq!(options.of(&none, 2)?.values, [0.0, 0.0]);
        }
        let message = GroupAdvantages::default().of(&none, 3).err().map(|error| error.to_string());
        assert!(message.unwrap_or_default().starts_with("num-generations: 3: "));
        Ok(())
    }
}
