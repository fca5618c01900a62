//! Judges of how often a pair's preferred answer wins: cross-fitted models, a given model, or annotators.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::encode::{self, EncodedSet};
use pcrm_core::data::files::{self, data_files};
use pcrm_core::model::Scores;
use pcrm_core::text::Tokenizer;
use pcrm_rl::crossfit::{Crossfit, margins_by, win};
use pcrm_rl::manifest::quantisation;
use pcrm_rl::train::RewardOptions;
use serde_json::Value;

use super::{EvidenceArgs, agreement};
use crate::hub::Weights;
use crate::interrupt;
use crate::progress::{Watch, say};
use crate::training::TrainingArgs;
use crate::training::reward::margins;
use crate::usage::named;

/// The source of win rates.
pub struct Judges<'a> {
    pub training: &'a TrainingArgs,
    pub evidence: &'a EvidenceArgs,
    pub options: &'a RewardOptions,
    pub tokenizer: &'a Tokenizer,
}

impl Judges<'_> {
    /// Returns a description of the judges, the sets they judged, and the win rate of each pair's preferred
    /// answer.
    ///
    /// # Errors
    /// Fails if a judge or a column cannot be read, or cross-fitting fails.
    pub fn wins(&self, sets: Vec<EncodedSet>) -> Result<(String, Vec<EncodedSet>, Vec<f32>)> {
        let EvidenceArgs { judge, agreement_field, folds, .. } = self.evidence;
        match (judge, agreement_field) {
            (Some(judge), _) => {
                let (sets, wins) = self.of_judge(judge, sets)?;
                Ok((format!("judged by {}", judge.display()), sets, wins))
            }
            (_, Some(field)) => {
                let files = data_files(&self.training.data)?;
                let wins = agreement::shares(&files, field, encode::pairs(&sets))?;
                Ok((format!("annotators, by column {field}"), sets, wins))
            }
            _ => {
                let wins = self.crossfitted(&sets)?;
                Ok((format!("cross-fitted in {folds} folds"), sets, wins))
            }
        }
    }

    fn crossfitted(&self, sets: &[EncodedSet]) -> Result<Vec<f32>> {
        let training = self.training;
        let backend = training.machine.open()?;
        let base = training.source().base();
        let crossfit = Crossfit {
            backend: backend.as_ref(),
            base: &base,
            tokenizer: self.tokenizer,
            options: self.options,
            folds: self.evidence.folds,
            cache: margins(),
            stop: interrupt::flag()?,
        };
        crossfit.wins(sets, &mut Watch::default()).map_err(named)
    }

    /// Judges with a model and its own tokenizer, leaving out pairs that are too long for it.
    fn of_judge(&self, given: &Path, sets: Vec<EncodedSet>) -> Result<(Vec<EncodedSet>, Vec<f32>)> {
        let training = self.training;
        let dir = training.hub.model("--judge", given, Weights::Read)?;
        self.warn_of_training(&dir)?;
        let backend = training.machine.open()?;
        let (model, tokenizer) =
            training.machine.trained(backend.as_ref(), &dir, quantisation(&dir)).context("--judge")?;
        let (rows, _) = training.reading.preferences(&training.data, training.kept_ties())?;
        let max_length = training.reading.scoring_length(model.outline())?;
        let (own, _) = training.reading.encode(&rows, &tokenizer, model.outline().pad, max_length)?;
        let margins = margins_by(&model, &own.iter().collect::<Vec<_>>(), self.options.trainer.micro_tokens)?;
        let margins: HashMap<usize, f32> = encode::pairs(&own).map(|pair| pair.row).zip(margins).collect();
        let before = encode::pairs(&sets).count();
        let judged = |set: EncodedSet| set.retained(|pair| margins.contains_key(&pair.row));
        let sets: Vec<EncodedSet> = sets.into_iter().filter_map(judged).collect();
        let wins: Vec<f32> = encode::pairs(&sets)
            .filter_map(|pair| margins.get(&pair.row))
            .map(|margin| win(*margin))
            .collect();
        ensure!(!sets.is_empty(), "--judge {}: none of the {before} pairs can be judged", given.display());
        if wins.len() < before {
            say(&format!("{} pairs are left out: too long for the judge", before - wins.len()));
        }
        Ok((sets, wins))
    }

    /// Warns that a judge trained on these pairs overstates confidence.
    fn warn_of_training(&self, judge: &Path) -> Result<()> {
        let Ok(text) = fs::read_to_string(judge.join("manifest.json")) else { return Ok(()) };
        let manifest: Value = serde_json::from_str(&text).unwrap_or_default();
        let known = manifest["fingerprint"]["data"].as_array().cloned().unwrap_or_default();
        for file in data_files(&self.training.data)? {
            let digest = files::digest(&file)?;
            if known.contains(&Value::from(digest)) {
                say(&format!(
                    "warning: --judge {} was trained on {}: it is overconfident about pairs it has memorised",
                    judge.display(),
                    file.display()
                ));
            }
        }
        Ok(())
    }
}
