//! Parses the lines that a program writes.

use std::collections::BTreeMap;

use pcrm_core::text::visible_line;
use serde::Deserialize;
use serde_json::Value;

use crate::reward_source::{Answers, Scored};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    id: u64,
    #[serde(default)]
    rewards: Vec<Value>,
    #[serde(default)]
    logs: BTreeMap<String, Vec<Value>>,
    #[serde(default)]
    columns: BTreeMap<String, Vec<Value>>,
    #[serde(default)]
    error: Option<String>,
}

/// Parses the first line, `{"ready": true}`. Returns the calling convention of a function, if the line has
/// one.
pub fn ready(line: &str) -> Result<Option<String>, String> {
    let expected = "expected {\"ready\": true} as its first line";
    let value: Value =
        serde_json::from_str(line).map_err(|_| format!("it wrote {}; {expected}", shown(line)))?;
    match (&value["ready"], value["error"].as_str()) {
        (Value::Bool(true), _) => Ok(value["form"].as_str().map(str::to_owned)),
        (_, Some(error)) => Err(error.to_owned()),
        _ => Err(format!("it wrote {}; {expected}", shown(line))),
    }
}

/// Parses the answer to a batch.
pub fn read(line: &str, id: u64, batch: &Answers<'_>) -> Result<Scored, String> {
    let reply: Reply = serde_json::from_str(line).map_err(|error| {
        let not_finite = ["NaN", "Infinity"].iter().any(|token| line.contains(token));
        let hint = match not_finite {
            true => "; JSON has no NaN and no Infinity: write null for an answer that is not scored",
            false => "; standard output is for answers alone, messages go to standard error",
        };
        format!("it wrote {}, which is not a valid answer: {error}{hint}", shown(line))
    })?;
    if reply.id != id {
        return Err(format!("it answered batch {}; expected batch {id}", reply.id));
    }
    if let Some(error) = reply.error {
        return Err(error);
    }
    let (given, count) = (reply.rewards.len(), batch.rows.len());
    if given != count {
        return Err(format!("gave {given} rewards for {count} answers; expected one per answer"));
    }
    let reward = |(row, value): (usize, &Value)| match value {
        Value::Null => Ok(None),
        value => match number(value) {
            Some(reward) => Ok(Some(reward)),
            None => {
                let place = batch.place(row);
                Err(format!("{place}: the reward is {value}; expected a finite number or null"))
            }
        },
    };
    let log = |(name, values): (String, Vec<Value>)| {
        let values = values.iter().filter(|value| !value.is_null()).map(|value| {
            number(value).ok_or_else(|| format!("the log {name:?} has {value}; expected finite numbers"))
        });
        let values = values.collect::<Result<_, _>>()?;
        Ok((name, values))
    };
    Ok(Scored {
        rewards: reply.rewards.iter().enumerate().map(reward).collect::<Result<_, _>>()?,
        logs: reply.logs.into_iter().map(log).collect::<Result<_, String>>()?,
        columns: reply.columns,
    })
}

/// Returns a number if it is finite in f32.
fn number(value: &Value) -> Option<f32> {
    value.as_f64().map(|value| value as f32).filter(|value| value.is_finite())
}

/// Returns a line for a message, truncated if long.
fn shown(line: &str) -> String {
    const MOST: usize = 200;
    let line = visible_line(line);
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}..", &line[..end]),
        None => format!("{line:?}"),
    }
}
