//! The columns of each schema, and a check that a record has them.

use serde_json::{Map, Value};

use super::Schema;
use super::labels::LabelKeys;
use super::shape::{ValueShape, mismatch};
use crate::data::asked::{PromptColumns, is_turns};
use crate::data::conversation::{Message, keys_of};

impl Schema {
    /// Checks that a record has the columns of this schema, which the user chose by name.
    ///
    /// # Errors
    /// Fails if a column is missing or has the wrong type.
    pub fn check(self, record: &Map<String, Value>) -> Result<(), String> {
        use ValueShape::{List, Messages, Text, Texts, Tree, Turn};
        let named = PromptColumns::of(record)?.prompt.unwrap_or(match self {
            Self::Question => "question",
            Self::ShareGpt => "conversations",
            _ => "prompt",
        });
        let columns: &[(&str, &[ValueShape])] = match self {
            Self::StandardExplicit | Self::RewardBench => {
                &[("prompt", &[Text]), ("chosen", &[Text]), ("rejected", &[Text])]
            }
            Self::StandardImplicit | Self::HhDialogues => &[("chosen", &[Text]), ("rejected", &[Text])],
            Self::ConversationalExplicit => {
                &[(named, &[Messages, List]), ("chosen", &[Messages]), ("rejected", &[Messages])]
            }
            Self::ConversationalImplicit => &[("chosen", &[Messages]), ("rejected", &[Messages])],
            Self::ConversationalTextPrompt => {
                &[(named, &[Text]), ("chosen", &[Messages]), ("rejected", &[Messages])]
            }
            Self::Question => &[(named, &[Text]), ("chosen", &[Text]), ("rejected", &[Text])],
            Self::Chat => &[(named, &[Text, Messages, List]), ("chosen", &[Text]), ("rejected", &[Text])],
            Self::Alpaca => &[("instruction", &[Text]), ("chosen", &[Text]), ("rejected", &[Text])],
            Self::ShareGpt => &[(named, &[List, Messages]), ("chosen", &[Turn]), ("rejected", &[Turn])],
            Self::RewardBench2 => &[("prompt", &[Text]), ("chosen", &[Texts]), ("rejected", &[Texts])],
            Self::Labelled => match LabelKeys::of(record) {
                Some(LabelKeys { answers: (first, second), .. }) => {
                    &[(first, &[Text, Messages]), (second, &[Text, Messages])]
                }
                None => return Err(format!("no two answers with a label (keys: {})", keys_of(record))),
            },
            Self::Ranked => &[
                (named, &[Text, Messages, List]),
                (answers_key(record).unwrap_or("responses"), &[Texts, List, Messages]),
            ],
            Self::OasstTrees => &[("prompt", &[Tree, Turn])],
            Self::OasstMessages => &[("message_id", &[Text]), ("role", &[Text]), ("text", &[Text])],
            Self::Text => &[("text", &[Text])],
            Self::PromptCompletion => {
                &[(named, &[Text]), (completion_key(record).unwrap_or("completion"), &[Text])]
            }
            Self::Messages => &[(conversation_key(record).unwrap_or("messages"), &[Messages, List])],
            Self::ConversationalPromptCompletion => &[
                (named, &[Messages, List]),
                (completion_key(record).unwrap_or("completion"), &[Messages, Text]),
            ],
            Self::Instruction => &[("instruction", &[Text]), ("output", &[Text])],
            Self::Kto => match answer_key(record) {
                Some(answer) => &[(named, &[Text, Messages, List]), (answer, &[Text, Messages])],
                None => &[(conversation_key(record).unwrap_or("messages"), &[Messages, List])],
            },
            Self::Prompts => &[(named, &[Text, Messages, List])],
        };
        for (key, shapes) in columns {
            if !record.get(*key).is_some_and(|value| shapes.contains(&ValueShape::of(value))) {
                let expected: Vec<&str> = shapes.iter().map(|shape| shape.words()).collect();
                return Err(format!(
                    "{} (keys: {}); schema: {}",
                    mismatch(key, record.get(*key), &expected.join(" or ")),
                    keys_of(record),
                    self.name()
                ));
            }
        }
        Ok(())
    }
}

/// Returns the key of a record's list of answers.
pub(in crate::data) fn answers_key(record: &Map<String, Value>) -> Option<&'static str> {
    ["responses", "answers", "outputs", "completions"]
        .into_iter()
        .find(|key| record.get(*key).is_some_and(Value::is_array))
}

/// Returns the key of a single record's answer.
pub(in crate::data) fn completion_key(record: &Map<String, Value>) -> Option<&'static str> {
    ["completion", "response", "answer"].into_iter().find(|key| record.contains_key(*key))
}

/// Returns the key of a single record's answer, unless its prompt is a whole conversation that already ends
/// with the assistant's turn: the conversation is then all of the text, as in TRL.
pub(in crate::data) fn answer_key(record: &Map<String, Value>) -> Option<&'static str> {
    completion_key(record).filter(|_| !is_answered(record))
}

/// Returns true if a record's prompt is its conversation and the assistant has the last turn.
fn is_answered(record: &Map<String, Value>) -> bool {
    let Some(key) = conversation_key(record) else { return false };
    let last = record[key].as_array().and_then(|turns| turns.last());
    PromptColumns::of(record).is_ok_and(|asked| asked.prompt == Some(key))
        && last
            .and_then(|turn| Message::from_sharegpt(turn).ok())
            .is_some_and(|turn| turn.role == "assistant")
}

/// Returns the key of a record's whole conversation.
pub(in crate::data) fn conversation_key(record: &Map<String, Value>) -> Option<&'static str> {
    ["messages", "conversations", "conversation"]
        .into_iter()
        .find(|key| record.get(*key).is_some_and(is_turns))
}
