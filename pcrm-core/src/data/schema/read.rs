//! The columns that each schema reads.

use super::Schema;
use super::columns::answers_key;
use super::labels::LabelKeys;
use crate::data::asked::{HISTORY, LISTS, PromptColumns, SYSTEM, TEXTS};
use crate::data::load::Record;
use crate::data::preference::{is_score, score_columns};
use crate::data::scored::SCORED_BY;

/// Columns that rank the answers of [`Schema::Ranked`].
const RANKS: [&str; 4] = ["scores", "ranks", "rank", "ranking"];

/// Columns of the messages of [`Schema::OasstMessages`].
const MESSAGES: [&str; 6] = ["message_id", "parent_id", "text", "role", "rank", "deleted"];

/// Columns that are read only to refuse features that are not supported.
const TEMPLATE: [&str; 2] = ["tools", "chat_template_kwargs"];

impl Schema {
    /// Returns the columns that this schema reads from a record, including scores, margins and chat template
    /// columns; a record need not have all of them.
    pub(in crate::data) fn reads(self, record: &Record) -> Vec<&str> {
        let asked: Vec<&str> =
            PromptColumns::of(record).map(|asked| asked.columns().collect()).unwrap_or_default();
        let mut read = match self {
            Self::StandardExplicit | Self::RewardBench | Self::RewardBench2 => vec!["prompt"],
            Self::StandardImplicit | Self::HhDialogues => vec![],
            Self::Question => {
                asked.into_iter().filter(|key| *key != HISTORY && !SYSTEM.contains(key)).collect()
            }
            Self::Labelled => {
                let keys = LabelKeys::of(record);
                let of = |keys: LabelKeys| [keys.answers.0, keys.answers.1, keys.label];
                asked.into_iter().chain(keys.map(of).into_iter().flatten()).collect()
            }
            Self::Ranked => asked.into_iter().chain(answers_key(record)).chain(RANKS).collect(),
            Self::OasstTrees => vec!["prompt"],
            Self::OasstMessages => MESSAGES.to_vec(),
            Self::Text => vec!["text"],
            Self::Messages => asked.into_iter().chain(super::conversation_key(record)).collect(),
            Self::Kto => {
                let answer = super::answer_key(record).or_else(|| super::conversation_key(record));
                asked.into_iter().chain(answer).chain(["label"]).collect()
            }
            // Prompt rows keep all columns.
            Self::Prompts => record.keys().map(String::as_str).collect(),
            Self::Instruction => asked.into_iter().chain(["output"]).collect(),
            Self::PromptCompletion | Self::ConversationalPromptCompletion => {
                asked.into_iter().chain(super::completion_key(record)).collect()
            }
            _ => asked,
        };
        if self.is_pair()
            && !matches!(self, Self::Labelled | Self::Ranked | Self::OasstTrees | Self::OasstMessages)
        {
            read.extend(["chosen", "rejected"]);
        }
        if self.is_pair() {
            read.push("margin");
            read.extend(score_columns(record).into_iter().flatten());
        }
        if self == Self::RewardBench {
            read.extend(["subset", "id"]);
        }
        read.extend(TEMPLATE);
        read.push(SCORED_BY);
        read
    }

    /// Returns true if some record of this schema may use the column.
    pub(in crate::data) fn may_read(self, column: &str, record: &Record) -> bool {
        let prompts = || TEXTS.into_iter().chain(LISTS).chain(SYSTEM).chain([HISTORY]);
        let optional = match self {
            Self::Alpaca | Self::Instruction => {
                ["instruction", "input", HISTORY].contains(&column) || SYSTEM.contains(&column)
            }
            Self::Chat | Self::ShareGpt => prompts().any(|known| known == column),
            _ => false,
        };
        optional || self.reads(record).contains(&column) || (self.is_pair() && is_score(column))
    }
}
