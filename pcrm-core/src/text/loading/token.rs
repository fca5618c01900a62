//! A token added to a vocabulary, like Python's `AddedToken`.

use serde_json::{Map, Value};
use tokenizers::AddedToken;

/// The key that marks an object in tokenizer_config.json as a token.
const MARK: &str = "__type";

/// A token with its flags; a flag that is not set follows from `special`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::text) struct Token {
    pub content: String,
    pub special: bool,
    pub single_word: Option<bool>,
    pub lstrip: Option<bool>,
    pub rstrip: Option<bool>,
    pub normalized: Option<bool>,
}

impl Token {
    /// Creates a special token without flags.
    pub fn special(content: &str) -> Self {
        Self { content: content.to_owned(), special: true, ..Self::default() }
    }

    /// Reads the token from an object of a configuration file or of tokenizer.json.
    ///
    /// # Errors
    /// Fails with a message that names the field that is missing or has the wrong type.
    pub fn of_object(fields: &Map<String, Value>) -> Result<Self, String> {
        let flag = |key: &str| match fields.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(format!("{key:?} is {other}; expected true or false")),
        };
        let content = match fields.get("content") {
            Some(Value::String(content)) => content.clone(),
            Some(other) => return Err(format!("\"content\" is {other}; expected text")),
            None => String::new(),
        };
        Ok(Self {
            content,
            special: flag("special")?.unwrap_or(false),
            single_word: flag("single_word")?,
            lstrip: flag("lstrip")?,
            rstrip: flag("rstrip")?,
            normalized: flag("normalized")?,
        })
    }

    /// Returns the token as a marked object, as in [`Arguments`](super::Arguments).
    pub fn to_value(&self) -> Value {
        let flags = [
            ("single_word", self.single_word),
            ("lstrip", self.lstrip),
            ("rstrip", self.rstrip),
            ("normalized", self.normalized),
            ("special", Some(self.special)),
        ];
        let mut fields = Map::new();
        fields.insert(MARK.to_owned(), Value::from("AddedToken"));
        fields.insert("content".to_owned(), Value::from(self.content.as_str()));
        for (key, flag) in flags {
            if let Some(flag) = flag {
                fields.insert(key.to_owned(), Value::from(flag));
            }
        }
        Value::Object(fields)
    }

    /// Reads the token from a marked object; returns `None` for other values.
    pub fn of_marked(value: &Value) -> Option<Result<Self, String>> {
        let fields = value.as_object().filter(|fields| is_marked(fields))?;
        Some(Self::of_object(fields))
    }

    /// Converts the token for the `tokenizers` library.
    pub fn added(&self) -> AddedToken {
        AddedToken::from(self.content.as_str(), self.special)
            .single_word(self.single_word.unwrap_or(false))
            .lstrip(self.lstrip.unwrap_or(false))
            .rstrip(self.rstrip.unwrap_or(false))
            .normalized(self.normalized.unwrap_or(!self.special))
    }
}

/// Returns true if an object is marked as a token.
fn is_marked(fields: &Map<String, Value>) -> bool {
    fields.get(MARK).and_then(Value::as_str) == Some("AddedToken")
}
