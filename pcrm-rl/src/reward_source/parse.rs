//! Parses reward sources as users write them: `length:0.5`, `model:runs/rm`, `command:./score --fast`,
//! `python:reward.py:score:.venv/bin/python`, `https://host/get_reward`, or tagged data as JSON.

use std::path::PathBuf;
use std::str::FromStr;

use pcrm_core::registry;
use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::RewardPlugin;
use crate::error::{Error, Result};

/// A reward source with its weight.
///
/// As text it may end with `:WEIGHT`, a number, unless it is a command with arguments. As tagged data it takes
/// the keys `weight` and `name` beside its own; a saved model is `{"kind": "model", "path": ".."}`. It
/// serialises to its tagged data, which parse to the same source.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Source of the rewards.
    pub place: Place,
    /// Weight of the rewards in the sum.
    pub weight: f64,
    /// Name in messages and metrics; `None` for the source's own.
    pub name: Option<String>,
}

/// The origin of rewards.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// A saved reward model, by its folder or the name of its repository.
    Model(PathBuf),
    /// The tagged data of a plugin: `{"kind": "length", "target": 100}`.
    Tagged(Value),
}

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let (body, weight) = match is_address(text) {
            true => split_address(text)?,
            false => split_weight(text),
        };
        if let (Some(weight), Some(command)) = (weight, body.strip_prefix("command:")) {
            unambiguous(text, command.trim(), weight)?;
        }
        let mut spec = if body.starts_with('{') {
            let value = serde_json::from_str(body)
                .map_err(|error| invalid(format!("{body} is not valid JSON: {error}")))?;
            Self::from_tagged(value)?
        } else {
            Self { place: place(body)?, weight: 1.0, name: None }
        };
        if let Some(weight) = weight {
            spec.weight = weight;
        }
        check(&spec)?;
        Ok(spec)
    }
}

impl Spec {
    /// Parses tagged data with the optional keys `weight` and `name`.
    ///
    /// # Errors
    /// Fails if the value is not an object, if the kind is missing or unknown, or if the weight is not
    /// finite.
    pub fn from_tagged(value: Value) -> Result<Self> {
        let Value::Object(mut fields) = value else {
            return Err(invalid(format!("{value} is not an object; expected {{\"kind\": .., ..}}")));
        };
        let weight = match fields.shift_remove("weight") {
            None => 1.0,
            Some(value) => {
                let found = || invalid(format!("the weight is {value}; expected a number"));
                value.as_f64().ok_or_else(found)?
            }
        };
        let name = match fields.shift_remove("name") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) if !name.trim().is_empty() => Some(name),
            Some(other) => return Err(invalid(format!("the name is {other}; expected a text"))),
        };
        let place = match fields.get("kind").and_then(Value::as_str) {
            Some("model") => model(&fields)?,
            _ => Place::Tagged(Value::Object(fields)),
        };
        let spec = Self { place, weight, name };
        check(&spec)?;
        Ok(spec)
    }

    /// Returns the tagged data of the spec.
    pub fn to_tagged(&self) -> Value {
        let mut tagged = match &self.place {
            Place::Model(path) => json!({"kind": "model", "path": path}),
            Place::Tagged(tagged) => tagged.clone(),
        };
        tagged["weight"] = self.weight.into();
        if let Some(name) = &self.name {
            tagged["name"] = name.as_str().into();
        }
        tagged
    }
}

impl Serialize for Spec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_tagged().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => text.parse(),
            value => Self::from_tagged(value),
        }
        .map_err(D::Error::custom)
    }
}

fn model(fields: &Map<String, Value>) -> Result<Place> {
    let unknown = fields.keys().find(|key| !["kind", "path"].contains(&key.as_str()));
    match (fields.get("path").and_then(Value::as_str), unknown) {
        (Some(path), None) if !path.is_empty() => Ok(Place::Model(path.into())),
        (_, Some(key)) => Err(invalid(format!("model: unknown key {key:?}; expected \"path\""))),
        _ => Err(invalid("model: no \"path\"; expected {\"kind\": \"model\", \"path\": \"runs/rm\"}")),
    }
}

/// Refuses unknown kinds and weights that are not finite.
fn check(spec: &Spec) -> Result<()> {
    if !spec.weight.is_finite() {
        return Err(invalid(format!("the weight is {}; expected a finite number", spec.weight)));
    }
    match &spec.place {
        Place::Tagged(tagged) => match tagged["kind"].as_str() {
            Some(kind) => known(kind),
            None => Err(invalid(format!("no \"kind\" in {tagged}; expected the name of a reward"))),
        },
        Place::Model(_) => Ok(()),
    }
}

/// Refuses a kind without a plugin; the list of known kinds includes `model`, which is not a plugin.
fn known(kind: &str) -> Result<()> {
    match registry::find::<RewardPlugin>(kind) {
        Err(pcrm_core::Error::UnknownPlugin { what, name, mut known }) => {
            known.push("model");
            known.sort_unstable();
            Err(pcrm_core::Error::UnknownPlugin { what, name, known }.into())
        }
        found => Ok(found.map(drop)?),
    }
}

fn place(text: &str) -> Result<Place> {
    if is_address(text) {
        return Ok(Place::Tagged(json!({"kind": "http", "url": text})));
    }
    let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
    let rest = rest.map(str::trim).filter(|rest| !rest.is_empty());
    match (kind, rest) {
        ("model", Some(path)) => Ok(Place::Model(path.into())),
        ("model", None) => Err(invalid("model: no folder; expected model:DIR, such as model:runs/rm")),
        ("command", Some(command)) => Ok(Place::Tagged(json!({"kind": "command", "command": command}))),
        ("command", None) => {
            Err(invalid("command: no program; expected command:CMD, such as command:./score"))
        }
        ("python", Some(rest)) => python(rest),
        ("python", None) => Err(no_function("")),
        (_, None) => Ok(Place::Tagged(json!({"kind": kind}))),
        (_, Some(rest)) => {
            known(kind)?;
            Err(invalid(format!(
                "{text}: {rest:?} is not a weight; write parameters as JSON: {{\"kind\": \"{kind}\", ..}}"
            )))
        }
    }
}

/// Parses `FILE.py:FUNCTION[:INTERPRETER]`; the path may contain colons.
fn python(text: &str) -> Result<Place> {
    let ends = text.match_indices(".py:").map(|(at, _)| at + 3);
    // A module such as `trl.rewards:think_format_reward` has no colon in its name.
    let end = ends.last().or_else(|| text.find(':'));
    let (file, rest) = end.map_or((text, ""), |end| (&text[..end], &text[end + 1..]));
    let (function, interpreter) = rest.split_once(':').map_or((rest, None), |(f, i)| (f, Some(i)));
    if file.is_empty() || function.is_empty() || interpreter.is_some_and(str::is_empty) {
        return Err(no_function(text));
    }
    let mut tagged = json!({"kind": "python", "file": file, "function": function});
    if let Some(interpreter) = interpreter {
        tagged["interpreter"] = interpreter.into();
    }
    Ok(Place::Tagged(tagged))
}

fn no_function(text: &str) -> Error {
    invalid(format!("python:{text}: expected python:FILE.py:FUNCTION or python:FILE.py:FUNCTION:INTERPRETER"))
}

/// Splits a weight off the end: `:0.5`.
fn split_weight(text: &str) -> (&str, Option<f64>) {
    let split = text.rsplit_once(':').filter(|(body, _)| !body.is_empty());
    match split.and_then(|(body, tail)| Some((body, number(tail)?))) {
        Some((body, weight)) => (body, Some(weight)),
        None => (text, None),
    }
}

/// Refuses a number at the end of a command with arguments, as it may be the port of a host.
fn unambiguous(text: &str, command: &str, weight: f64) -> Result<()> {
    if !command.contains(char::is_whitespace) {
        return Ok(());
    }
    let whole = text.strip_prefix("command:").unwrap_or(text).trim();
    let weighted = json!({"kind": "command", "command": command, "weight": weight});
    let alone = json!({"kind": "command", "command": whole});
    Err(invalid(format!(
        "{text}: the number at the end may be a weight or part of the command; expected {weighted} or {alone}"
    )))
}

fn is_address(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
}

/// Splits a weight off the end of an address; a port is not a weight.
fn split_address(text: &str) -> Result<(&str, Option<f64>)> {
    let has_path = text.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    match has_path {
        true => Ok(split_weight(text)),
        false => Err(invalid(format!(
            "{text}: the path of the address selects the protocol; expected one such as \
             {text}/get_reward"
        ))),
    }
}

fn number(text: &str) -> Option<f64> {
    let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    Some(text).filter(|text| is_number(text)).and_then(|text| text.parse().ok())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::Invalid { field: "reward", message: message.into() }
}

#[cfg(test)]
mod tests;
