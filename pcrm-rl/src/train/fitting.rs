//! Constraints that a run fits to its own training pairs, and reads back when resumed.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use pcrm_core::constraint::{self, Constraint, Priors};
use pcrm_core::data::encode::{self, EncodedSet};
use pcrm_core::data::preference::Verdict;
use pcrm_core::disk::sealed;
use pcrm_core::model::weights;
use pcrm_eval::wrong_labels::WrongLabels;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::crossfit::{Crossfit, Evidence, Fitted, fit};
use crate::error::{Error, Result};
use crate::offline::Observer;

/// The number of judges for estimating the share of wrong labels.
pub(super) const FOLDS: usize = 5;
/// The fitted constraint, as `--constraint` takes it.
const CONSTRAINT: &str = "constraint.json";
/// The requested constraint, with the evidence.
const EVIDENCE: &str = "evidence.json";

/// The content of `evidence.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    /// Requested constraint.
    from: Value,
    #[serde(flatten)]
    evidence: Evidence,
}

/// Cross-fits with the run's own options, fits the constraint, and saves it in the run's folder; a resumed
/// run reads it from there.
///
/// # Errors
/// Fails if files are broken or of another constraint, or if cross-fitting or fitting fails.
pub(super) fn fitted(
    crossfit: &Crossfit<'_>,
    constraint: &dyn Constraint,
    sets: &[EncodedSet],
    priors: &Priors,
    dir: &Path,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<Fitted> {
    let from = constraint.to_tagged()?;
    if resume && dir.join(CONSTRAINT).exists() {
        return read(dir, &from);
    }
    let wins = crossfit.wins(sets, observer)?;
    let judges = format!("cross-fitted in {} folds", crossfit.folds);
    let fitted = fit(constraint, sets, &wins, &judges, priors)?;
    if !crossfit.backend.collective().is_first() {
        return Ok(fitted);
    }
    let stored = Stored { from, evidence: fitted.evidence.clone() };
    sealed::write(&dir.join(EVIDENCE), &stored)?;
    // Written last: a folder with this file has both.
    weights::write_json(&dir.join(CONSTRAINT), &fitted.constraint.to_tagged()?)?;
    Ok(fitted)
}

/// Estimates the share of wrong labels from the margins of judges that were not trained on a pair's prompt. A
/// resumed run gets the same result, from cached margins or by training the judges again.
///
/// # Errors
/// Fails if cross-fitting fails or the judges do not favour the preferred answers.
pub(super) fn wrong_labels(
    crossfit: &Crossfit<'_>,
    sets: &[EncodedSet],
    observer: &mut dyn Observer,
) -> Result<WrongLabels> {
    let margins = crossfit.margins(sets, observer)?;
    let decided = encode::pairs(sets).zip(margins).filter(|(pair, _)| pair.verdict != Verdict::Tied);
    let margins: Vec<f64> = decided.map(|(_, margin)| f64::from(margin)).collect();
    let found = WrongLabels::of(&margins).map_err(|error| pcrm_core::Error::invalid("judges", error))?;
    found.ok_or_else(|| Error::Invalid {
        field: "label-smoothing",
        message: format!(
            "estimate: judges trained on the other pairs do not favour the preferred answers of these {} \
             pairs, so the share of wrong labels cannot be estimated; expected more pairs, or a number",
            margins.len()
        ),
    })
}

/// Adds the estimated share of wrong labels to the notes of the saved model.
///
/// # Errors
/// Fails if a number is not finite.
pub(super) fn note_wrong_labels(notes: &mut Value, found: Option<&WrongLabels>) -> Result<()> {
    if let Some(found) = found {
        notes["wrong_labels"] = serde_json::to_value(found)
            .map_err(|error| Error::Invalid { field: "label-smoothing", message: error.to_string() })?;
    }
    Ok(())
}

/// Removes the fitted constraint of an earlier run from a folder for a new run.
///
/// # Errors
/// Fails if the disk fails.
pub fn discard_fitted(dir: &Path) -> Result<()> {
    // Without evidence the constraint may be a user's file.
    if sealed::read::<Stored>(&dir.join(EVIDENCE)).is_err() {
        return Ok(());
    }
    for path in [CONSTRAINT, EVIDENCE].map(|name| dir.join(name)) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(pcrm_core::Error::io(&path)(error).into());
            }
            _ => {}
        }
    }
    Ok(())
}

fn read(dir: &Path, from: &Value) -> Result<Fitted> {
    let (Stored { from: before, evidence }, _) = sealed::read(&dir.join(EVIDENCE))?;
    let path = dir.join(CONSTRAINT);
    if before != *from {
        let message = format!(
            "was fitted from {before}, found --constraint {from}; a resumed run keeps its constraint"
        );
        return Err(Error::Checkpoint { path, message });
    }
    let constraint =
        constraint::from_tagged(json(&path)?).map_err(|error| pcrm_core::Error::file(&path, error))?;
    Ok(Fitted { constraint, evidence })
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(pcrm_core::Error::io(path))?;
    Ok(serde_json::from_str(&text).map_err(|error| pcrm_core::Error::file(path, error))?)
}
