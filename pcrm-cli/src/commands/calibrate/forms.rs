//! The forms to fit: constraints from `--constraint` with their numbers left open.

use anyhow::{Context, Result, bail};
use pcrm_core::Error;
use pcrm_core::constraint::{self, Constraint};
use serde_json::{Value, json};

use super::EvidenceArgs;
use crate::constraint::meant;

/// A constraint to be fitted.
#[derive(Debug)]
pub struct Form {
    /// Its name: the kind, with a number if several constraints share one.
    pub name: String,
    /// The requested constraint, with all its settings.
    pub asked: Value,
    /// The form with open numbers.
    pub unfitted: Box<dyn Constraint>,
}

impl Form {
    /// Returns the forms of the named constraints: constraints with a similarity are calibrated, unfitted
    /// ones are fitted directly.
    ///
    /// # Errors
    /// Fails if a constraint is unknown or has nothing to fit.
    pub fn of_all(named: &[String], evidence: &EvidenceArgs) -> Result<Vec<Self>> {
        let mut forms: Vec<Self> = Vec::new();
        for text in named {
            let at = || format!("--constraint {text}");
            let asked = meant(text).with_context(at)?;
            let (kind, tagged) = (asked.kind(), asked.to_tagged()?);
            let unfitted = match asked.is_unfitted() {
                true => asked,
                false => constraint::from_tagged(calibrated(&tagged, evidence)).with_context(at)?,
            };
            let alike = forms.iter().filter(|form| form.asked["kind"] == kind).count();
            let name = if alike == 0 { kind.to_owned() } else { format!("{kind}-{}", alike + 1) };
            forms.push(Self { name, asked: tagged, unfitted });
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

fn calibrated(of: &Value, evidence: &EvidenceArgs) -> Value {
    let EvidenceArgs { folds, bootstrap, level, beta2, .. } = evidence;
    let mut form =
        json!({"kind": "calibrated", "of": of, "folds": folds, "bootstrap": bootstrap, "level": level});
    if let Some(beta2) = beta2 {
        form["beta2"] = beta2.parse::<f64>().map_or_else(|_| json!(beta2), |beta2| json!(beta2));
    }
    form
}
