//! The arguments of a tokenizer class: settings from the folder's files, with the class's defaults.

use serde_json::{Map, Value};

use super::token::Token;

/// Special tokens that every class has, in transformers' order.
pub(in crate::text) const STANDARD: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The arguments of a class of transformers, by name. Tokens are marked objects, as in tokenizer_config.json.
#[derive(Debug, Clone, Default)]
pub(in crate::text) struct Arguments(Map<String, Value>);

/// A special token as given by an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::text) enum Named {
    /// Text only.
    Text(String),
    /// A token with flags.
    Token(Token),
}

impl Named {
    /// Returns the token's text.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Token(token) => &token.content,
        }
    }

    fn of(value: &Value) -> Option<Result<Self, String>> {
        match value {
            Value::String(text) => Some(Ok(Self::Text(text.clone()))),
            other => Token::of_marked(other).map(|token| token.map(Self::Token)),
        }
    }

    /// Reads the token from a value, or describes the fault.
    pub fn expect(key: &str, value: &Value) -> Result<Self, String> {
        Self::of(value).unwrap_or_else(|| {
            let mut shown = value.to_string();
            if shown.chars().count() > 80 {
                shown = shown.chars().take(77).chain("...".chars()).collect();
            }
            Err(format!("{key} is {shown}; expected text or a token with \"__type\": \"AddedToken\""))
        })
    }
}

impl Arguments {
    pub fn new(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.0.shift_remove(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter()
    }

    /// Puts the class's own arguments first, with their defaults if no file sets them.
    pub fn with_defaults(mut self, defaults: &[(&str, Option<&str>)]) -> Self {
        let mut all = Map::new();
        for (key, default) in defaults {
            let value = self.0.shift_remove(*key).unwrap_or_else(|| (*default).into());
            all.insert((*key).to_owned(), value);
        }
        all.extend(self.0);
        Self(all)
    }

    /// Returns a setting that must be true or false.
    ///
    /// # Errors
    /// Fails with a message that names the setting.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, String> {
        match self.0.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(format!("{key} is {other}; expected true or false")),
        }
    }

    /// Returns a setting that may also be null, which means the default.
    ///
    /// # Errors
    /// Fails with a message that names the setting.
    pub fn flag_or_null(&self, key: &str, default: bool) -> Result<bool, String> {
        if self.0.get(key).is_some_and(Value::is_null) { Ok(default) } else { self.flag(key, default) }
    }

    /// Returns the truth value of a setting, as in Python's `if`.
    pub fn is_true(&self, key: &str, default: bool) -> bool {
        self.0.get(key).map_or(default, is_true)
    }

    /// Returns the truth value of a setting, with null as the default.
    pub fn is_true_or_null(&self, key: &str, default: bool) -> bool {
        if self.0.get(key).is_some_and(Value::is_null) { default } else { self.is_true(key, default) }
    }

    /// Returns a special token.
    ///
    /// # Errors
    /// Fails with a message that names the token if its value is not a token.
    pub fn named(&self, key: &str) -> Result<Option<Named>, String> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => Named::expect(key, value).map(Some),
        }
    }

    /// Returns the text of a special token like Python's `str`: `None` if there is none.
    ///
    /// # Errors
    /// Fails in the same cases as [`Arguments::named`].
    pub fn text(&self, key: &str) -> Result<String, String> {
        Ok(self.named(key)?.map_or_else(|| "None".to_owned(), |named| named.text().to_owned()))
    }

    /// Adds flags to a special token that is only text, as classes do for `mask_token` and others.
    pub fn flagged(&mut self, key: &str, flags: Token) {
        if let Some(Value::String(text)) = self.0.get(key) {
            let token = Token { content: text.clone(), ..flags };
            self.set(key, token.to_value());
        }
    }

    /// Returns the items of a list, empty if it is missing or null.
    ///
    /// # Errors
    /// Fails with a message that names the setting if it is not a list.
    pub fn list(&self, key: &str) -> Result<Vec<Value>, String> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items.clone()),
            Some(other) => Err(format!("{key} is {other}; expected a list")),
        }
    }
}

/// Returns true if Python's `if` treats a value as true.
pub(in crate::text) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}
