//! The shape of a column's value.

use serde_json::{Map, Value};

use crate::data::conversation::{keys_of, kind_of};

/// The kind of a value, which distinguishes schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueShape {
    Text,
    Texts,
    Messages,
    Turn,
    List,
    Tree,
    ByRow,
    Other,
}

impl ValueShape {
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::String(_) => Self::Text,
            Value::Array(turns) if !turns.is_empty() && turns[0]["role"].is_string() => Self::Messages,
            Value::Array(texts) if !texts.is_empty() && texts.iter().all(Value::is_string) => Self::Texts,
            Value::Array(items) if !items.is_empty() => Self::List,
            Value::Object(message) if message.get("replies").is_some_and(Value::is_array) => Self::Tree,
            Value::Object(turn) if has_text(turn, "value") || has_text(turn, "content") => Self::Turn,
            Value::Object(rows) if !rows.is_empty() && rows.keys().all(|key| key.parse::<u64>().is_ok()) => {
                Self::ByRow
            }
            _ => Self::Other,
        }
    }

    /// Returns the shape in words, for messages.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Texts => "a list of texts",
            Self::Messages => "a list of messages",
            Self::Turn => "one turn",
            Self::List => "a list",
            Self::Tree => "a message with its replies",
            Self::ByRow => "values by row number",
            Self::Other => "something else",
        }
    }
}

/// Returns true if a record has text under a key.
pub(super) fn has_text(record: &Map<String, Value>, key: &str) -> bool {
    record.get(key).is_some_and(Value::is_string)
}

/// Returns the message about a column whose value has another shape than expected.
pub(super) fn mismatch(key: &str, found: Option<&Value>, expected: &str) -> String {
    let turns = found.and_then(Value::as_array).filter(|_| expected.contains("list of messages"));
    match turns.and_then(|turns| wrong_turn(turns)) {
        Some(wrong) => format!("{key:?}: {wrong}; expected {expected}"),
        None => format!("{key:?} is {}; expected {expected}", found.map_or("missing", kind_of)),
    }
}

/// Describes the first turn of a list that has no speaker; `None` if all have one.
fn wrong_turn(turns: &[Value]) -> Option<String> {
    let has_speaker = |turn: &Value| turn["role"].is_string() || turn["from"].is_string();
    let at = turns.iter().position(|turn| !has_speaker(turn))?;
    let number = at + 1;
    Some(match &turns[at] {
        Value::Object(fields) => format!("turn {number} has no role (keys: {})", keys_of(fields)),
        other => format!("turn {number} is {}", kind_of(other)),
    })
}
