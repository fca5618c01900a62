//! Scores compared with the true rewards of the judge behind the labels.

use serde::{Deserialize, Serialize};

use super::PairScore;
use crate::correlation::{kendall, pearson, spearman};
use crate::error::{Error, Result};

/// Correlation of scores with true rewards, over the pairs with a true reward for both answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrueReward {
    /// Number of answers compared, two per pair.
    pub answers: usize,
    /// Pearson's r of score and true reward; absent if one side is constant.
    pub pearson: Option<f64>,
    /// Spearman's ρ; absent in the same case.
    pub spearman: Option<f64>,
    /// Kendall's τ-b; absent in the same case.
    pub kendall: Option<f64>,
}

/// Correlates the scores of the pairs that have true rewards with them.
///
/// # Errors
/// Fails if a true reward is not finite.
pub(super) fn true_reward(pairs: &[PairScore]) -> Result<Option<TrueReward>> {
    let (mut scores, mut rewards) = (Vec::new(), Vec::new());
    for (at, pair) in pairs.iter().enumerate() {
        let (Some(chosen), Some(rejected)) = (pair.true_chosen, pair.true_rejected) else { continue };
        if let Some(&value) = [chosen, rejected].iter().find(|reward| !reward.is_finite()) {
            return Err(Error::NotFinite { what: "true reward of an answer of pair", at, value });
        }
        scores.extend([pair.chosen, pair.rejected]);
        rewards.extend([chosen, rejected]);
    }
    if scores.is_empty() {
        return Ok(None);
    }
    Ok(Some(TrueReward {
        answers: scores.len(),
        pearson: pearson(&scores, &rewards)?,
        spearman: spearman(&scores, &rewards)?,
        kendall: kendall(&scores, &rewards)?,
    }))
}
