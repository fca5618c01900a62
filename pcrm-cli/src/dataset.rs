//! From the user's files to encoded pairs and their bounds, with what was left out said aloud.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::data::encode::{EncodeOptions, EncodeReport, EncodedPair, TooLong, encode_pairs};
use pcrm_core::data::preference::{Preference, Ties, load_preferences};
use pcrm_core::data::report::Report;
use pcrm_core::data::survey::Severity;
use pcrm_core::data::survey::bounds::Bounds;
use pcrm_core::data::survey::ends::Padding;
use pcrm_core::model::RewardModel;
use pcrm_core::text::Tokenizer;

use crate::columns::ColumnArgs;
use crate::progress::say;

/// How preference files are read.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
pub struct Reading {
    /// The most tokens a sequence (prompt and answer) may have
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub max_length: usize,
    /// What to do with a longer pair: drop it, or cut-prompt from the left
    #[arg(long, value_name = "RULE", default_value_t = TooLong::Drop)]
    pub too_long: TooLong,
    #[command(flatten)]
    pub columns: ColumnArgs,
}

impl Reading {
    /// Reads preference files, with or without ties.
    ///
    /// # Errors
    /// Those of [`load_preferences`].
    pub fn preferences(&self, paths: &[PathBuf], ties: Ties) -> Result<(Vec<Preference>, Report)> {
        let (pairs, report) = load_preferences(paths, self.columns.options(ties)?)?;
        say(&report.to_string());
        Ok((pairs, report))
    }

    /// Encodes pairs for a model.
    ///
    /// # Errors
    /// Those of [`encode_pairs`]: no pair is left.
    pub fn encode(
        &self,
        pairs: &[Preference],
        tokenizer: &Tokenizer,
        pad: Option<u32>,
    ) -> Result<(Vec<EncodedPair>, EncodeReport)> {
        ensure!(self.max_length > 1, "--max-length {}: expected at least 2", self.max_length);
        let options = EncodeOptions { max_length: Some(self.max_length), too_long: self.too_long };
        let (mut encoded, report) = encode_pairs(pairs, tokenizer, &options)?;
        if let Some(pad) = pad {
            encoded.iter_mut().for_each(|pair| pair.strip_padding(pad));
        }
        say(&report.to_string());
        Ok((encoded, report))
    }
}

/// The padding id of a reward model: the tokenizer's, else the config's, else EOS, as TRL chooses.
pub fn padding(model: &RewardModel, tokenizer: &Tokenizer) -> Option<u32> {
    Padding::of(model.config(), tokenizer).id
}

/// Δ* of every pair.
///
/// # Errors
/// The constraint's, and a bound that is not positive.
pub fn bounds(constraint: &dyn Constraint, pairs: &[EncodedPair], priors: &Priors) -> Result<Vec<f32>> {
    let views: Vec<PairView<'_>> = pairs.iter().map(EncodedPair::view).collect();
    constraint.checked_bounds(&views, priors).context("--constraint")
}

/// Warns of bounds that most likely do not do what the user wants: they never act, leave nothing to learn, or favour
/// the longer answer.
pub fn warn_of_bounds(pairs: &[EncodedPair], bounds: &[f32]) {
    let findings = Bounds::of(pairs, bounds, None).findings();
    for finding in findings.iter().filter(|finding| finding.severity >= Severity::Warning) {
        say(&format!("warning: --constraint: {}. {}", finding.found, finding.advice));
    }
}
