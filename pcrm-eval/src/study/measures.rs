//! The measures of a reward model on held-out pairs of a world: plain, and after a temperature fitted on
//! other prompts, which separates scale from order.

use std::collections::BTreeMap;

use crate::bootstrap::{Bootstrap, Clusters};
use crate::calibration::cross_entropy;
use crate::error::Result;
use crate::measure::Measure;
use crate::temperature::{FOLDS, Scaled};

/// The measures of reward models with their headings.
pub const NAMES: [(&str, &str); 9] = [
    ("accuracy", "accuracy"),
    ("accuracy_truth", "accuracy by truth"),
    ("log_loss", "log loss"),
    ("log_loss_scaled", "log loss, scaled"),
    ("cross_entropy", "log loss, true p"),
    ("ece", "ECE"),
    ("ece_scaled", "ECE, scaled"),
    ("temperature", "temperature"),
    ("kl_per_token", "KL per token"),
];

/// A held-out pair with a model's margin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredPair {
    /// Number of the prompt.
    pub prompt: usize,
    /// score(chosen) − score(rejected).
    pub margin: f64,
    /// True reward of the chosen answer minus that of the rejected one.
    pub true_margin: f64,
    /// Probability that a labeller prefers the chosen answer.
    pub probability: f64,
}

/// Returns the measures of pairs by the names of [`NAMES`]. Undefined measures are left out, such as those
/// after a temperature if no margin is wrong, or accuracy by truth if no pair has a true order.
///
/// # Errors
/// Fails if there are no pairs or a number is not finite.
pub fn measures(pairs: &[ScoredPair]) -> Result<BTreeMap<String, f64>> {
    let margins: Vec<f64> = pairs.iter().map(|pair| pair.margin).collect();
    let probabilities: Vec<f64> = pairs.iter().map(|pair| pair.probability).collect();
    let mut found = BTreeMap::from([
        ("accuracy", Measure::Accuracy.of(&margins)?),
        ("log_loss", Measure::LogLoss.of(&margins)?),
        ("ece", Measure::Ece.of(&margins)?),
        ("cross_entropy", cross_entropy(&margins, &probabilities)?),
    ]);
    let ordered = pairs.iter().filter(|pair| pair.true_margin != 0.0);
    let by_truth: Vec<f64> = ordered.map(|pair| pair.margin * pair.true_margin.signum()).collect();
    if !by_truth.is_empty() {
        found.insert("accuracy_truth", Measure::Accuracy.of(&by_truth)?);
    }
    let folds: Vec<usize> = pairs.iter().map(|pair| pair.prompt % FOLDS).collect();
    let none = Bootstrap { resamples: 0, ..Bootstrap::default() };
    if let Some(scaled) = Scaled::of(&margins, &folds, &Clusters::alone(margins.len()), &none)? {
        found.extend([
            ("log_loss_scaled", scaled.log_loss.value),
            ("ece_scaled", scaled.ece.value),
            ("temperature", scaled.temperature),
        ]);
    }
    Ok(found.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Returns the share of pairs whose second value is larger, ties one half; `None` without pairs.
pub fn win_rate(pairs: &[(f64, f64)]) -> Option<f64> {
    let won = |(theirs, ours): &(f64, f64)| match ours.total_cmp(theirs) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    };
    (!pairs.is_empty()).then(|| pairs.iter().map(won).sum::<f64>() / pairs.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the two accuracies differ by the noise of the labels, ties in the truth are left out, and a
    /// model without a temperature has no scaled loss.
    #[test]
    fn labels_and_truth_are_two_things() {
        let pair = |prompt, margin, true_margin| ScoredPair { prompt, margin, true_margin, probability: 0.7 };
        let pairs = [pair(0, 1.0, 0.5), pair(1, 1.0, -0.5), pair(2, -1.0, -2.0), pair(3, 0.5, 0.0)];
        let found = measures(&pairs).unwrap();
        assert_eq!(found["accuracy"], 0.75);
        assert_eq!(found["accuracy_truth"], 2.0 / 3.0);
        let right = measures(&pairs[..2]).unwrap();
        assert!(right.contains_key("log_loss") && !right.contains_key("log_loss_scaled"));
        assert!(measures(&[]).is_err());
        assert!(measures(&[pair(0, f64::NAN, 1.0)]).is_err());
    }

    /// Protects: a tie is half a win.
    #[test]
    fn ties_are_half_wins() {
        assert_eq!(win_rate(&[(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (0.0, 0.5)]), Some(0.625));
        assert_eq!(win_rate(&[]), None);
    }
}
