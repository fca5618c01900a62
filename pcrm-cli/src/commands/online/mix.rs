//! Texts that PPO trains on besides a policy's own answers: options and reading.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use pcrm_core::data::completions::load_completions;
use pcrm_core::data::encode::{CompletionOptions, Overlong, TrainOn, encode_completions};
use pcrm_core::data::files::{self, data_files};
use pcrm_core::data::preference::Ties;
use pcrm_core::model::ModelConfig;
use pcrm_core::text::Tokenizer;
use pcrm_rl::objective::sft::Completions;
use serde_json::{Value, json};

use super::args::OnlineArgs;
use crate::dataset::training_length;
use crate::numbers::real;
use crate::progress::say;
use crate::template;
use crate::training::completion_shortfall;
use crate::warnings::Warnings;

/// Options of the pre-training mix.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pre-training mix")]
pub struct MixArgs {
    /// Also train on these texts (prompts with completions, conversations or texts), as many per update as it
    /// has prompts
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    pub ptx_data: Vec<PathBuf>,
    /// Weight their loss, −ln p per token, by C
    #[arg(long, value_name = "C", default_value_t = 0.05, value_parser = real, requires = "ptx_data")]
    pub ptx_coef: f64,
}

impl MixArgs {
    /// Reads and encodes the texts.
    ///
    /// # Errors
    /// Fails if a file cannot be read, the weight is not positive, or no text is left.
    pub fn texts(
        &self,
        args: &OnlineArgs,
        model: &ModelConfig,
        tokenizer: &Tokenizer,
        warnings: &mut Warnings,
    ) -> Result<Completions> {
        let paths = args.hub.data("--ptx-data", &self.ptx_data)?;
        let (rows, report) = load_completions(&paths, args.columns.options(Ties::Keep)?)?;
        say(&report.to_string());
        let options = CompletionOptions {
            max_length: Some(training_length(None, model)?),
            too_long: Overlong::CutEnd,
            train_on: TrainOn::Completion,
        };
        let (encoded, report) = encode_completions(&rows, tokenizer, &options)?;
        say(&report.to_string());
        let systems = template::lost_systems(&rows, tokenizer);
        completion_shortfall(&report)
            .into_iter()
            .chain(systems)
            .for_each(|text| warnings.add(format!("--ptx-data: {text}")));
        ensure!(!encoded.is_empty(), "--ptx-data: no text is left to train on");
        Ok(Completions::new(encoded))
    }

    /// Returns the identity of the texts and their weight.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    pub fn identity(&self) -> Result<Value> {
        let digests: Result<Vec<String>> =
            data_files(&self.ptx_data)?.iter().map(|path| Ok(files::digest(path)?)).collect();
        Ok(json!([digests?, self.ptx_coef]))
    }
}
