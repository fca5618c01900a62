//! The model and the prompts of benchmarks that sample answers.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use pcrm_core::data::encode::encode_prompts;
use pcrm_core::data::preference::{ReadOptions, Ties};
use pcrm_core::data::prompts::load_prompts;
use pcrm_core::text::Tokenizer;
use pcrm_rl::rollout::{Budget, Prompt, numbered};

use crate::columns::ColumnArgs;
use crate::hub::{Hub, Weights};
use crate::machine::Machine;
use crate::numbers::positive;
use crate::usage::usage;

/// Options of benchmarks that sample answers.
#[derive(Debug, Args)]
pub(super) struct SampleArgs {
    /// Time the model in this Hugging Face folder or Hub repository (org/name)
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Draw random weights: the folder needs only config.json and a tokenizer
    #[arg(long)]
    pub random_init: bool,
    /// Use the first prompts that fit, in order, from these files of prompts or preferences
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Sample exactly N tokens for each answer
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive::<usize>)]
    pub new_tokens: usize,
    /// Skip prompts of more than N tokens
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = positive::<usize>)]
    max_prompt: usize,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    hub: Hub,
    #[command(flatten)]
    pub machine: Machine,
}

impl SampleArgs {
    /// Checks and returns the options for reading prompts.
    ///
    /// # Errors
    /// Fails if an option is invalid.
    pub fn reading(&self) -> Result<ReadOptions> {
        usage(self.columns.options(Ties::Keep))
    }

    /// Returns the model's folder and its tokenizer.
    ///
    /// # Errors
    /// Fails if the folder holds no model.
    pub fn opened(&self) -> Result<(PathBuf, Tokenizer)> {
        let dir = self.hub.model("--model", &self.model, Weights::drawn_if(self.random_init))?;
        let tokenizer = Tokenizer::from_dir(&dir)?;
        Ok((dir, tokenizer))
    }

    /// Returns the first `count` prompts that fit, and a cache budget for `rows` samples of the longest.
    ///
    /// # Errors
    /// Fails if files cannot be read or too few prompts fit.
    pub fn prompts(
        &self,
        options: ReadOptions,
        tokenizer: &Tokenizer,
        count: usize,
        rows: usize,
    ) -> Result<(Vec<Prompt>, Budget)> {
        let (records, _) = load_prompts(&self.hub.data("--data", &self.data)?, options)?;
        let (encoded, _) = encode_prompts(&records, tokenizer, Some(self.max_prompt))?;
        ensure!(
            encoded.len() >= count,
            "expected {count} prompts, found {} of at most {} tokens",
            encoded.len(),
            self.max_prompt
        );
        let prompts = numbered(encoded.into_iter().take(count).map(|prompt| prompt.ids));
        let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0) + self.new_tokens;
        Ok((prompts, Budget { cache_tokens: rows * (longest + 64), rows, ..Budget::default() }))
    }
}
