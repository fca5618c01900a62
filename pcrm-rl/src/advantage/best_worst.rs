//! Pairs of sampled answers: the best and the worst to each prompt, by their rewards, for preference losses.

use serde::{Deserialize, Serialize};

use super::check_groups;
use crate::error::Result;
use crate::loss::preference::Pair;
use crate::metrics::Metrics;

/// The use of prompts whose best and worst answers have equal rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TiedSamples {
    /// The first of the answers is the chosen one and the last the rejected one, as in TRL.
    #[default]
    Keep,
    /// The prompt makes no pair.
    Drop,
}

/// The pairs that sampled answers make.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SampledPairs {
    /// The pairs, without bounds and with weight 1; places are those of the answers among all.
    pub pairs: Vec<Pair>,
    /// The difference of the rewards of every pair.
    pub margins: Vec<f64>,
    /// Prompts whose rewards are equal, kept or dropped.
    pub tied: usize,
    /// Prompts with fewer than two scored answers, which make no pair.
    pub unscored: usize,
}

/// The best and the worst answer of every group of `group`, one group after the other. Of equal rewards the first answer
/// is the best and the last the worst; answers without a reward are passed over.
///
/// # Errors
/// A group size that does not divide the number of answers.
pub fn best_and_worst(rewards: &[Option<f64>], group: usize, tied: TiedSamples) -> Result<SampledPairs> {
    check_groups(rewards.len(), group)?;
    let mut found = SampledPairs::default();
    for (number, of_group) in rewards.chunks(group).enumerate() {
        // −0 and 0 are equal rewards: adding 0 makes them the same number.
        let scored = || of_group.iter().enumerate().filter_map(|(at, reward)| Some((at, (*reward)? + 0.0)));
        // `max_by` gives the last of equals and `min_by` the first: the order is turned for both.
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
    /// Records `objective/scores_margin`, and as counts `pairs/tied` and `pairs/unscored`.
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

    /// Protects: which answers make a pair, ties as in TRL or dropped, and prompts that cannot make one.
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
