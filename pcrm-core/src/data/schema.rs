//! What the columns of a record mean, told by their names and types.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::conversation::{keys_of, kind_of};

/// A known shape of records.
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
    /// As [`Schema::ConversationalImplicit`] or [`Schema::ConversationalExplicit`], the prompt given as text.
    ConversationalTextPrompt,
    /// `chosen` and `rejected`: dialogues marked `\n\nHuman:` and `\n\nAssistant:`.
    HhDialogues,
    /// `question`, `chosen`, `rejected`, all text.
    Question,
    /// LLaMA-Factory: `instruction`, maybe `input`, `system` and `history`; `chosen` and `rejected` text.
    Alpaca,
    /// LLaMA-Factory: `conversations` and one message each in `chosen` and `rejected`.
    ShareGpt,
    /// One text: `text`.
    Text,
    /// One text: `prompt` and `completion`, `response` or `answer`; or `question` and `answer`.
    PromptCompletion,
    /// One conversation: `messages`.
    Messages,
    /// One conversation: `prompt` and `completion`, both lists of messages.
    ConversationalPromptCompletion,
    /// One conversation: `instruction`, maybe `input`, and `output`.
    Instruction,
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
            Self::Question => "standard, prompt in \"question\"",
            Self::Alpaca => "LLaMA-Factory alpaca preferences",
            Self::ShareGpt => "LLaMA-Factory sharegpt preferences",
            Self::Text => "texts",
            Self::PromptCompletion => "prompts and completions",
            Self::Messages => "conversations",
            Self::ConversationalPromptCompletion => "conversational prompts and completions",
            Self::Instruction => "instructions and outputs",
        })
    }
}

impl Schema {
    /// Whether records are pairs of a chosen and a rejected answer.
    pub fn is_pair(self) -> bool {
        !matches!(
            self,
            Self::Text
                | Self::PromptCompletion
                | Self::Messages
                | Self::ConversationalPromptCompletion
                | Self::Instruction
        )
    }

    /// Whether a record of `other` may stand in a file of this schema: both are read alike.
    pub fn admits(self, other: Self) -> bool {
        let dialogue = |schema| matches!(schema, Self::HhDialogues | Self::StandardImplicit);
        self == other || (dialogue(self) && dialogue(other))
    }

    /// The schema of a preference pair.
    ///
    /// # Errors
    /// The keys found and what was expected.
    pub fn of_pair(record: &Map<String, Value>) -> Result<Self, String> {
        let (Some(chosen), Some(rejected)) = (record.get("chosen"), record.get("rejected")) else {
            let missing = if record.contains_key("chosen") { "\"rejected\"" } else { "\"chosen\"" };
            return Err(format!(
                "no {missing} (keys: {}); expected \"chosen\" and \"rejected\", and maybe \"prompt\"",
                keys_of(record)
            ));
        };
        let prompt = record.get("prompt");
        match (Shape::of(chosen), Shape::of(rejected)) {
            (Shape::Text, Shape::Text) => match prompt.map(Shape::of) {
                Some(Shape::Text) => Ok(Self::StandardExplicit),
                Some(_) => Err(mismatch("prompt", prompt, "text, as \"chosen\" is")),
                None if has_text(record, "instruction") => Ok(Self::Alpaca),
                None if has_text(record, "question") => Ok(Self::Question),
                None if is_dialogue(chosen) && is_dialogue(rejected) => Ok(Self::HhDialogues),
                None => Ok(Self::StandardImplicit),
            },
            (Shape::Messages, Shape::Messages) => match prompt.map(Shape::of) {
                Some(Shape::Messages) => Ok(Self::ConversationalExplicit),
                Some(Shape::Text) => Ok(Self::ConversationalTextPrompt),
                Some(_) => Err(mismatch("prompt", prompt, "a list of messages, as \"chosen\" is")),
                None => Ok(Self::ConversationalImplicit),
            },
            (Shape::Turn, Shape::Turn) => match record.get("conversations") {
                Some(Value::Array(turns)) if !turns.is_empty() => Ok(Self::ShareGpt),
                other => {
                    Err(mismatch("conversations", other, "a list of turns, since \"chosen\" is one turn"))
                }
            },
            (Shape::Other, _) => Err(mismatch("chosen", Some(chosen), "text or a list of messages")),
            _ => Err(mismatch("rejected", Some(rejected), &format!("{}, as \"chosen\" is", kind_of(chosen)))),
        }
    }

    /// The schema of a record to be scored: a pair, or a single text.
    ///
    /// # Errors
    /// The keys found and what was expected.
    pub fn of_row(record: &Map<String, Value>) -> Result<Self, String> {
        if record.contains_key("chosen") || record.contains_key("rejected") {
            return Self::of_pair(record);
        }
        let shape = |key: &str| record.get(key).map(Shape::of);
        if let Some(key) = completion_key(record) {
            let prompt = prompt_key(record);
            return match (prompt.and_then(shape), shape(key)) {
                (Some(Shape::Messages), Some(Shape::Messages)) => Ok(Self::ConversationalPromptCompletion),
                (Some(Shape::Text), Some(Shape::Text)) => Ok(Self::PromptCompletion),
                (Some(_), _) => Err(format!(
                    "{:?} is {} and {key:?} is {}; expected two texts or two lists of messages",
                    prompt.unwrap_or_default(),
                    prompt.and_then(|prompt| record.get(prompt)).map_or("missing", kind_of),
                    kind_of(&record[key])
                )),
                (None, _) => {
                    Err(format!("{key:?} without \"prompt\" or \"question\" (keys: {})", keys_of(record)))
                }
            };
        }
        if has_text(record, "instruction") && has_text(record, "output") {
            return Ok(Self::Instruction);
        }
        match (record.get("messages"), record.get("text")) {
            (Some(messages), _) if Shape::of(messages) == Shape::Messages => Ok(Self::Messages),
            (Some(messages), _) => Err(mismatch("messages", Some(messages), "a list of messages")),
            (None, Some(Value::String(_))) => Ok(Self::Text),
            (None, Some(text)) => Err(mismatch("text", Some(text), "text")),
            (None, None) => Err(format!(
                "nothing to score (keys: {}); expected \"chosen\" and \"rejected\", \"text\", \"messages\", or \
                 \"prompt\" and \"completion\", \"response\" or \"answer\"",
                keys_of(record)
            )),
        }
    }
}

/// The key of a single record's answer.
pub(super) fn completion_key(record: &Map<String, Value>) -> Option<&'static str> {
    ["completion", "response", "answer"].into_iter().find(|key| record.contains_key(*key))
}

/// The key of a single record's prompt.
pub(super) fn prompt_key(record: &Map<String, Value>) -> Option<&'static str> {
    ["prompt", "question"].into_iter().find(|key| record.contains_key(*key))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Messages,
    Turn,
    Other,
}

impl Shape {
    fn of(value: &Value) -> Self {
        match value {
            Value::String(_) => Self::Text,
            Value::Array(turns) if !turns.is_empty() && turns[0]["role"].is_string() => Self::Messages,
            Value::Object(turn) if has_text(turn, "value") || has_text(turn, "content") => Self::Turn,
            _ => Self::Other,
        }
    }
}

fn has_text(record: &Map<String, Value>, key: &str) -> bool {
    record.get(key).is_some_and(Value::is_string)
}

fn is_dialogue(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.trim_start().starts_with("Human:") && text.contains("\n\nAssistant:"))
}

fn mismatch(key: &str, found: Option<&Value>, expected: &str) -> String {
    format!("{key:?} is {}; expected {expected}", found.map_or("missing", kind_of))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(value: Value) -> String {
        let Value::Object(record) = value else { panic!("not an object") };
        Schema::of_row(&record).map_or_else(|message| message, |schema| schema.to_string())
    }

    /// Each documented shape is recognised, extra columns or not.
    #[test]
    fn shapes_are_recognised() {
        let turns = json!([{"role": "user", "content": "q"}]);
        let turn = json!({"from": "gpt", "value": "a"});
        let dialogue = "\n\nHuman: q\n\nAssistant: a";
        for (record, expected) in [
            (
                json!({"prompt": "q", "chosen": "a", "rejected": "b", "source_index": 3}),
                "TRL standard, explicit prompt",
            ),
            (json!({"chosen": "a", "rejected": "b"}), "TRL standard, implicit prompt"),
            (json!({"chosen": dialogue, "rejected": dialogue}), "HH dialogues"),
            (
                json!({"prompt": turns, "chosen": turns, "rejected": turns}),
                "TRL conversational, explicit prompt",
            ),
            (json!({"chosen": turns, "rejected": turns}), "TRL conversational, implicit prompt"),
            (
                json!({"prompt": "q", "chosen": turns, "rejected": turns}),
                "TRL conversational, prompt as text",
            ),
            (
                json!({"conversations": [turn], "chosen": turn, "rejected": turn}),
                "LLaMA-Factory sharegpt preferences",
            ),
            (json!({"instruction": "q", "chosen": "a", "rejected": "b"}), "LLaMA-Factory alpaca preferences"),
            (json!({"question": "q", "chosen": "a", "rejected": "b"}), "standard, prompt in \"question\""),
            (json!({"text": "a"}), "texts"),
            (json!({"prompt": "q", "response": "a"}), "prompts and completions"),
            (json!({"question": "q", "answer": "a"}), "prompts and completions"),
            (json!({"messages": turns}), "conversations"),
            (json!({"prompt": turns, "completion": turns}), "conversational prompts and completions"),
            (json!({"instruction": "q", "input": "", "output": "a"}), "instructions and outputs"),
        ] {
            assert_eq!(said(record), expected);
        }
    }

    /// What does not fit is explained with what was found and what was expected.
    #[test]
    fn misfits_are_explained() {
        let turns = json!([{"role": "user", "content": "q"}]);
        for (record, expected) in [
            (json!({"chosen": "a", "id": 1}), "no \"rejected\" (keys: chosen, id)"),
            (
                json!({"chosen": "a", "rejected": null}),
                "\"rejected\" is null; expected text, as \"chosen\" is",
            ),
            (
                json!({"chosen": 3, "rejected": "b"}),
                "\"chosen\" is a number; expected text or a list of messages",
            ),
            (json!({"chosen": "a", "rejected": turns}), "\"rejected\" is a list of messages; expected text"),
            (json!({"prompt": null, "chosen": "a", "rejected": "b"}), "\"prompt\" is null; expected text"),
            (json!({"prompt": turns, "chosen": "a", "rejected": "b"}), "\"prompt\" is a list of messages"),
            (json!({"chosen": [], "rejected": []}), "\"chosen\" is an empty list"),
            (json!({"prompt": turns, "completion": "a"}), "expected two texts or two lists of messages"),
            (json!({"a": 1, "b": 2}), "nothing to score (keys: a, b)"),
        ] {
            let said = said(record);
            assert!(said.contains(expected), "{said}");
        }
    }
}
