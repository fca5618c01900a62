//! The measures of one run on its held-out pairs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use pcrm_core::data::encode::EncodedPair;
use pcrm_core::folds::fold;
use pcrm_eval::bootstrap::Clusters;
use pcrm_eval::calibration::cross_entropy;
use pcrm_eval::temperature::{FOLDS, Scaled};
use pcrm_eval::{Bootstrap, PairScore, RewardReport};
use pcrm_rl::fingerprint::Fingerprint;
use pcrm_rl::pairs::Pairs;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The measure that is taken against known probabilities.
const CROSS_ENTROPY: &str = "cross_entropy";

/// The measures of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunMeasures {
    /// The label of the arm.
    pub label: String,
    /// The seed.
    pub seed: u64,
    /// The constraint with all its numbers, as fitted by the run if necessary.
    pub constraint: Value,
    /// The options and data that determine the run.
    pub question: Fingerprint,
    /// The number of held-out pairs.
    pub pairs: usize,
    /// The measures, under the names of [`pcrm_eval::comparison::MEASURES`].
    pub measures: BTreeMap<String, f64>,
    /// The column of known probabilities that the scores were measured against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability_field: Option<String>,
}

impl RunMeasures {
    /// Measures a trained model on its held-out pairs; `known` are their probabilities with the name of their
    /// column.
    ///
    /// # Errors
    /// Fails if a score is not finite.
    pub fn new(
        label: &str,
        seed: u64,
        question: Fingerprint,
        constraint: &Value,
        eval: &Pairs,
        scores: &[(f32, f32)],
        known: Option<(&str, &[f64])>,
    ) -> Result<Self> {
        let score = |((pair, bound), (chosen, rejected)): ((EncodedPair<'_>, &f32), &(f32, f32))| PairScore {
            chosen: f64::from(*chosen),
            rejected: f64::from(*rejected),
            chosen_tokens: pair.prompt.len() + pair.chosen.len(),
            rejected_tokens: pair.prompt.len() + pair.rejected.len(),
            bound: bound.is_finite().then_some(f64::from(*bound)),
            ..PairScore::default()
        };
        let bounded = eval.pairs().zip(&eval.bounds);
        let scores: Vec<PairScore> = bounded.zip(scores).map(score).collect();
        let report = RewardReport::new(&scores)?;
        let margins: Vec<f64> = scores.iter().map(PairScore::margin).collect();
        let folds: Vec<usize> = eval.pairs().map(|pair| fold(pair.id.prompt, FOLDS)).collect();
        let clusters = Clusters::alone(margins.len());
        let none = Bootstrap { resamples: 0, ..Bootstrap::default() };
        let scaled = Scaled::of(&margins, &folds, &clusters, &none)?;
        let mut measures = BTreeMap::from([
            ("accuracy", report.accuracy.value),
            ("log_loss", report.log_loss),
            ("brier", report.brier),
            ("ece", report.ece),
            ("score_range", report.scores.max - report.scores.min),
            ("margin_std", report.margins.std),
        ]);
        if let Some(bounds) = report.bounds {
            measures.extend([("mean_bound", bounds.mean), ("beyond_bound", bounds.beyond)]);
        }
        if let Some(scaled) = scaled {
            measures.extend([
                ("log_loss_scaled", scaled.log_loss.value),
                ("brier_scaled", scaled.brier.value),
                ("ece_scaled", scaled.ece.value),
                ("temperature", scaled.temperature),
            ]);
        }
        if let Some((_, probabilities)) = known {
            measures.insert(CROSS_ENTROPY, cross_entropy(&margins, probabilities)?);
        }
        Ok(Self {
            label: label.to_owned(),
            seed,
            constraint: constraint.clone(),
            question,
            pairs: scores.len(),
            measures: measures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            probability_field: known.map(|(column, _)| column.to_owned()),
        })
    }

    /// Returns the identity of the files of `--eval-data`, or `None` if the run held out its own pairs.
    pub fn held_out(&self) -> Option<String> {
        let files = self.question.get("eval-data")?;
        files.as_array().is_some_and(|files| !files.is_empty()).then(|| files.to_string())
    }

    /// Returns the column of the probabilities that the scores were measured against, if they were: an inner
    /// `None` if the file is from before columns were recorded.
    pub fn known_by(&self) -> Option<Option<&str>> {
        self.measures.contains_key(CROSS_ENTROPY).then_some(self.probability_field.as_deref())
    }

    /// Refuses measures of a run with other options or data.
    ///
    /// # Errors
    /// Fails with the first option that differs.
    pub fn answers(&self, question: &Fingerprint, dir: &Path) -> Result<()> {
        for (name, value) in question {
            let before = self.question.get(name).unwrap_or(&Value::Null);
            ensure!(
                before == value,
                "{}: was measured with another --{name} ({before}, now {value}); name another --output",
                dir.display()
            );
        }
        Ok(())
    }
}
