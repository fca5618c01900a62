//! Compares what the processes of a run must have in common. A difference ends the run before its first step.

use std::collections::BTreeMap;

use pcrm_core::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, shown, with_exchanges};
use crate::lanes::Lanes;
use crate::options::TrainerConfig;

/// The minimum length of values that are compared by their digests and not shown.
const LONG: usize = 60;

/// The value of an option, or what identifies it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Brief {
    Shown(String),
    Digest(String),
}

impl Brief {
    fn of(value: &Value) -> Self {
        let text = shown(value);
        match text.len() < LONG {
            true => Self::Shown(text),
            false => Self::Digest(digest::text(&text)),
        }
    }
}

/// Refuses to train if the processes of a run differ in their options, data or base model. `inputs` is the fingerprint
/// of this process's run ([`crate::offline::Run::fingerprint`]). Every process of the run must call this.
///
/// # Errors
/// Fails on every process if any two differ, and if a process is gone.
pub fn same_inputs(lanes: &Lanes, inputs: &Fingerprint, trainer: &TrainerConfig) -> Result<()> {
    if lanes.collective().world() == 1 {
        return Ok(());
    }
    let own = with_exchanges(inputs.clone(), trainer);
    let own: BTreeMap<&String, Brief> = own.iter().map(|(name, value)| (name, Brief::of(value))).collect();
    let of_all: Vec<BTreeMap<String, Brief>> = lanes.gathered(&own)?;
    match of_all.iter().position(|of| *of != of_all[0]) {
        None => Ok(()),
        Some(rank) => Err(Error::Apart {
            rank,
            message: format!(
                "{}; expected the same options and the same files for all processes",
                differences(&of_all[0], &of_all[rank], rank)
            ),
        }),
    }
}

/// Describes every difference of a process from the first.
fn differences(first: &BTreeMap<String, Brief>, other: &BTreeMap<String, Brief>, rank: usize) -> String {
    let names = first.keys().chain(other.keys().filter(|name| !first.contains_key(*name)));
    let unset = Brief::of(&Value::Null);
    let of = |print: &BTreeMap<String, Brief>, name: &String| print.get(name).unwrap_or(&unset).clone();
    let differs = names.map(|name| (name, of(first, name), of(other, name))).filter(|(_, a, b)| a != b);
    let said = differs.map(|(name, first, other)| match (first, other) {
        (Brief::Shown(first), Brief::Shown(other)) => {
            format!("--{name} is {first} for rank 0 and {other} for rank {rank}")
        }
        _ => format!("--{name} has other content"),
    });
    said.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: every difference is named, with values that can be read, and an option that only one process sets
    /// is one.
    #[test]
    fn differences_are_named() {
        let print = |json: Value| -> BTreeMap<String, Brief> {
            json.as_object().unwrap().iter().map(|(name, value)| (name.clone(), Brief::of(value))).collect()
        };
        let first = print(serde_json::json!({
            "batch": 4, "data": ["0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"], "seed": 1
        }));
        let other = print(serde_json::json!({
            "batch": 8, "data": ["0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdee"], "seed": 1,
            "lora": "r"
        }));
        let said = "--batch is 4 for rank 0 and 8 for rank 3; --data has other content; \
                    --lora is unset for rank 0 and r for rank 3";
        assert_eq!(differences(&first, &other, 3), said);
        assert_eq!(differences(&first, &first, 3), "");
    }
}
