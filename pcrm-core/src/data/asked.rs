//! The prompt of a record: its column, and the columns of the system message and the earlier turns.
//!
//! A text prompt stays text unless the record has a column for a system message or for earlier turns. Those
//! are turns of a conversation, so the prompt becomes the user's turn after them and a chat template renders
//! all of it, as axolotl does with the same columns (`intel`, `icr`). A column counts even if it is empty in
//! a record, so that all records of a file are treated alike.

use serde_json::Value;

use super::conversation::{Content, Message, keys_of, kind_of};
use super::load::{Record, Refusal};
use super::report::ProblemKind;
use super::schema::conversation_key;

/// Columns of system messages.
pub(super) const SYSTEM: [&str; 3] = ["system", "system_prompt", "system_message"];

/// Columns of text prompts; `input` belongs to an `instruction` in the same record.
pub(super) const TEXTS: [&str; 5] = ["prompt", "question", "instruction", "input", "query"];

/// Columns of prompts that are lists of turns.
pub(super) const LISTS: [&str; 8] =
    ["prompt", "messages", "conversations", "conversation", "trajectory", "context", "input", "query"];

/// The column of earlier turns. A text in this column is the prompt if there is no other, as in the Stanford
/// Human Preferences.
pub(super) const HISTORY: &str = "history";

/// The columns that make up the prompt of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct PromptColumns<'a> {
    record: &'a Record,
    /// The column of the prompt.
    pub prompt: Option<&'static str>,
    /// The column of the system message.
    pub system: Option<&'static str>,
}

fn malformed(message: String) -> Refusal {
    (ProblemKind::Malformed, message)
}

/// Returns true if a value is a list of turns, as messages or in ShareGPT's form.
pub(super) fn is_turns(value: &Value) -> bool {
    let turn = |value: &Value| value["role"].is_string() || value["from"].is_string();
    value.as_array().is_some_and(|turns| !turns.is_empty() && turns.iter().all(turn))
}

impl<'a> PromptColumns<'a> {
    /// Finds the columns.
    ///
    /// # Errors
    /// Fails with a message if two columns could each be the prompt.
    pub(super) fn of(record: &'a Record) -> Result<Self, String> {
        let text = |key: &&str| record.get(*key).is_some_and(Value::is_string);
        let turns = |key: &&str| record.get(*key).is_some_and(is_turns);
        let given = |key: &str| record.get(key).is_some_and(|value| !value.is_null());
        let found = |prompt| Self {
            record,
            prompt,
            system: SYSTEM.into_iter().find(|key| record.contains_key(*key)),
        };
        if given("prompt") {
            return Ok(found(Some("prompt")));
        }
        let mut texts = TEXTS.into_iter().filter(text).filter(|key| *key != "input" || !text(&"instruction"));
        if let Some(first) = texts.next() {
            return match texts.next() {
                None => Ok(found(Some(first))),
                Some(second) => Err(format!(
                    "two prompts, {first:?} and {second:?}; expected one: name it with --prompt-field"
                )),
            };
        }
        let alone = text(&HISTORY).then_some(HISTORY);
        let null = record.contains_key("prompt").then_some("prompt");
        Ok(found(LISTS.into_iter().find(turns).or(alone).or(null)))
    }

    /// Returns the columns that the prompt is read from.
    pub(super) fn columns(&self) -> impl Iterator<Item = &'static str> {
        let beside = (self.prompt == Some("instruction")).then_some("input");
        let history = (self.prompt != Some(HISTORY)).then_some(HISTORY);
        self.prompt.into_iter().chain(beside).chain(self.system).chain(history)
    }

    /// Returns true if the record has a column for a system message or for earlier turns.
    pub(super) fn has_turns_before(&self) -> bool {
        self.system.is_some() || (self.prompt != Some(HISTORY) && self.record.contains_key(HISTORY))
    }

    /// Returns true if the record has a non-empty system message or earlier turns.
    pub(super) fn says_before(&self) -> bool {
        self.has_turns_before() && self.turns_before().is_ok_and(|turns| !turns.is_empty())
    }

    /// Returns true if the prompt is a list of turns.
    pub(super) fn is_list(&self) -> bool {
        self.prompt.and_then(|key| self.record.get(key)).is_some_and(Value::is_array)
    }

    /// Returns the turns before the prompt: the system message, then the history.
    ///
    /// # Errors
    /// Fails if a column has the wrong type.
    pub(super) fn turns_before(&self) -> Result<Vec<Message>, Refusal> {
        let mut turns = Vec::new();
        match self.system.and_then(|key| Some((key, self.record.get(key)?))) {
            None | Some((_, Value::Null)) => {}
            Some((_, Value::String(text))) if text.is_empty() => {}
            Some((_, Value::String(text))) => turns.push(Message::new("system", text.as_str())),
            Some((key, other)) => {
                return Err(malformed(format!("{key:?} is {}; expected text", kind_of(other))));
            }
        }
        let history = self.record.get(HISTORY).filter(|_| self.prompt != Some(HISTORY));
        turns.extend(history.map_or(Ok(Vec::new()), history_turns)?);
        Ok(turns)
    }

    /// Returns the prompt as turns, including those before it.
    ///
    /// # Errors
    /// Fails if a column has the wrong type.
    pub(super) fn as_turns(&self) -> Result<Vec<Message>, Refusal> {
        let mut turns = self.turns_before()?;
        let prompt = match self.prompt {
            None => Vec::new(),
            Some(key) => match self.record.get(key).unwrap_or(&Value::Null) {
                Value::String(text) => vec![Message::new("user", self.with_input(key, text))],
                list @ Value::Array(_) => turns_at(key, list)?,
                other => {
                    let message =
                        format!("{key:?} is {}; expected text or a list of messages", kind_of(other));
                    return Err(malformed(message));
                }
            },
        };
        join(&mut turns, prompt)?;
        Ok(turns)
    }

    /// Returns the record's whole conversation, including the turns before it.
    ///
    /// # Errors
    /// Fails if there is no conversation or a column has the wrong type.
    pub(super) fn conversation(&self) -> Result<Vec<Message>, Refusal> {
        let Some(key) = conversation_key(self.record) else {
            return Err(malformed(format!("no conversation (keys: {})", keys_of(self.record))));
        };
        let mut turns = self.turns_before()?;
        join(&mut turns, turns_at(key, &self.record[key])?)?;
        Ok(turns)
    }

    /// Returns the prompt: turns if it is a list, follows other turns or is in an instruction column;
    /// otherwise text. Returns `None` if the record has no prompt.
    ///
    /// # Errors
    /// Fails if a column has the wrong type.
    pub(super) fn content(&self, instructions: &[&str]) -> Result<Option<Content>, Refusal> {
        let Some(key) = self.prompt else {
            let turns = self.turns_before()?;
            return Ok((!turns.is_empty()).then_some(Content::Messages(turns)));
        };
        if self.is_list() || self.has_turns_before() || instructions.contains(&key) {
            return self.as_turns().map(|turns| Some(Content::Messages(turns)));
        }
        match self.record.get(key).unwrap_or(&Value::Null) {
            Value::String(text) => Ok(Some(Content::Text(text.clone()))),
            other => {
                Err(malformed(format!("{key:?} is {}; expected text or a list of messages", kind_of(other))))
            }
        }
    }

    /// Appends an instruction's input on the next line, as LLaMA-Factory does.
    fn with_input(&self, key: &str, text: &str) -> String {
        let input = self.record.get("input").and_then(Value::as_str).filter(|_| key == "instruction");
        [Some(text), input]
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Reads a list of turns, as messages or in ShareGPT's form.
fn turns_at(key: &str, list: &Value) -> Result<Vec<Message>, Refusal> {
    let turns = list.as_array().into_iter().flatten().map(Message::from_sharegpt);
    turns.collect::<Result<_, _>>().map_err(|message| malformed(format!("{key:?}: {message}")))
}

/// Pairs a prompt with its answer: a text that answers turns becomes the assistant's turn.
///
/// # Errors
/// Fails if a text follows turns that the assistant has already answered.
pub(super) fn beside(
    prompt: Option<Content>,
    answer: Content,
) -> Result<(Option<Content>, Content), Refusal> {
    match (prompt, answer) {
        (Some(Content::Messages(turns)), Content::Text(text)) => {
            to_answer(&turns)?;
            let said = Content::Messages(vec![Message::new("assistant", text)]);
            Ok((Some(Content::Messages(turns)), said))
        }
        other => Ok(other),
    }
}

/// Checks that the turns of a prompt await an answer.
///
/// # Errors
/// Fails if the last turn is the assistant's.
pub(super) fn to_answer(turns: &[Message]) -> Result<(), Refusal> {
    match turns.last().is_some_and(|turn| turn.role == "assistant") {
        true => {
            let message = "the prompt ends with the assistant's turn; expected a turn to answer";
            Err(malformed(message.to_owned()))
        }
        false => Ok(()),
    }
}

/// Appends turns to those before them. An equal system message is not repeated.
///
/// # Errors
/// Fails if two system messages differ.
pub(super) fn join(before: &mut Vec<Message>, mut turns: Vec<Message>) -> Result<(), Refusal> {
    let is_system = |turn: &Message| turn.role == "system";
    if let (Some(first), Some(second)) = (before.first(), turns.first())
        && is_system(first)
        && is_system(second)
    {
        if first.content.trim() != second.content.trim() {
            return Err(malformed(
                "a system message in its own column and another in the conversation; expected one".to_owned(),
            ));
        }
        turns.remove(0);
    }
    before.append(&mut turns);
    Ok(())
}

/// Reads earlier turns: exchanges `["asked", "answered"]`, or messages.
fn history_turns(history: &Value) -> Result<Vec<Message>, Refusal> {
    let exchanges = match history {
        Value::Null => return Ok(Vec::new()),
        Value::Array(_) if is_turns(history) => {
            return turns_at(HISTORY, history);
        }
        Value::Array(exchanges) => exchanges,
        other => {
            return Err(malformed(format!(
                "\"history\" is {}; expected a list of exchanges",
                kind_of(other)
            )));
        }
    };
    let mut turns = Vec::new();
    for exchange in exchanges {
        let parts: Option<Vec<&str>> =
            exchange.as_array().and_then(|parts| parts.iter().map(Value::as_str).collect());
        let Some([asked, answered]) = parts.as_deref() else {
            return Err(malformed(format!(
                "\"history\" has {exchange}; expected exchanges [\"asked\", \"answered\"]"
            )));
        };
        turns.extend([Message::new("user", *asked), Message::new("assistant", *answered)]);
    }
    Ok(turns)
}
