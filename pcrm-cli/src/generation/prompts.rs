//! The prompts to answer: from the command line, files or the Hub.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use pcrm_core::data::conversation::{Content, Message};
use pcrm_core::data::encode::{EncodedPrompt, encode_prompts};
use pcrm_core::data::preference::Ties;
use pcrm_core::data::prompts::{Prompt as PromptRecord, load_prompts};
use pcrm_core::data::report::Origin;
use pcrm_core::text::Tokenizer;

use crate::columns::ColumnArgs;
use crate::hub::Hub;
use crate::numbers::positive;
use crate::progress::say;
use crate::{template, warnings};

/// The prompts to answer.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Prompts")]
pub struct PromptArgs {
    /// Answer this prompt; may be repeated
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// Answer the prompts of these files, folders or Hub data sets (org/name, org/name:split): text or
    /// messages in prompt, or preference data (prompts only)
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Leave out prompts of more than N tokens
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    max_prompt: Option<usize>,
    #[command(flatten)]
    columns: ColumnArgs,
}

impl PromptArgs {
    /// Returns true if any prompts are given.
    pub fn is_given(&self) -> bool {
        !(self.prompt.is_empty() && self.data.is_empty())
    }

    /// Returns the first given option that only affects how prompts are read, besides those that name them.
    pub fn reading(&self) -> Option<&'static str> {
        let columns = &self.columns;
        let given = [
            (self.max_prompt.is_some(), "--max-prompt"),
            (columns.schema.is_some(), "--schema"),
            (columns.prompt_field.is_some(), "--prompt-field"),
            (columns.chosen_field.is_some(), "--chosen-field"),
            (columns.rejected_field.is_some(), "--rejected-field"),
            (columns.margin_field.is_some(), "--margin-field"),
            (!columns.field.is_empty(), "--field"),
            (columns.score_margins, "--score-margins"),
            (columns.strict, "--strict"),
        ];
        given.into_iter().find_map(|(is_given, option)| is_given.then_some(option))
    }

    /// Returns the limit on the number of prompts.
    pub fn limit(&self) -> Option<usize> {
        self.columns.limit
    }

    /// Checks the options before anything is read.
    ///
    /// # Errors
    /// Fails if no prompt is given.
    pub fn check(&self) -> Result<()> {
        ensure!(self.is_given(), "expected --prompt or --data");
        self.columns.options(Ties::Keep).map(|_| ())
    }

    /// Reads and encodes the prompts. A prompt on the command line becomes a user message if the model has a
    /// chat template.
    ///
    /// # Errors
    /// Fails if a file cannot be read, the template refuses a prompt or no prompt is left.
    pub fn read(&self, hub: &Hub, tokenizer: &Tokenizer) -> Result<(Vec<PromptRecord>, Vec<EncodedPrompt>)> {
        let origin = Origin { file: Path::new("--prompt").into(), line: 1, record: 1 };
        let typed = |(at, text): (usize, &String)| PromptRecord {
            origin: Origin { line: at as u64 + 1, record: at as u64 + 1, ..origin.clone() },
            prompt: match tokenizer.has_chat_template() {
                true => Content::Messages(vec![Message::new("user", text.as_str())]),
                false => Content::Text(text.clone()),
            },
            columns: serde_json::Map::new(),
        };
        let mut rows: Vec<PromptRecord> = self.prompt.iter().enumerate().map(typed).collect();
        if !self.data.is_empty() {
            let data = hub.data("--data", &self.data)?;
            let (read, report) = load_prompts(&data, self.columns.options(Ties::Keep)?)?;
            say(&report.to_string());
            rows.extend(read);
        }
        rows.truncate(self.columns.limit.unwrap_or(usize::MAX));
        let (encoded, report) = encode_prompts(&rows, tokenizer, self.max_prompt)?;
        say(&report.to_string());
        template::lost_systems_of_prompts(&rows, tokenizer).iter().for_each(|text| warnings::print(text));
        Ok((rows, encoded))
    }
}
