//! Reads the user's files into encoded sets of answers and their bounds, and reports what was left out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Arg, Args};
use pcrm_core::constraint::{Constraint, Priors};
use pcrm_core::data::encode::{EncodeOptions, EncodeReport, EncodedSet, Padding, TooLong, encode_sets};
use pcrm_core::data::files::data_files;
use pcrm_core::data::preference::{AnswerSet, Ties, load_preferences};
use pcrm_core::data::report::Report;
use pcrm_core::data::slice::Slice;
use pcrm_core::data::survey::Severity;
use pcrm_core::data::survey::bounds::Bounds;
use pcrm_core::model::{ModelConfig, Outline};
use pcrm_core::text::Tokenizer;

use crate::columns::ColumnArgs;
use crate::numbers::positive;
use crate::progress::say;
use crate::warnings;

/// The longest training sequence in tokens, unless the model has fewer positions or was trained with another
/// limit.
const TRAINING_LENGTH: usize = 1024;

/// Checks that writing `output` leaves the data alone, however its path is spelt.
///
/// # Errors
/// Fails if `output` is one of the files of `data`, or a file that they name a slice of.
pub fn spare_inputs(option: &str, output: &Path, data: &[PathBuf]) -> Result<()> {
    let Ok(written) = output.canonicalize() else { return Ok(()) };
    for file in data_files(data)? {
        let (file, _) = Slice::of(&file)?;
        let same = file.canonicalize().is_ok_and(|file| file == written);
        ensure!(!same, "{option} {}: is one of --data; name another file", output.display());
    }
    Ok(())
}

/// Refuses a path that ends in brackets which are not a slice.
///
/// # Errors
/// Fails with the option and the path.
pub fn sliced(option: &str, data: &[PathBuf]) -> Result<()> {
    data.iter().try_for_each(|path| Slice::of(path).map(drop)).with_context(|| option.to_owned())
}

/// Options for reading preference files.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
pub struct Reading {
    /// Limit sequences (prompt and answer) to N tokens [default: 1024, or the limit the model was trained with]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    pub max_length: Option<usize>,
    /// Handle longer pairs by this rule: drop them, or cut-prompt from the left
    #[arg(long, value_name = "RULE", default_value_t = TooLong::Drop)]
    pub too_long: TooLong,
    #[command(flatten)]
    pub columns: ColumnArgs,
}

/// Names the default of evaluation in the help of `--max-length`.
pub fn all_positions(max_length: Arg) -> Arg {
    max_length.help("Limit sequences (prompt and answer) to N tokens [default: all positions of the model]")
}

impl Reading {
    /// Checks the options that can be checked without data.
    ///
    /// # Errors
    /// Fails if the limit cannot hold a prompt and an answer, or a column option is invalid.
    pub fn check(&self) -> Result<()> {
        ensure!(self.max_length != Some(1), "--max-length 1: expected at least 2");
        self.columns.columns().map(drop)
    }

    /// Returns the longest sequence for training, in tokens.
    ///
    /// # Errors
    /// Fails as [`length`] does.
    pub fn training_length<'a>(&self, model: impl Into<Outline<'a>>) -> Result<usize> {
        training_length(self.max_length, model)
    }

    /// Returns the longest sequence for scoring, in tokens: by default all positions of the model.
    ///
    /// # Errors
    /// Fails as [`length`] does.
    pub fn scoring_length<'a>(&self, model: impl Into<Outline<'a>>) -> Result<usize> {
        let model = model.into();
        length(self.max_length, model.max_positions, model)
    }

    /// Reads preference files, with or without ties.
    ///
    /// # Errors
    /// Fails as [`load_preferences`] does.
    pub fn preferences(&self, paths: &[PathBuf], ties: Ties) -> Result<(Vec<AnswerSet>, Report)> {
        let (sets, report) = load_preferences(paths, self.columns.options(ties)?)?;
        say(&report.to_string());
        Ok((sets, report))
    }

    /// Encodes sets of answers for a model with this padding, within `max_length` tokens.
    ///
    /// # Errors
    /// Fails as [`encode_sets`] does, for example if no pair is left.
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

/// Returns the longest sequence for training, in tokens: the requested limit, else that of earlier training,
/// else 1024.
///
/// # Errors
/// Fails as [`length`] does.
pub fn training_length<'a>(asked: Option<usize>, model: impl Into<Outline<'a>>) -> Result<usize> {
    let model = model.into();
    let usual = trained_length(model).unwrap_or(TRAINING_LENGTH);
    length(asked, usual.min(model.max_positions), model)
}

/// Returns the limit on sequences that the model's config records from its training.
fn trained_length(model: Outline<'_>) -> Option<usize> {
    let length = model.raw.get("pcrm")?.get("max_length")?.as_u64()?;
    usize::try_from(length).ok()
}

/// Reports how many of these sequences are longer than the limit of the model's training.
pub fn say_beyond_training<'a>(model: impl Into<Outline<'a>>, longest: impl Iterator<Item = usize>) {
    let Some(trained) = trained_length(model.into()) else { return };
    let beyond = longest.filter(|length| *length > trained).count();
    if beyond > 0 {
        say(&format!("{beyond} rows are longer than the {trained} tokens of the model's training"));
    }
}

/// Returns the requested limit, else `usual`, after checking it against the model's positions.
///
/// # Errors
/// Fails if the limit exceeds learned positions, which cannot be extended.
pub fn length<'a>(asked: Option<usize>, usual: usize, model: impl Into<Outline<'a>>) -> Result<usize> {
    let Some(asked) = asked else { return Ok(usual) };
    let model = model.into();
    let positions = model.max_positions;
    ensure!(
        asked <= positions || !model.has_learned_positions,
        "--max-length {asked}: the model has only {positions} learned positions; expected at most {positions}"
    );
    if asked > positions {
        warnings::print(&format!(
            "--max-length {asked} is beyond the {positions} positions of the model's config.json: it was not \
             trained on later positions, and scores of longer texts may be meaningless"
        ));
    }
    Ok(asked)
}

/// Returns the padding id of a reward model: the tokenizer's, else the config's, else EOS, as in TRL.
pub fn padding(model: &ModelConfig, tokenizer: &Tokenizer) -> Option<u32> {
    Padding::of(model, tokenizer).id
}

/// Returns Δ* of every pair of these sets.
///
/// # Errors
/// Fails if the constraint fails or gives a bound that is not positive.
pub fn bounds(constraint: &dyn Constraint, sets: &[EncodedSet], priors: &Priors) -> Result<Vec<f32>> {
    pcrm_rl::train::bounds::bounds(constraint, sets, priors).context("--constraint")
}

/// Returns warnings about bounds that are probably not intended: they never act, leave nothing to learn, or
/// favour the longer answer.
pub fn bound_warnings(sets: &[EncodedSet], bounds: &[f32]) -> Vec<String> {
    let findings = Bounds::of(sets, bounds, None).findings().into_iter();
    let grave = findings.filter(|finding| finding.severity >= Severity::Warning);
    grave.map(|finding| format!("--constraint: {}. {}", finding.found, finding.advice)).collect()
}
