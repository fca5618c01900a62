//! Length bias: the model's preference for longer answers, compared with the labels'.

use serde::{Deserialize, Serialize};

use crate::accuracy::correctness;
use crate::correlation::{pearson, spearman};
use crate::error::{Result, check_finite, check_lengths};

/// Correlation of scores with lengths over all answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScoreLength {
    /// Pearson's r of score and tokens; absent if all scores or all lengths are equal.
    pub pearson: Option<f64>,
    /// Spearman's ρ of score and tokens; absent in the same cases.
    pub spearman: Option<f64>,
}

/// Win shares of the longer answer, over the pairs whose answers differ in length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LongerPreferred {
    /// Number of pairs whose answers differ in length.
    pub pairs: usize,
    /// Share of these pairs whose longer answer the labels prefer.
    pub by_labels: f64,
    /// Share of these pairs whose longer answer scores higher; equal scores count one half.
    pub by_model: f64,
}

/// Returns the correlation of `scores` with the answers' lengths in tokens.
///
/// # Errors
/// Fails if there are no scores, if the numbers of scores and lengths differ, or if a score is not finite.
pub fn score_length(scores: &[f64], tokens: &[usize]) -> Result<ScoreLength> {
    check_lengths("scores and their lengths", scores.len(), tokens.len())?;
    let tokens: Vec<f64> = tokens.iter().map(|&tokens| tokens as f64).collect();
    Ok(ScoreLength { pearson: pearson(scores, &tokens)?, spearman: spearman(scores, &tokens)? })
}

/// Returns how often the longer answer wins by the labels and by the model's margins, score(chosen) −
/// score(rejected); `None` if no pair's answers differ in length.
///
/// A model without a length bias of its own has `by_model` near `by_labels`.
///
/// # Errors
/// Fails if there are no margins, if the numbers of margins and lengths differ, or if a margin is not finite.
pub fn longer_preferred(
    margins: &[f64],
    chosen_tokens: &[usize],
    rejected_tokens: &[usize],
) -> Result<Option<LongerPreferred>> {
    check_finite("margin of pair", margins)?;
    check_lengths("margins and lengths of chosen answers", margins.len(), chosen_tokens.len())?;
    check_lengths("margins and lengths of rejected answers", margins.len(), rejected_tokens.len())?;
    let (mut pairs, mut by_labels, mut by_model) = (0, 0.0, 0.0);
    for ((&margin, chosen), rejected) in margins.iter().zip(chosen_tokens).zip(rejected_tokens) {
        if chosen == rejected {
            continue;
        }
        pairs += 1;
        if chosen > rejected {
            by_labels += 1.0;
            by_model += correctness(margin);
        } else {
            by_model += correctness(-margin);
        }
    }
    let share = |sum: f64| sum / f64::from(pairs);
    Ok((pairs > 0).then(|| LongerPreferred {
        pairs: pairs as usize,
        by_labels: share(by_labels),
        by_model: share(by_model),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the counted pairs and the wins of the longer answer, on pairs worked out by hand.
    #[test]
    fn shares_of_hand_made_pairs() {
        // The labels prefer the longer answer in pairs 0 and 1, the shorter in 2 and 3; pair 4 has equal
        // lengths.
        let chosen = [9, 8, 3, 2, 5];
        let rejected = [4, 4, 6, 7, 5];
        // The model agrees in 0, ties in 1, disagrees in 2 (so prefers the longer there) and agrees in 3.
        let margins = [1.0, 0.0, -2.0, 0.5, 3.0];
        let shares = longer_preferred(&margins, &chosen, &rejected).unwrap().unwrap();
        assert_eq!(shares, LongerPreferred { pairs: 4, by_labels: 0.5, by_model: 2.5 / 4.0 });
    }

    /// Protects: pairs of equal lengths have no longer answer: the result is absent, not 0 or NaN.
    #[test]
    fn equal_lengths_have_no_longer_answer() {
        assert_eq!(longer_preferred(&[1.0, 2.0], &[3, 4], &[3, 4]).unwrap(), None);
        let none = score_length(&[1.0, 2.0], &[5, 5]).unwrap();
        assert_eq!(none, ScoreLength { pearson: None, spearman: None });
    }

    /// Protects: scores proportional to the length have a correlation of 1.
    #[test]
    fn length_as_score_correlates_fully() {
        let full = score_length(&[0.2, 0.4, 0.1], &[20, 40, 10]).unwrap();
        assert!((full.pearson.unwrap() - 1.0).abs() < 1e-12);
        assert!((full.spearman.unwrap() - 1.0).abs() < 1e-12);
    }

    /// Protects: lists of different lengths are refused.
    #[test]
    fn impossible_inputs_are_refused() {
        assert!(
            score_length(&[1.0], &[1, 2]).unwrap_err().to_string().starts_with("scores and their lengths")
        );
        assert!(longer_preferred(&[1.0], &[1], &[]).unwrap_err().to_string().contains("rejected answers"));
        assert!(longer_preferred(&[], &[], &[]).is_err());
    }
}
