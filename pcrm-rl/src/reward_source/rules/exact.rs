//! A reward for answers that equal a column of their record.

use fancy_regex::Regex;
use pcrm_core::data::prompts::Prompt;
use serde::Deserialize;
use serde_json::Value;

use super::{Answer, Rule, plugin};

/// 1 if the answer equals the value of `column` (or one of its values, if it is a list), else 0; surrounding
/// white space is ignored. Records whose value is null are not scored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exact {
    /// Column with the right answer: text, a number, true or false, or a list of them.
    column: String,
    /// Regular expression that finds the final answer: the first group, or else the whole, of its last match.
    /// An answer that it does not match is wrong.
    #[serde(default)]
    extract: Option<String>,
    /// Ignores case.
    #[serde(default)]
    ignore_case: bool,
    #[serde(skip)]
    finder: Option<Regex>,
}

plugin!(Exact, "1 where the answer, or what `extract` finds in it, is the value of `column`, 0 elsewhere");

impl Rule for Exact {
    const NAME: &'static str = "exact";
    const EXAMPLE: &'static str = r#"{"kind": "exact", "column": "answer"}"#;

    fn check(&mut self) -> Result<(), String> {
        let compile = |text: &String| Regex::new(text).map_err(|error| format!("extract {text:?}: {error}"));
        self.finder = self.extract.as_ref().map(compile).transpose()?;
        Ok(())
    }

    fn accept(&self, prompt: &Prompt) -> Result<(), String> {
        self.right(prompt).map(drop)
    }

    fn reward(&self, answer: &Answer<'_>) -> Result<Option<f64>, String> {
        let Some(right) = self.right(answer.prompt)? else { return Ok(None) };
        let given = match &self.finder {
            None => Some(answer.completion()),
            Some(finder) => last(finder, answer.completion())?,
        };
        let folded = |text: &str| match self.ignore_case {
            true => text.trim().to_lowercase(),
            false => text.trim().to_owned(),
        };
        let is_right = given.is_some_and(|given| right.iter().any(|right| folded(right) == folded(given)));
        Ok(Some(f64::from(u8::from(is_right))))
    }
}

impl Exact {
    /// Returns the right answers of a record; `None` if the column is null.
    fn right(&self, prompt: &Prompt) -> Result<Option<Vec<String>>, String> {
        let value = prompt.columns.get(&self.column).ok_or_else(|| {
            let has: Vec<&str> = prompt.columns.keys().map(String::as_str).collect();
            format!("no column {:?}; the record has {}", self.column, has.join(", "))
        })?;
        let text = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
            other => Err(format!("the column {:?} is {other}; expected a text or a number", self.column)),
        };
        match value {
            Value::Null => Ok(None),
            Value::Array(all) => all.iter().map(text).collect::<Result<_, _>>().map(Some),
            one => Ok(Some(vec![text(one)?])),
        }
    }
}

fn last<'t>(finder: &Regex, text: &'t str) -> Result<Option<&'t str>, String> {
    let mut found = None;
    for captures in finder.captures_iter(text) {
        let captures = captures.map_err(|error| format!("extract exceeds the step limit: {error}"))?;
        found = captures.get(1).or(captures.get(0)).map(|part| part.as_str());
    }
    Ok(found)
}
