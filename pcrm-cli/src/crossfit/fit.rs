//! Constraints whose numbers come from evidence.

use anyhow::Result;
use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::data::encode::EncodedPair;
use pcrm_core::data::preference::Verdict;
use pcrm_eval::accuracy::{LEVEL, Share};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dataset::placed;
use crate::plugins::calibrated::{Calibrated, Calibration};
use crate::report::evidence;
use crate::report::run::constraint;

/// How many folds there are where a constraint does not say.
const FOLDS: usize = 5;

/// What a constraint was fitted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Who judged.
    pub judges: String,
    /// The pairs that were judged.
    pub pairs: usize,
    /// How often judges prefer the preferred answer.
    pub accuracy: Share,
    /// What was found of the similarity, by constraints of the kind `calibrated`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calibration: Option<Calibration>,
}

/// A constraint with the evidence for its numbers.
#[derive(Debug)]
pub struct Fitted {
    /// The constraint, which gives bounds.
    pub constraint: Box<dyn Constraint>,
    /// The judges' wins that it was fitted to.
    pub evidence: Evidence,
}

/// Fits a constraint to pairs and to how often judges, who did not know the pair, prefer its preferred answer. Ties prefer
/// none and are left out.
///
/// # Errors
/// No pairs, and what the constraint cannot be fitted to.
pub fn fit(
    constraint: &dyn Constraint,
    pairs: &[EncodedPair],
    wins: &[f32],
    judges: &str,
    priors: &Priors,
) -> Result<Fitted> {
    let preferred = || pairs.iter().zip(wins).filter(|(pair, _)| pair.verdict != Verdict::Tied);
    let (views, win_shares): (Vec<PairView<'_>>, Vec<f32>) =
        preferred().map(|(pair, win)| (pair.view(), *win)).unzip();
    let (fitted, calibration) = match Calibrated::of_kind(constraint) {
        Some(calibrated) => {
            let calibration = calibrated
                .calibrate(&views, &win_shares, priors)
                .map_err(|error| placed(error, preferred().map(|(pair, _)| pair)))?;
            let fitted = calibrated.constraint(&calibration)?;
            (fitted, Some(calibration))
        }
        None => {
            let fitted = constraint.fitted(&views, &win_shares, priors);
            (fitted.map_err(|error| placed(error, preferred().map(|(pair, _)| pair)))?, None)
        }
    };
    let won: f64 = win_shares.iter().map(|win| f64::from(*win)).sum();
    let accuracy = Share::wilson(won, win_shares.len(), LEVEL)?;
    let evidence = Evidence { judges: judges.to_owned(), pairs: win_shares.len(), accuracy, calibration };
    Ok(Fitted { constraint: fitted, evidence })
}

/// The folds that an unfitted constraint asks for.
///
/// # Errors
/// A configuration that does not serialise.
pub fn folds_of(constraint: &dyn Constraint) -> Result<usize> {
    let folds = constraint.to_tagged()?["folds"].as_u64();
    Ok(folds.map_or(FOLDS, |folds| folds as usize))
}

impl Evidence {
    /// The evidence in a few numbers, as a model's config.json keeps it.
    pub fn summary(&self) -> Value {
        let mut summary = json!({"judges": self.judges, "pairs": self.pairs, "accuracy": self.accuracy});
        if let Some(calibration) = &self.calibration {
            summary["verdict"] = json!(calibration.verdict);
            summary["beta1"] = json!(calibration.slope);
            summary["held_out"] = json!(calibration.held_out);
        }
        summary
    }
}

impl Fitted {
    /// The result in words, a line each.
    ///
    /// # Errors
    /// A configuration that does not serialise.
    pub fn told(&self) -> Result<Vec<String>> {
        let Evidence { judges, pairs, accuracy, calibration } = &self.evidence;
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        let mut lines = vec![format!(
            "{judges}: the preferred answer wins in {} % of {pairs} pairs (95 %: {} to {})",
            percent(accuracy.value),
            percent(accuracy.low()),
            percent(accuracy.high())
        )];
        lines.extend(calibration.as_ref().map(Calibration::sentence));
        let tagged = self.constraint.to_tagged()?;
        lines.extend(evidence(&tagged));
        lines.push(format!("fitted: {}", constraint(&tagged)));
        Ok(lines)
    }
}
