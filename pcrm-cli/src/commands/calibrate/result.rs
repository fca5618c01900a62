//! The result of calibration, as `--json` prints it.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use pcrm_core::data::encode::EncodedSet;
use pcrm_core::data::prompt_id::PromptId;
use pcrm_eval::accuracy::Share;
use pcrm_rl::crossfit::Fitted;
use serde::Serialize;
use serde_json::Value;

use super::forms::FitCandidate;
use crate::plugins::calibrated::Calibration;
use crate::report::calibration::{is_curve, read};
use crate::report::evidence as described;

/// All constraints fitted to the same evidence.
#[derive(Debug, Serialize)]
pub struct Calibrations {
    /// A description of the judges.
    pub judges: String,
    /// The number of judged pairs.
    pub pairs: usize,
    /// The number of prompts of these pairs.
    pub prompts: usize,
    /// The share of pairs whose preferred answer the judges also prefer.
    pub accuracy: Share,
    /// The fitted constraints, in the requested order.
    pub constraints: Vec<Calibrated>,
}

/// A fitted constraint.
#[derive(Debug, Serialize)]
pub struct Calibrated {
    /// The name.
    pub name: String,
    /// The requested constraint.
    pub asked: Value,
    /// The fitted constraint.
    pub fitted: Value,
    /// The file of the fitted constraint.
    pub file: PathBuf,
    /// A one-sentence verdict, if a similarity was calibrated.
    pub verdict: Option<String>,
    /// The findings, if a similarity was calibrated.
    pub calibration: Option<Calibration>,
    #[serde(skip)]
    accuracy: Share,
}

impl Calibrated {
    /// Returns the result for one form.
    ///
    /// # Errors
    /// Fails if the constraint cannot be serialised.
    pub fn new(form: &FitCandidate, fitted: Fitted, file: PathBuf) -> Result<Self> {
        let Fitted { constraint, evidence } = fitted;
        let calibration = evidence.calibration.as_ref().and_then(read);
        Ok(Self {
            name: form.name.clone(),
            asked: form.asked.clone(),
            fitted: constraint.to_tagged()?,
            file,
            verdict: match &calibration {
                Some(calibration) => Some(calibration.sentence()),
                None => described(&constraint.to_tagged()?),
            },
            calibration,
            accuracy: evidence.accuracy,
        })
    }
}

impl Calibrated {
    /// Returns true if similarity carries enough information for a curve.
    pub fn is_curve(&self) -> bool {
        self.calibration.as_ref().is_some_and(is_curve)
    }
}

impl Calibrations {
    /// Returns the results of all forms.
    ///
    /// # Errors
    /// Fails if no constraint was fitted.
    pub fn new(judges: String, sets: &[EncodedSet], constraints: Vec<Calibrated>) -> Result<Self> {
        let accuracy = constraints.first().context("no constraint was fitted")?.accuracy;
        let prompts: HashSet<PromptId> = sets.iter().map(|set| set.prompt_id).collect();
        let pairs = sets.iter().map(|set| set.comparisons.len()).sum();
        Ok(Self { judges, pairs, prompts: prompts.len(), accuracy, constraints })
    }

    /// Returns the constraint whose curve best predicts wins on prompts it was not fitted to; `None` if there
    /// is only one, or a constant predicts them as well.
    pub fn best(&self) -> Option<&Calibrated> {
        let gain = |one: &Calibrated| one.calibration.as_ref().map_or(0.0, |found| found.held_out.gain.value);
        let curves = self.constraints.iter().filter(|one| one.is_curve());
        curves.max_by(|a, b| gain(a).total_cmp(&gain(b))).filter(|_| self.constraints.len() > 1)
    }
}
