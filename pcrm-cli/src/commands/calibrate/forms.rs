//! The forms to fit: constraints from `--constraint` with their numbers left open.

use anyhow::{Context, Result, bail, ensure};
use pcrm_core::Error;
use pcrm_core::constraint::{self, Constraint};
use serde_json::{Value, json};

use super::{BOOTSTRAP, EvidenceArgs, FOLDS, LEVEL};
use crate::constraint::meant;

/// The kind of forms that are curves of a similarity.
const CALIBRATED: &str = "calibrated";

/// A constraint to be fitted.
#[derive(Debug)]
pub struct FitCandidate {
    /// Its name: the kind, with a number if several constraints share one.
    pub name: String,
    /// The requested constraint, with all its settings.
    pub asked: Value,
    /// The form with open numbers.
    pub unfitted: Box<dyn Constraint>,
}

impl FitCandidate {
    /// Returns the forms of the named constraints: constraints with a similarity are calibrated, unfitted
    /// ones are fitted directly. Options that differ from their defaults replace the settings of `calibrated`.
    ///
    /// # Errors
    /// Fails if a constraint is unknown or has nothing to fit, or if no form has a setting of an option.
    pub fn of_all(named: &[String], evidence: &EvidenceArgs) -> Result<Vec<Self>> {
        let mut forms: Vec<Self> = Vec::new();
        for text in named {
            let at = || format!("--constraint {text}");
            let asked = meant(text).with_context(at)?;
            let (kind, tagged) = (asked.kind(), asked.to_tagged()?);
            let unfitted = match (kind, asked.is_unfitted()) {
                (CALIBRATED, _) => constraint::from_tagged(changed(&tagged, evidence)).with_context(at)?,
                (_, true) => asked,
                (_, false) => constraint::from_tagged(calibrated(&tagged, evidence)).with_context(at)?,
            };
            let alike = forms.iter().filter(|form| form.asked["kind"] == kind).count();
            let name = if alike == 0 { kind.to_owned() } else { format!("{kind}-{}", alike + 1) };
            forms.push(Self { name, asked: tagged, unfitted });
        }
        let are_curves = forms.iter().any(|form| form.unfitted.kind() == CALIBRATED);
        for (option, changed) in [
            ("beta2", evidence.beta2.is_some()),
            ("bootstrap", evidence.bootstrap != BOOTSTRAP),
            ("level", evidence.level != LEVEL),
        ] {
            ensure!(
                are_curves || !changed,
                "--{option} has no effect on {}: expected a constraint with a similarity, or {CALIBRATED}",
                forms.iter().map(|form| form.name.as_str()).collect::<Vec<_>>().join(", ")
            );
        }
        Ok(forms)
    }
}

/// Checks the options that all forms are fitted with.
///
/// # Errors
/// Fails with the name of an option that is out of range.
pub fn check(evidence: &EvidenceArgs) -> Result<()> {
    match constraint::from_tagged(calibrated(&json!("length_ratio"), evidence)) {
        // The message begins with the field, which is named like the option.
        Err(Error::Plugin { message, .. }) => bail!("--{message}"),
        other => Ok(other.map(drop)?),
    }
}

/// Returns the form that calibrates a constraint with a similarity.
fn calibrated(of: &Value, evidence: &EvidenceArgs) -> Value {
    let EvidenceArgs { folds, bootstrap, level, .. } = evidence;
    let form = json!({"kind": CALIBRATED, "of": of, "folds": folds, "bootstrap": bootstrap, "level": level});
    changed(&form, evidence)
}

/// Returns a form with the options that differ from their defaults in place of its own settings.
fn changed(form: &Value, evidence: &EvidenceArgs) -> Value {
    let EvidenceArgs { folds, bootstrap, level, beta2, .. } = evidence;
    let mut form = form.clone();
    if let Some(beta2) = beta2 {
        form["beta2"] = beta2.parse::<f64>().map_or_else(|_| json!(beta2), |beta2| json!(beta2));
    }
    for (field, value, usual) in [
        ("folds", json!(folds), json!(FOLDS)),
        ("bootstrap", json!(bootstrap), json!(BOOTSTRAP)),
        ("level", json!(level), json!(LEVEL)),
    ] {
        if value != usual {
            form[field] = value;
        }
    }
    form
}
