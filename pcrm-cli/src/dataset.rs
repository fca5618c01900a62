//! From the user's files to encoded sets of answers and their bounds, with a line for what is left out.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use pcrm_core::constraint::{Constraint, Priors};
use pcrm_core::data::encode::{EncodeOptions, EncodeReport, EncodedSet, Padding, TooLong, encode_sets};
use pcrm_core::data::preference::{AnswerSet, Ties, load_preferences};
use pcrm_core::data::report::Report;
use pcrm_core::data::survey::Severity;
use pcrm_core::data::survey::bounds::Bounds;
use pcrm_core::model::ModelConfig;
use pcrm_core::text::Tokenizer;

use crate::columns::ColumnArgs;
use crate::numbers::positive;
use crate::progress::say;
use crate::warnings;

/// The most tokens of a sequence in training, unless the model has fewer positions or was trained with
/// another limit.
const TRAINING_LENGTH: usize = 1024;

/// Options of reading preference files.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
pub struct Reading {
    /// Limit sequences (prompt and answer) to N tokens [default: in training 1024, or the limit that the
    /// model was trained with; in evaluation all positions of the model]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    pub max_length: Option<usize>,
    /// Treat longer pairs by this rule: drop them, or cut-prompt from the left
    #[arg(long, value_name = "RULE", default_value_t = TooLong::Drop)]
    pub too_long: TooLong,
    #[command(flatten)]
    pub columns: ColumnArgs,
}

impl Reading {
    /// Checks the options that can be checked without data.
    ///
    /// # Errors
    /// A limit that holds no prompt and answer; columns that cannot be meant.
    pub fn check(&self) -> Result<()> {
        ensure!(self.max_length != Some(1), "--max-length 1: expected at least 2");
        self.columns.columns().map(drop)
    }

    /// The most tokens of a sequence that a model is trained on.
    ///
    /// # Errors
    /// Those of [`length`].
    pub fn training_length(&self, model: &ModelConfig) -> Result<usize> {
        training_length(self.max_length, model)
    }

    /// The most tokens of a sequence that a model scores: all that it has positions for.
    ///
    /// # Errors
    /// Those of [`length`].
    pub fn scoring_length(&self, model: &ModelConfig) -> Result<usize> {
        length(self.max_length, model.max_positions, model)
    }

    /// Reads preference files, with or without ties.
    ///
    /// # Errors
    /// Those of [`load_preferences`].
    pub fn preferences(&self, paths: &[PathBuf], ties: Ties) -> Result<(Vec<AnswerSet>, Report)> {
        let (sets, report) = load_preferences(paths, self.columns.options(ties)?)?;
        say(&report.to_string());
        Ok((sets, report))
    }

    /// Encodes sets of answers for a model with this padding, within so many tokens.
    ///
    /// # Errors
    /// Those of [`encode_sets`]: no pair is left.
    pub fn encode(
        &self,
        sets: &[AnswerSet],
        tokenizer: &Tokenizer,
        pad: Option<u32>,
        max_length: usize,
    ) -> Result<(Vec<EncodedSet>, EncodeReport)> {
        let options = EncodeOptions { max_length: Some(max_length), too_long: self.too_long, padding: pad };
        let (encoded, report) = encode_sets(sets, tokenizer, &options)?;
        say(&report.to_string());
        Ok((encoded, report))
    }
}

/// The most tokens of a sequence that a model is trained on: as asked for, else as it was trained before, else 1024.
///
/// # Errors
/// Those of [`length`].
pub fn training_length(asked: Option<usize>, model: &ModelConfig) -> Result<usize> {
    let usual = trained_length(model).unwrap_or(TRAINING_LENGTH);
    length(asked, usual.min(model.max_positions), model)
}

/// The limit on sequences that a model was trained with, as its config notes it.
fn trained_length(model: &ModelConfig) -> Option<usize> {
    let length = model.raw.get("pcrm")?.get("max_length")?.as_u64()?;
    usize::try_from(length).ok()
}

/// Says how many of these sequences are longer than any that the model was trained on.
pub fn say_beyond_training(model: &ModelConfig, longest: impl Iterator<Item = usize>) {
    let Some(trained) = trained_length(model) else { return };
    let beyond = longest.filter(|length| *length > trained).count();
    if beyond > 0 {
        say(&format!("{beyond} rows are longer than the {trained} tokens that the model was trained with"));
    }
}

/// The limit that was asked for, else `usual`, against the positions that a model has.
///
/// # Errors
/// A limit beyond learned positions, of which there are no others.
pub fn length(asked: Option<usize>, usual: usize, model: &ModelConfig) -> Result<usize> {
    let Some(asked) = asked else { return Ok(usual) };
    let positions = model.max_positions;
    ensure!(
        asked <= positions || !model.has_learned_positions(),
        "--max-length {asked}: the model has learned {positions} positions and has no others; expected at most \
         {positions}"
    );
    if asked > positions {
        warnings::print(&format!(
            "--max-length {asked} is beyond the {positions} positions of the model's config.json: it was not trained \
             on later ones, and scores of longer texts may mean nothing"
        ));
    }
    Ok(asked)
}

/// The padding id of a reward model: the tokenizer's, else the config's, else EOS, as TRL chooses.
pub fn padding(model: &ModelConfig, tokenizer: &Tokenizer) -> Option<u32> {
    Padding::of(model, tokenizer).id
}

/// Δ* of every pair of these sets.
///
/// # Errors
/// The constraint's, and a bound that is not positive.
pub fn bounds(constraint: &dyn Constraint, sets: &[EncodedSet], priors: &Priors) -> Result<Vec<f32>> {
    pcrm_rl::train::bounds::bounds(constraint, sets, priors).context("--constraint")
}

/// The warnings about bounds that most likely do not do what the user wants: they never act, leave nothing to learn, or
/// favour the longer answer.
pub fn bound_warnings(sets: &[EncodedSet], bounds: &[f32]) -> Vec<String> {
    let findings = Bounds::of(sets, bounds, None).findings().into_iter();
    let grave = findings.filter(|finding| finding.severity >= Severity::Warning);
    grave.map(|finding| format!("--constraint: {}. {}", finding.found, finding.advice)).collect()
}
