//! A scoring request, independent of its protocol.

use pcrm_core::data::conversation::Message;
use serde_json::Value;

use super::fields::{BodyFields, token_ids, wrong};
use super::refusal::{Refusal, RefusalKind};

/// The contents of a scoring request.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRequest {
    /// The name of the model; `None` for the first one.
    pub model: Option<String>,
    pub inputs: Vec<Input>,
    pub too_long: TooLong,
    /// True for raw rewards, false for σ of them.
    pub raw: bool,
}

/// One sequence to score.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A text. `bare`: nothing is added before or after it. `closed`: it gets the end of a training answer.
    Text { text: String, bare: bool, closed: bool },
    /// Token ids.
    Ids(Vec<u32>),
    /// A conversation, rendered with the model's template.
    Chat { messages: Vec<Message>, generation_prompt: bool },
    /// A prompt and its answer: a conversation of two messages, or a text if the model has no template.
    Pair { prompt: String, answer: String },
}

/// The treatment of sequences longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooLong {
    /// The request is refused.
    Refuse,
    /// Tokens are removed on this side, down to a given number or to the limit.
    Cut { side: Side, to: Option<usize> },
}

/// A side of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

impl Side {
    /// Reads `left` or `right`, ignoring case.
    pub fn read(fields: BodyFields<'_>, name: &str, default: Self) -> Result<Self, Refusal> {
        match fields.text(name)?.map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("left") => Ok(Self::Left),
            Some("right") => Ok(Self::Right),
            Some(other) => {
                Err(Refusal::field(name, format_args!("{other:?} is not a side; expected left or right")))
            }
        }
    }
}

impl Input {
    /// Returns a text as it was sent; the tokenizer adds its usual special tokens.
    pub fn text(text: &str) -> Self {
        Self::Text { text: text.to_owned(), bare: false, closed: false }
    }

    /// Counts the characters of the input, for headers and metrics.
    pub fn characters(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.chars().count(),
            Self::Ids(_) => 0,
            Self::Chat { messages, .. } => messages.iter().map(|turn| turn.content.chars().count()).sum(),
            Self::Pair { prompt, answer } => prompt.chars().count() + answer.chars().count(),
        }
    }
}

/// Reads texts or token ids: one text, a list of texts, one list of ids, or a list of such.
///
/// # Errors
/// Fails, with its position, on any other value.
pub fn texts_or_ids(name: &str, value: &Value, bare: bool) -> Result<Vec<Input>, Refusal> {
    const EXPECTED: &str = "a string, a list of strings, a list of token ids, or a list of such lists";
    let text = |text: &str| Input::Text { text: text.to_owned(), bare, closed: false };
    match value {
        Value::String(one) => Ok(vec![text(one)]),
        Value::Array(all) => match all.first() {
            None => Err(Refusal::new(RefusalKind::Empty, format!("{name}: it is an empty list"))),
            Some(Value::Number(_)) => Ok(vec![Input::Ids(token_ids(name, all)?)]),
            Some(_) => {
                let one = |(at, value): (usize, &Value)| {
                    let place = format!("{name}[{at}]");
                    match value {
                        Value::String(one) => Ok(text(one)),
                        Value::Array(ids) => Ok(Input::Ids(token_ids(&place, ids)?)),
                        other => Err(wrong(&place, other, "a string or a list of token ids")),
                    }
                };
                all.iter().enumerate().map(one).collect()
            }
        },
        other => Err(wrong(name, other, EXPECTED)),
    }
}

/// Reads the messages of a conversation.
///
/// # Errors
/// Fails, with its position, on a message without role or content.
pub fn messages(name: &str, value: &Value) -> Result<Vec<Message>, Refusal> {
    let Value::Array(all) = value else { return Err(wrong(name, value, "a list of messages")) };
    if all.is_empty() {
        return Err(Refusal::new(RefusalKind::Empty, format!("{name}: the conversation has no messages")));
    }
    let one = |(at, value): (usize, &Value)| {
        Message::from_value(value).map_err(|message| Refusal::field(&format!("{name}[{at}]"), message))
    };
    all.iter().enumerate().map(one).collect()
}
