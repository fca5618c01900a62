//! A reward for answers that are JSON.

use serde::Deserialize;
use serde_json::Value;

use super::{Answer, Rule, plugin};

/// 1 for an answer that is exactly one JSON value of the required type with the required keys, else 0.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Json {
    /// Keys that the object must have, with any value including null.
    keys: Vec<String>,
    /// Required type. With keys it is an object.
    #[serde(rename = "type")]
    sort: Sort,
    /// Accepts an answer that is a single Markdown code block, and checks its contents.
    fenced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    #[default]
    Any,
    Object,
    Array,
}

plugin!(Json, "1 for answers that are valid JSON (keys, type object or array, fenced), 0 elsewhere");

impl Rule for Json {
    const NAME: &'static str = "json";

    fn check(&mut self) -> Result<(), String> {
        match (self.keys.is_empty(), self.sort) {
            (false, Sort::Array) => Err("keys are an object's, and the type is array".to_owned()),
            _ => Ok(()),
        }
    }

    fn reward(&self, answer: &Answer<'_>) -> Result<Option<f64>, String> {
        let text = answer.completion().trim();
        let text = if self.fenced { unfenced(text).unwrap_or(text) } else { text };
        Ok(Some(f64::from(u8::from(serde_json::from_str(text).is_ok_and(|value| self.fits(&value))))))
    }
}

impl Json {
    fn fits(&self, value: &Value) -> bool {
        let sort = match self.sort {
            Sort::Any => true,
            Sort::Object => value.is_object(),
            Sort::Array => value.is_array(),
        };
        sort && self.keys.iter().all(|key| value.get(key).is_some())
    }
}

/// Returns the contents of a Markdown code block.
fn unfenced(text: &str) -> Option<&str> {
    let (_, body) = text.strip_prefix("```")?.strip_suffix("```")?.split_once('\n')?;
    Some(body)
}
