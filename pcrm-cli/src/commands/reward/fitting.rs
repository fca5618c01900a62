//! Constraints that a run fits before it trains, and finds again when it goes on.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_core::Backend;
use pcrm_core::constraint::{self, Constraint, Priors};
use pcrm_core::data::encode::EncodedPair;
use pcrm_core::model::weights;
use pcrm_core::text::Tokenizer;
use pcrm_rl::trainer::TrainerConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::crossfit::{Base, Crossfit, Evidence, Fitted, Kept, fit, folds_of};
use crate::progress::say;

/// The fitted constraint, as --constraint takes it.
const CONSTRAINT: &str = "constraint.json";
/// The constraint that was asked for.
const EVIDENCE: &str = "evidence.json";

/// A run that fits its constraint to its own training pairs.
pub(super) struct Fitting<'a> {
    /// The run's folder.
    pub dir: &'a Path,
    /// Whether the run goes on.
    pub resume: bool,
    pub backend: &'a dyn Backend,
    pub base: &'a Base,
    pub tokenizer: &'a Tokenizer,
    pub config: &'a TrainerConfig,
}

/// What `evidence.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    /// The constraint that was asked for.
    from: Value,
    #[serde(flatten)]
    evidence: Evidence,
}

impl Fitting<'_> {
    /// The constraint of the run's folder, if it goes on; else cross-fits with the run's own options, fits,
    /// says what came of it and leaves it in the run's folder.
    ///
    /// # Errors
    /// Files of another constraint or broken ones, and those of cross-fitting and fitting.
    pub fn fitted(
        &self,
        constraint: &dyn Constraint,
        pairs: &[EncodedPair],
        priors: &Priors,
    ) -> Result<Fitted> {
        let from = constraint.to_tagged()?;
        if self.resume && self.dir.join(CONSTRAINT).exists() {
            return self.read(&from);
        }
        let folds = folds_of(constraint)?;
        let crossfit = Crossfit {
            backend: self.backend,
            base: self.base,
            tokenizer: self.tokenizer,
            config: self.config,
            folds,
            kept: Kept::users(),
        };
        let wins = crossfit.wins(pairs)?;
        let judges = format!("cross-fitted in {folds} folds");
        let fitted = fit(constraint, pairs, &wins, &judges, priors).context("--constraint")?;
        fitted.told()?.iter().for_each(|line| say(line));
        let stored = Stored { from, evidence: fitted.evidence.clone() };
        weights::write_json(&self.dir.join(EVIDENCE), &stored)?;
        // Last: a folder that has it has both.
        weights::write_json(&self.dir.join(CONSTRAINT), &fitted.constraint.to_tagged()?)?;
        Ok(fitted)
    }

    fn read(&self, from: &Value) -> Result<Fitted> {
        let Stored { from: before, evidence } = json(&self.dir.join(EVIDENCE))?;
        ensure!(
            before == *from,
            "--constraint: {} was fitted from {before}, found {from}; a resumed run keeps its constraint",
            self.dir.join(CONSTRAINT).display()
        );
        let path = self.dir.join(CONSTRAINT);
        let constraint = constraint::from_tagged(json(&path)?).with_context(|| path.display().to_string())?;
        Ok(Fitted { constraint, evidence })
    }
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let at = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(at)?;
    serde_json::from_str(&text).with_context(at)
}
