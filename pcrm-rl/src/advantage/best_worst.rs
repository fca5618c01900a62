//! Pairs of sampled answers for preference losses: the best and the worst answer to each prompt by reward.

use serde::{Deserialize, Serialize};

use super::check_groups;
use crate::error::Result;
use crate::loss::preference::Pair;
use crate::metrics::Metrics;

/// The treatment of prompts whose best and worst answers have equal rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TiedSamples {
    /// The first answer is chosen and the last rejected, as in TRL.
    #[default]
    Keep,
    /// The prompt gives no pair.
    Drop,
}

/// The pairs built from sampled answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SampledPairs {
    /// Pairs, without bounds and with weight 1; indices are among all answers.
    pub pairs: Vec<Pair>,
    /// Difference of the rewards of every pair.
    pub margins: Vec<f64>,
    /// Number of prompts with equal rewards, kept or dropped.
    pub tied: usize,
    /// Number of prompts with fewer than two scored answers, which give no pair.
    pub unscored: usize,
}

/// Returns the best and the worst answer of every consecutive group of `group` answers. Among equal rewards
/// the first answer is the best and the last the worst; answers without a reward are skipped.
///
/// # Errors
/// Fails if the group size does not divide the number of answers.
pub fn best_and_worst(rewards: &[Option<f64>], group: usize, tied: TiedSamples) -> Result<SampledPairs> {
    check_groups(rewards.len(), group)?;
    let mut found = SampledPairs::default();
    for (number, of_group) in rewards.chunks(group).enumerate() {
        // Adding 0 turns −0 into 0, so that they count as equal rewards.
        let scored = || of_group.iter().enumerate().filter_map(|(at, reward)| Some((at, (*reward)? + 0.0)));
        // `max_by` returns the last of equals and `min_by` the first: reverse the order for both.
        let best = scored().rev().max_by(|a, b| a.1.total_cmp(&b.1));
        let worst = scored().rev().min_by(|a, b| a.1.total_cmp(&b.1));
        let (Some((best, high)), Some((worst, low))) = (best, worst) else {
            found.unscored += 1;
            continue;
        };
        if best == worst {
            found.unscored += 1;
            continue;
        }
        found.tied += usize::from(high == low);
        if high == low && tied == TiedSamples::Drop {
            continue;
        }
        let place = |at: usize| number * group + at;
        let pair = Pair { chosen: place(best), rejected: place(worst), bound: f64::INFINITY, weight: 1.0 };
        found.pairs.push(pair);
        found.margins.push(high - low);
    }
    Ok(found)
}

impl SampledPairs {
    /// Records `objective/scores_margin`, and the counts `pairs/tied` and `pairs/unscored`.
    pub fn record(&self, metrics: &mut Metrics) {
        self.margins.iter().for_each(|margin| metrics.mean("objective/scores_margin", *margin, 1.0));
        metrics.sum("pairs/tied", self.tied as f64);
        metrics.sum("pairs/unscored", self.unscored as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(found: &SampledPairs) -> Vec<(usize, usize)> {
        found.pairs.iter().map(|pair| (pair.chosen, pair.rejected)).collect()
    }

    /// Protects: the pairing of answers, ties kept as in TRL or dropped, and prompts without a pair.
    #[test]
    fn pairs_are_of_the_best_and_the_worst() -> Result<()> {
        let rewards = [Some(1.0), Some(3.0), Some(-2.0), Some(3.0), None, Some(1.0), None, Some(0.5)];
        let found = best_and_worst(&rewards, 4, TiedSamples::Keep)?;
        assert_eq!((places(&found), found.margins.clone()), (vec![(1, 2), (5, 7)], vec![5.0, 0.5]));
        let tied = [Some(2.0), Some(2.0), None, Some(1.0), None, None, Some(0.0), Some(-0.0)];
        let kept = best_and_worst(&tied, 2, TiedSamples::Keep)?;
        assert_eq!((places(&kept), kept.tied, kept.unscored), (vec![(0, 1), (6, 7)], 2, 2));
        let dropped = best_and_worst(&tied, 2, TiedSamples::Drop)?;
        assert_eq!((places(&dropped), dropped.tied), (Vec::new(), 2));
        assert!(best_and_worst(&tied, 3, TiedSamples::Keep).is_err());
        let mut metrics = Metrics::default();
        kept.record(&mut metrics);
        assert_eq!(metrics.summary().get("pairs/tied"), Some(2.0));
        Ok(())
    }
}
