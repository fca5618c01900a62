//! Token ids and log-probabilities in JSON, checked field by field.

use std::collections::BTreeSet;

use serde_json::Value;

/// The largest number accepted as a log-probability: engines round, so it may be slightly above 0.
const ABOVE_ZERO: f64 = 1e-3;

/// Reads token ids below `vocabulary`, at least one.
pub(super) fn ids(value: &Value, field: &str, vocabulary: usize) -> Result<Vec<u32>, String> {
    let list = list(value, field, "a list of token ids")?;
    if list.is_empty() {
        return Err(format!("{field} is empty; expected at least one token id"));
    }
    list.iter().enumerate().map(|(at, id)| of_id(id, &format!("{field}[{at}]"), vocabulary)).collect()
}

/// Refuses tokens after one that ends an answer, such as padding.
pub(super) fn ends_last(ids: &[u32], field: &str, ends: &BTreeSet<u32>) -> Result<(), String> {
    match ids.iter().position(|id| ends.contains(id)) {
        Some(at) if at + 1 < ids.len() => Err(format!(
            "{field}[{at}] is {}, which ends answers; expected it last of {} tokens",
            ids[at],
            ids.len()
        )),
        _ => Ok(()),
    }
}

/// Reads a token id.
pub(super) fn of_id(value: &Value, field: &str, vocabulary: usize) -> Result<u32, String> {
    let known = value.as_u64().filter(|id| *id < vocabulary as u64).and_then(|id| u32::try_from(id).ok());
    known.ok_or_else(|| format!("{field} is {value}; expected a token id below {vocabulary}"))
}

/// Reads `count` log-probabilities.
pub(super) fn log_probs(value: &Value, field: &str, count: usize) -> Result<Vec<f32>, String> {
    let list = list(value, field, "a list of log-probabilities")?;
    if list.len() != count {
        return Err(format!("{field} has {} numbers, expected {count}, one for each token", list.len()));
    }
    list.iter().enumerate().map(|(at, number)| of_log_prob(number, &format!("{field}[{at}]"))).collect()
}

/// Reads a log-probability.
pub(super) fn of_log_prob(value: &Value, field: &str) -> Result<f32, String> {
    let known = value.as_f64().filter(|number| *number <= ABOVE_ZERO && (*number as f32).is_finite());
    let wrong = || format!("{field} is {value}; expected a log-probability, a finite number of at most 0");
    known.map(|number| number as f32).ok_or_else(wrong)
}

/// Returns the elements of a list.
pub(super) fn list<'a>(value: &'a Value, field: &str, expected: &str) -> Result<&'a Vec<Value>, String> {
    match value {
        Value::Array(list) => Ok(list),
        Value::Null => Err(format!("{field} is missing; expected {expected}")),
        other => Err(format!("{field} is {}; expected {expected}", kind(other))),
    }
}

/// Returns a word for the type of a value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the log-probabilities of f32 survive JSON to the bit.
    #[test]
    fn log_probs_survive_json() {
        let mut seed = 1_u32;
        let numbers: Vec<f32> = (0..20_000)
            .map(|at| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                -f32::from_bits((seed >> 9) | 0x3f80_0000) * [1e-6, 0.3, 1.0, 40.0][at % 4]
            })
            .collect();
        let text = serde_json::to_string(&numbers.iter().map(|x| f64::from(*x)).collect::<Vec<_>>()).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let read = log_probs(&value, "log_probs", numbers.len()).unwrap();
        assert!(read.iter().zip(&numbers).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
