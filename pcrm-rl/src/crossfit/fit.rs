//! Constraints whose numbers come from evidence.

use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::data::encode::{self, EncodedSet};
use pcrm_core::data::preference::Verdict;
use pcrm_eval::accuracy::{LEVEL, Share};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Result;
use crate::train::bounds::placed;

/// The wins that a constraint was fitted to, and what was found in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The judges, in words.
    pub judges: String,
    /// The pairs that were judged.
    pub pairs: usize,
    /// The share of pairs whose preferred answer the judges prefer.
    pub accuracy: Share,
    /// The constraint's own findings, where it has any: of the kind `calibrated`, its curve and its intervals.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calibration: Option<Value>,
}

/// A constraint with the evidence for its numbers.
#[derive(Debug)]
pub struct Fitted {
    /// The constraint, which gives bounds.
    pub constraint: Box<dyn Constraint>,
    /// The judges' wins that it was fitted to.
    pub evidence: Evidence,
}

/// Fits a constraint to pairs and to the share of judges, trained on other pairs, who prefer each preferred answer. Ties
/// prefer none and are left out.
///
/// # Errors
/// No pairs, and what the constraint cannot be fitted to.
pub fn fit(
    constraint: &dyn Constraint,
    sets: &[EncodedSet],
    wins: &[f32],
    judges: &str,
    priors: &Priors,
) -> Result<Fitted> {
    let preferred = || encode::pairs(sets).zip(wins).filter(|(pair, _)| pair.verdict != Verdict::Tied);
    let (views, win_shares): (Vec<PairView<'_>>, Vec<f32>) =
        preferred().map(|(pair, win)| (pair.view(), *win)).unzip();
    let (fitted, calibration) = constraint
        .fitted_with_evidence(&views, &win_shares, priors)
        .map_err(|error| placed(error, preferred().map(|(pair, _)| pair)))?;
    let won: f64 = win_shares.iter().map(|win| f64::from(*win)).sum();
    let accuracy = Share::wilson(won, win_shares.len(), LEVEL)
        .map_err(|error| pcrm_core::Error::invalid("judges", error))?;
    let evidence = Evidence { judges: judges.to_owned(), pairs: win_shares.len(), accuracy, calibration };
    Ok(Fitted { constraint: fitted, evidence })
}

impl Evidence {
    /// The evidence in a few numbers, as a model's config.json keeps it.
    pub fn summary(&self) -> Value {
        let mut summary = json!({"judges": self.judges, "pairs": self.pairs, "accuracy": self.accuracy});
        if let Some(calibration) = &self.calibration {
            for (name, field) in [("verdict", "verdict"), ("beta1", "slope"), ("held_out", "held_out")] {
                summary[name] = calibration[field].clone();
            }
        }
        summary
    }
}
