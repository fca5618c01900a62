//! What came of calibration, as `--json` prints it.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use pcrm_core::data::encode::EncodedPair;
use pcrm_eval::accuracy::Share;
use serde::Serialize;
use serde_json::Value;

use super::forms::Form;
use crate::crossfit::Fitted;
use crate::plugins::calibrated::Calibration;

/// All constraints that were fitted to one evidence.
#[derive(Debug, Serialize)]
pub struct Calibrations {
    /// Who judged.
    pub judges: String,
    /// The pairs that were judged.
    pub pairs: usize,
    /// Their prompts.
    pub prompts: usize,
    /// How often judges prefer the preferred answer.
    pub accuracy: Share,
    /// What was fitted, in the order asked for.
    pub constraints: Vec<Calibrated>,
}

/// A constraint that was fitted.
#[derive(Debug, Serialize)]
pub struct Calibrated {
    /// What it is called.
    pub name: String,
    /// What was asked for.
    pub asked: Value,
    /// What was fitted.
    pub fitted: Value,
    /// Where that is.
    pub file: PathBuf,
    /// The verdict in a sentence, where similarity was calibrated.
    pub verdict: Option<String>,
    /// What was found, where similarity was calibrated.
    pub calibration: Option<Calibration>,
    #[serde(skip)]
    accuracy: Share,
}

impl Calibrated {
    /// What came of a form.
    ///
    /// # Errors
    /// A constraint that does not serialise.
    pub fn new(form: &Form, fitted: Fitted, file: PathBuf) -> Result<Self> {
        let Fitted { constraint, evidence } = fitted;
        Ok(Self {
            name: form.name.clone(),
            asked: form.asked.clone(),
            fitted: constraint.to_tagged()?,
            file,
            verdict: evidence.calibration.as_ref().map(Calibration::sentence),
            calibration: evidence.calibration,
            accuracy: evidence.accuracy,
        })
    }
}

impl Calibrations {
    /// All of them.
    ///
    /// # Errors
    /// None was fitted.
    pub fn new(judges: String, pairs: &[EncodedPair], constraints: Vec<Calibrated>) -> Result<Self> {
        let accuracy = constraints.first().context("no constraint was fitted")?.accuracy;
        let prompts: HashSet<&str> = pairs.iter().map(|pair| pair.prompt_text.as_str()).collect();
        Ok(Self { judges, pairs: pairs.len(), prompts: prompts.len(), accuracy, constraints })
    }

    /// The constraint whose curve or constant foretells wins best on prompts that it was not fitted to, where there are
    /// several to choose from.
    pub fn best(&self) -> Option<&Calibrated> {
        let value = |one: &Calibrated| {
            let held_out = one.calibration.as_ref()?.held_out;
            Some(if one.fitted["kind"] == "fixed" { held_out.constant } else { held_out.curve })
        };
        let several = self.constraints.iter().filter(|one| one.calibration.is_some()).count() > 1;
        let best = self
            .constraints
            .iter()
            .max_by(|a, b| value(a).partial_cmp(&value(b)).unwrap_or(std::cmp::Ordering::Equal));
        best.filter(|_| several)
    }
}
