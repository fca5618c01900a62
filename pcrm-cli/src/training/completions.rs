//! The options for reading completions, shared by commands that train on single answers.

use anyhow::Result;
use clap::Args;
use pcrm_core::data::encode::{CompletionOptions, CompletionReport, Overlong, TrainOn};
use pcrm_core::data::report::MANY_LEFT_OUT;
use pcrm_core::model::ModelConfig;

use crate::columns::ColumnArgs;
use crate::dataset::training_length;
use crate::numbers::positive;

/// The options for reading completions.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
pub struct CompletionReading {
    /// Limit sequences (prompt and completion) to N tokens [default: 1024, or the model's positions]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    pub max_length: Option<usize>,
    /// Handle longer sequences by this rule: cut-end, or drop
    #[arg(long, value_name = "RULE", default_value_t = Overlong::CutEnd)]
    pub too_long: Overlong,
    /// Train on these tokens: completion (all tokens of rows without a prompt), assistant (the turns between
    /// the chat template's {% generation %} marks), or everything
    #[arg(long, value_name = "TOKENS", default_value_t = TrainOn::Completion)]
    pub train_on: TrainOn,
    #[command(flatten)]
    pub columns: ColumnArgs,
}

impl CompletionReading {
    /// Returns the encoding options for a model.
    ///
    /// # Errors
    /// Fails if the limit exceeds learned positions.
    pub fn options(&self, model: &ModelConfig) -> Result<CompletionOptions> {
        let max_length = Some(training_length(self.max_length, model)?);
        Ok(CompletionOptions { max_length, too_long: self.too_long, train_on: self.train_on })
    }
}

/// Returns a warning if many rows are read but not trained on.
pub fn shortfall(encoded: &CompletionReport) -> Option<String> {
    let out = encoded.rows - encoded.kept;
    let many = out as f64 > MANY_LEFT_OUT * encoded.rows as f64;
    many.then(|| format!("{out} of {} rows are left out: {encoded}", encoded.rows))
}
