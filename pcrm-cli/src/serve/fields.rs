//! Typed access to the fields of a request's body; errors name the field.

use serde_json::{Map, Value};

use super::refusal::{Refusal, RefusalKind};

/// The fields of a body. A field that is null counts as absent.
#[derive(Clone, Copy)]
pub struct BodyFields<'a>(&'a Map<String, Value>);

impl<'a> BodyFields<'a> {
    /// Returns the fields of a body, which must be an object.
    pub fn of(body: &'a Value) -> Result<Self, Refusal> {
        match body {
            Value::Object(fields) => Ok(Self(fields)),
            other => {
                let message = format!("the body is {}; expected a JSON object", kind_of(other));
                Err(Refusal::new(RefusalKind::Malformed, message))
            }
        }
    }

    pub fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn has(self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn required(self, name: &str, expected: &str) -> Result<&'a Value, Refusal> {
        self.get(name).ok_or_else(|| Refusal::missing(name, expected))
    }

    pub fn text(self, name: &str) -> Result<Option<&'a str>, Refusal> {
        self.get(name).map(|value| text(name, value)).transpose()
    }

    pub fn flag(self, name: &str) -> Result<Option<bool>, Refusal> {
        let flag = |value: &Value| match value {
            Value::Bool(flag) => Ok(*flag),
            other => Err(wrong(name, other, "true or false")),
        };
        self.get(name).map(flag).transpose()
    }

    pub fn integer(self, name: &str) -> Result<Option<i64>, Refusal> {
        let integer = |value: &Value| value.as_i64().ok_or_else(|| wrong(name, value, "a 64-bit integer"));
        self.get(name).map(integer).transpose()
    }

    /// Refuses a field that is set, since it would change the scores and is not supported.
    pub fn unserved(self, names: &[&str]) -> Result<(), Refusal> {
        for name in names {
            let is_set = match self.get(name) {
                None | Some(Value::Bool(false)) => false,
                Some(Value::Object(fields)) => !fields.is_empty(),
                Some(Value::Array(all)) => !all.is_empty(),
                Some(_) => true,
            };
            if is_set {
                return Err(Refusal::field(
                    name,
                    "it would change the scores and is not supported; leave it out",
                ));
            }
        }
        Ok(())
    }
}

/// Returns a text, or refuses the value of this field.
pub fn text<'a>(name: &str, value: &'a Value) -> Result<&'a str, Refusal> {
    value.as_str().ok_or_else(|| wrong(name, value, "a string"))
}

/// Returns one text or a list of texts.
pub fn texts<'a>(name: &str, value: &'a Value) -> Result<Vec<&'a str>, Refusal> {
    match value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(all) => {
            all.iter().enumerate().map(|(at, one)| text(&format!("{name}[{at}]"), one)).collect()
        }
        other => Err(wrong(name, other, "a string or a list of strings")),
    }
}

/// Returns a list of token ids.
pub fn token_ids(name: &str, all: &[Value]) -> Result<Vec<u32>, Refusal> {
    let id = |(at, value): (usize, &Value)| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| wrong(&format!("{name}[{at}]"), value, "a token id, a whole number from 0 up"))
    };
    all.iter().enumerate().map(id).collect()
}

/// Returns the refusal of a value of the wrong type.
pub fn wrong(name: &str, value: &Value, expected: &str) -> Refusal {
    Refusal::field(name, format_args!("it is {}; expected {expected}", kind_of(value)))
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.chars().count() <= 40 => format!("the string {text:?}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(all) => format!("a list of {}", all.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}
