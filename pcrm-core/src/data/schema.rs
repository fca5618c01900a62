//! The meaning of a record's columns, recognised by their names and types.

mod columns;
mod detect;
mod labels;
mod read;
mod shape;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub(super) use columns::{answer_key, answers_key, completion_key, conversation_key};
pub(super) use labels::LabelKeys;

/// A known layout of records. Users choose one by its [name](Schema::name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schema {
    /// `prompt`, `chosen`, `rejected`, all text.
    StandardExplicit,
    /// `chosen` and `rejected`: text that begins with the prompt.
    StandardImplicit,
    /// `prompt`, `chosen`, `rejected`, all lists of messages.
    ConversationalExplicit,
    /// `chosen` and `rejected`: whole conversations.
    ConversationalImplicit,
    /// As [`Schema::ConversationalImplicit`] or [`Schema::ConversationalExplicit`], but with the prompt as
    /// text.
    ConversationalTextPrompt,
    /// `chosen` and `rejected`: dialogues marked `\n\nHuman:` and `\n\nAssistant:`.
    HhDialogues,
    /// `question` (`input`, `query`), `chosen`, `rejected`, all text.
    Question,
    /// `chosen` and `rejected` text; the prompt is a list of messages (`prompt`, `messages`, `context`, ..),
    /// or text with a `system` message or a `history` in separate columns.
    Chat,
    /// LLaMA-Factory: `instruction`, optional `input`, `system` and `history`; `chosen` and `rejected` text.
    Alpaca,
    /// LLaMA-Factory: `conversations` (or `messages`) and one message each in `chosen` and `rejected`.
    #[serde(rename = "sharegpt")]
    ShareGpt,
    /// Two answers in separate columns (`output_1` and `output_2`, `response_A` and `response_B`, ..) and a
    /// `label` (`winner`, `preference`, ..) that names the better one.
    Labelled,
    /// RewardBench: `prompt`, `chosen`, `rejected` text for a chat template, with `subset` and `id`.
    #[serde(rename = "reward_bench")]
    RewardBench,
    /// RewardBench 2: `prompt` text, `chosen` and `rejected` lists of texts; every chosen answer beats every
    /// rejected one.
    #[serde(rename = "reward_bench_2")]
    RewardBench2,
    /// `prompt` (`question`, `instruction`) and a list of answers in `responses` (`answers`, `outputs`,
    /// `completions`), with a list `scores` or `ranks`, or with a score or rank in each answer's object as in
    /// UltraFeedback; every answer beats those ranked below it.
    Ranked,
    /// OpenAssistant: one tree of messages per record, with nested replies; ranked replies of the assistant
    /// make pairs.
    #[serde(rename = "oasst_trees")]
    OasstTrees,
    /// OpenAssistant: one message per record, with `message_id`, `parent_id`, `text`, `role`, `rank`.
    #[serde(rename = "oasst_messages")]
    OasstMessages,
    /// One text: `text`.
    Text,
    /// One text: `prompt` and `completion`, `response` or `answer`; or `question` and `answer`.
    PromptCompletion,
    /// One conversation: `messages` (`conversations`, `conversation`), as messages or in ShareGPT's form.
    Messages,
    /// One conversation: `prompt` and `completion`, both lists of messages.
    ConversationalPromptCompletion,
    /// One conversation: `instruction`, optional `input`, and `output`.
    Instruction,
    /// An answer with a `label`, true if it is desirable, for KTO: `prompt` and `completion` (`response`,
    /// `answer`), or a conversation that ends with the answer.
    Kto,
    /// A prompt without an answer: `prompt` (`question`, `instruction`, `messages`, ..).
    Prompts,
}

impl Schema {
    /// All schemas; preference schemas come first.
    pub const ALL: [Self; 23] = [
        Self::StandardExplicit,
        Self::StandardImplicit,
        Self::ConversationalExplicit,
        Self::ConversationalImplicit,
        Self::ConversationalTextPrompt,
        Self::HhDialogues,
        Self::Question,
        Self::Chat,
        Self::Alpaca,
        Self::ShareGpt,
        Self::Labelled,
        Self::RewardBench,
        Self::RewardBench2,
        Self::Ranked,
        Self::OasstTrees,
        Self::OasstMessages,
        Self::Text,
        Self::PromptCompletion,
        Self::Messages,
        Self::ConversationalPromptCompletion,
        Self::Instruction,
        Self::Kto,
        Self::Prompts,
    ];

    /// Returns the schema's name on the command line and in serialised form.
    pub fn name(self) -> &'static str {
        match self {
            Self::StandardExplicit => "standard_explicit",
            Self::StandardImplicit => "standard_implicit",
            Self::ConversationalExplicit => "conversational_explicit",
            Self::ConversationalImplicit => "conversational_implicit",
            Self::ConversationalTextPrompt => "conversational_text_prompt",
            Self::HhDialogues => "hh_dialogues",
            Self::Question => "question",
            Self::Chat => "chat",
            Self::Alpaca => "alpaca",
            Self::ShareGpt => "sharegpt",
            Self::Labelled => "labelled",
            Self::RewardBench => "reward_bench",
            Self::RewardBench2 => "reward_bench_2",
            Self::Ranked => "ranked",
            Self::OasstTrees => "oasst_trees",
            Self::OasstMessages => "oasst_messages",
            Self::Text => "text",
            Self::PromptCompletion => "prompt_completion",
            Self::Messages => "messages",
            Self::ConversationalPromptCompletion => "conversational_prompt_completion",
            Self::Instruction => "instruction",
            Self::Kto => "kto",
            Self::Prompts => "prompts",
        }
    }

    /// Returns true if records are preferences: a chosen and a rejected answer, or several.
    pub fn is_pair(self) -> bool {
        !matches!(
            self,
            Self::Text
                | Self::PromptCompletion
                | Self::Messages
                | Self::ConversationalPromptCompletion
                | Self::Instruction
                | Self::Kto
                | Self::Prompts
        )
    }

    /// Returns true if a record may hold any number of pairs.
    pub fn is_many(self) -> bool {
        matches!(self, Self::RewardBench2 | Self::Ranked | Self::OasstTrees | Self::OasstMessages)
    }

    /// Returns the plural noun for records of this schema in reports, such as `pairs`.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Kto => "labelled answers",
            Self::Prompts => "prompts",
            _ if self.is_many() => "records",
            _ if self.is_pair() => "pairs",
            _ => "texts",
        }
    }

    /// Returns true if a file of this schema may also hold records of `other`, because both are read alike.
    pub fn admits(self, other: Self) -> bool {
        let dialogue = |schema| matches!(schema, Self::HhDialogues | Self::StandardImplicit);
        self == other || (dialogue(self) && dialogue(other))
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StandardExplicit => "TRL standard, explicit prompt",
            Self::StandardImplicit => "TRL standard, implicit prompt",
            Self::ConversationalExplicit => "TRL conversational, explicit prompt",
            Self::ConversationalImplicit => "TRL conversational, implicit prompt",
            Self::ConversationalTextPrompt => "TRL conversational, prompt as text",
            Self::HhDialogues => "HH dialogues",
            Self::Question => "standard, prompt in \"question\", \"input\" or \"query\"",
            Self::Chat => "texts as turns of a chat",
            Self::Alpaca => "LLaMA-Factory alpaca preferences",
            Self::ShareGpt => "LLaMA-Factory sharegpt preferences",
            Self::Labelled => "two answers and a label",
            Self::RewardBench => "RewardBench",
            Self::RewardBench2 => "RewardBench 2",
            Self::Ranked => "ranked answers",
            Self::OasstTrees => "OpenAssistant trees",
            Self::OasstMessages => "OpenAssistant messages",
            Self::Text => "texts",
            Self::PromptCompletion => "prompts and completions",
            Self::Messages => "conversations",
            Self::ConversationalPromptCompletion => "conversational prompts and completions",
            Self::Instruction => "instructions and outputs",
            Self::Kto => "labelled answers",
            Self::Prompts => "one prompt per record",
        })
    }
}

impl FromStr for Schema {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted = text.replace('-', "_").to_ascii_lowercase();
        Self::ALL.into_iter().find(|schema| schema.name() == wanted).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::invalid("schema", format!("{text:?} is unknown; known: {known}"))
        })
    }
}

#[cfg(test)]
mod tests;
