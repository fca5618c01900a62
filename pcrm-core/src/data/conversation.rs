//! Messages, and the content of prompts and answers.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::text::visible_line;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// The speaker: `user`, `assistant`, `system`, `tool`, or any role that the template knows.
    pub role: String,
    /// The message as plain text.
    pub content: String,
    /// The message's other keys, for the chat template. A `content` here (null, or a list of text parts) is
    /// the original of [`Message::content`].
    pub extra: Map<String, Value>,
}

impl Message {
    /// Creates a message from a role and a text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), extra: Map::new() }
    }

    /// Returns all keys as they are in the file.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("role".to_owned(), Value::from(self.role.as_str()));
        fields.insert("content".to_owned(), Value::from(self.content.as_str()));
        fields.extend(self.extra.clone());
        fields
    }

    /// Returns true if the text is blank and no other key says anything: `content` is the text's original, and
    /// `name` is the speaker's.
    fn is_blank(&self) -> bool {
        let mut others = self.extra.iter().filter(|(key, _)| !matches!(key.as_str(), "content" | "name"));
        self.content.trim().is_empty() && others.all(|(_, value)| is_empty(value))
    }

    /// Reads `{"role": .., "content": ..}`.
    ///
    /// # Errors
    /// Fails if the value is not an object, has no role, or has content that is not text.
    pub fn from_value(value: &Value) -> Result<Self, String> {
        let Value::Object(fields) = value else {
            return Err(format!("a message is {}; expected an object", kind_of(value)));
        };
        let mut extra = fields.clone();
        let role = match extra.shift_remove("role") {
            Some(Value::String(role)) => role,
            Some(other) => return Err(format!("a message's role is {}; expected a string", kind_of(&other))),
            None => return Err(format!("a message has no role (keys: {})", keys_of(fields))),
        };
        let content = match fields.get("content") {
            Some(Value::String(text)) => {
                extra.shift_remove("content");
                text.clone()
            }
            Some(Value::Array(parts)) => parts.iter().map(text_part).collect::<Result<String, _>>()?,
            // Tool calls have no content.
            None | Some(Value::Null) if extra.keys().any(|key| key != "content") => {
                extra.insert("content".to_owned(), Value::Null);
                String::new()
            }
            None => return Err(format!("a message has no content (keys: {})", keys_of(fields))),
            Some(other) => return Err(format!("a message's content is {}; expected text", kind_of(other))),
        };
        Ok(Self { role, content, extra })
    }

    /// Reads `{"from": .., "value": ..}`, ShareGPT's form, and maps its role names.
    ///
    /// # Errors
    /// Fails in the same cases as [`Message::from_value`].
    pub fn from_sharegpt(value: &Value) -> Result<Self, String> {
        let (Some(from), Some(text)) = (value["from"].as_str(), value["value"].as_str()) else {
            return Self::from_value(value);
        };
        let role = match from {
            "human" => "user",
            "gpt" | "chatgpt" | "bing" | "bard" => "assistant",
            "observation" | "function_response" => "tool",
            other => other,
        };
        Ok(Self::new(role, text))
    }
}

/// Returns true if a key of a message holds no text, no list and no object, as a weight or a flag does.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn text_part(part: &Value) -> Result<String, String> {
    match (part["type"].as_str(), part["text"].as_str()) {
        (Some("text"), Some(text)) => Ok(text.to_owned()),
        (Some(other), _) if other != "text" => {
            Err(format!("a message's content has a part of type {other:?}; only text is supported"))
        }
        _ => Err(format!("a message's content has the part {part}; expected {{\"type\": \"text\", ..}}")),
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.fields().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A prompt, an answer, or both: text, or turns of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Turns, for a chat template.
    Messages(Vec<Message>),
}

impl Content {
    /// Reads a string or a list of messages.
    ///
    /// # Errors
    /// Fails if the value is neither a string nor a list of valid messages.
    pub fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(Self::Text(text.clone())),
            Value::Array(turns) => {
                Ok(Self::Messages(turns.iter().map(Message::from_value).collect::<Result<_, _>>()?))
            }
            other => Err(format!("{}; expected text or a list of messages", kind_of(other))),
        }
    }

    /// Returns true for blank text, no messages, or a last message that is blank and has nothing else to say, such
    /// as tool calls.
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Text(text) => text.trim().is_empty(),
            Self::Messages(turns) => turns.last().is_none_or(Message::is_blank),
        }
    }

    /// Returns true if the content is a list of messages, which needs a chat template.
    pub fn is_conversation(&self) -> bool {
        matches!(self, Self::Messages(_))
    }
}

/// Returns the type of a JSON value for error messages, such as "a number".
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(items) if items.is_empty() => "an empty list",
        Value::Array(items) if items.iter().all(|item| item["role"].is_string()) => "a list of messages",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Returns an object's keys for error messages.
pub(crate) fn keys_of(fields: &Map<String, Value>) -> String {
    if fields.is_empty() {
        return "none".to_owned();
    }
    const LISTED: usize = 20;
    let shown = |key: &String| {
        let key = visible_line(key);
        match key.char_indices().nth(80) {
            Some((end, _)) => format!("{}..", &key[..end]),
            None => key.into_owned(),
        }
    };
    let mut keys: Vec<String> = fields.keys().take(LISTED).map(shown).collect();
    if fields.len() > LISTED {
        keys.push(format!("{} more", fields.len() - LISTED));
    }
    keys.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every key that a template could read is kept in order and written back unchanged.
    #[test]
    fn messages_keep_their_other_keys() {
        for value in [
            json!({"role": "user", "content": "hi", "name": "Ada"}),
            json!({"role": "assistant", "content": null, "tool_calls": [{"name": "f"}]}),
            json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
        ] {
            let message: Message = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(&message).unwrap(), value);
        }
        let parts = json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
        assert_eq!(Message::from_value(&parts).unwrap().content, "ab");
    }

    /// Protects: weights and names do not make a blank message an answer; tool calls and reasoning do.
    #[test]
    fn keys_beside_a_blank_text_may_be_the_answer() {
        let parts = json!([{"type": "text", "text": " "}]);
        for (fields, expected) in [
            (json!({"content": " "}), true),
            (json!({"content": "", "weight": 1, "train": true, "name": "Ada", "tool_calls": []}), true),
            (json!({"content": parts}), true),
            (json!({"content": "a"}), false),
            (json!({"content": null, "tool_calls": [{"name": "f"}]}), false),
            (json!({"content": "", "reasoning_content": "2 + 2"}), false),
        ] {
            let mut message = json!({"role": "assistant"});
            message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let content = Content::from_value(&json!([message])).unwrap();
            assert_eq!(content.is_blank(), expected, "{message}");
        }
    }

    /// Errors about malformed messages describe the value found.
    #[test]
    fn wrong_messages_are_explained() {
        let said = |value: Value| Message::from_value(&value).unwrap_err();
        assert!(said(json!("x")).contains("text; expected an object"));
        assert!(said(json!({"content": "x"})).contains("no role (keys: content)"));
        assert!(said(json!({"role": "user", "content": 3})).contains("a number"));
        assert!(said(json!({"role": "user", "content": [{"type": "image"}]})).contains("\"image\""));
    }
}
