//! Constraints fitted to judges' wins.

use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::data::encode::{self, EncodedSet};
use pcrm_core::data::preference::Verdict;
use pcrm_eval::accuracy::{LEVEL, Share};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Result;
use crate::train::bounds::placed;

/// The wins that a constraint was fitted to, with the findings of the fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Description of the judges.
    pub judges: String,
    /// Number of judged pairs.
    pub pairs: usize,
    /// Share of pairs whose preferred answer the judges prefer.
    pub accuracy: Share,
    /// The constraint's own findings, if any; for the kind `calibrated`, its curve and intervals.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calibration: Option<Value>,
}

/// A fitted constraint with its evidence.
#[derive(Debug)]
pub struct Fitted {
    /// Constraint with fitted parameters.
    pub constraint: Box<dyn Constraint>,
    /// Judges' wins that it was fitted to.
    pub evidence: Evidence,
}

/// Fits a constraint to pairs and, for each pair, the share of judges that prefer the preferred answer. The
/// judges were trained on other pairs. Ties prefer neither answer and are left out.
///
/// # Errors
/// Fails if there are no pairs or the constraint cannot be fitted to them.
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
    /// Returns a summary of the evidence for a model's config.json.
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
