//! The response formats of reward servers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::protocol::{PartialRequest, Protocol};
use crate::reward_source::{Answers, Scored};
use crate::transport::cut;

impl Protocol {
    /// Parses the response to a request.
    ///
    /// # Errors
    /// Fails if the response is not JSON or not in the protocol's format, if the count is wrong, or if a
    /// reward is not finite.
    pub fn read(self, text: &str, part: &PartialRequest, batch: &Answers<'_>) -> Result<Scored, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let not_finite = ["NaN", "Infinity"].iter().any(|token| text.contains(token));
            let hint = if not_finite { "; JSON has no NaN and no Infinity" } else { "" };
            format!("the response is not valid JSON: {error}{hint}: {}", cut(text))
        })?;
        let count = part.rows.len();
        let found = self.found(&value, count).map_err(|message| format!("{message}: {}", cut(text)))?;
        if found.len() != count {
            return Err(format!("gave {} rewards for {count} answers; expected one per answer", found.len()));
        }
        let reward = |(row, value): (&usize, &Value)| match (self, value) {
            (Self::OpenRlhf, Value::Null) => Ok(None),
            (_, value) => match number(value) {
                Some(reward) => Ok(Some(reward)),
                None => {
                    let value = cut(&value.to_string());
                    Err(format!("{}: the reward is {value}; expected one finite number", batch.place(*row)))
                }
            },
        };
        let rewards = part.rows.iter().zip(found).map(reward).collect::<Result<_, String>>()?;
        let logs = if self == Self::OpenRlhf { logs(&value)? } else { BTreeMap::new() };
        Ok(Scored { rewards, logs, ..Scored::default() })
    }

    /// Returns the values of all answers, in order.
    fn found(self, value: &Value, count: usize) -> Result<Vec<&Value>, String> {
        let list = |value| as_list(value).ok_or_else(|| self.expected());
        match self {
            Self::OpenRlhf => Ok(list(&value["rewards"])?.iter().collect()),
            Self::Classify => ordered(list(&value["data"])?, "probs", count),
            Self::Pooling => ordered(list(&value["data"])?, "data", count),
            Self::Embeddings => ordered(list(&value["data"])?, "embedding", count),
            Self::Score => ordered(list(&value["data"])?, "score", count),
            Self::TeiRerank => ordered(list(value)?, "score", count),
            Self::Rerank => ordered(list(&value["results"])?, "relevance_score", count),
            Self::Sglang => match value {
                Value::Array(all) => Ok(all.iter().map(|one| &one["embedding"]).collect()),
                one => Ok(vec![&one["embedding"]]),
            },
            Self::Predict => list(value)?.iter().map(label).collect(),
        }
    }

    fn expected(self) -> String {
        let form = match self {
            Self::OpenRlhf => "{\"rewards\": [..]}",
            Self::Classify => "{\"data\": [{\"index\": 0, \"probs\": [..]}]}",
            Self::Pooling => "{\"data\": [{\"index\": 0, \"data\": [..]}]}",
            Self::Embeddings => "{\"data\": [{\"index\": 0, \"embedding\": [..]}]}",
            Self::Score => "{\"data\": [{\"index\": 0, \"score\": ..}]}",
            Self::TeiRerank => "[{\"index\": 0, \"score\": ..}]",
            Self::Rerank => "{\"results\": [{\"index\": 0, \"relevance_score\": ..}]}",
            Self::Sglang => "[{\"embedding\": [..]}]",
            Self::Predict => "[[{\"score\": .., \"label\": ..}]]",
        };
        format!("the response does not have the form {form}")
    }
}

fn as_list(value: &Value) -> Option<&Vec<Value>> {
    value.as_array()
}

/// Returns the value under `key` of every element, in the order of their indices.
fn ordered<'a>(all: &'a [Value], key: &str, count: usize) -> Result<Vec<&'a Value>, String> {
    if all.len() != count {
        return Err(format!("gave {} rewards for {count} answers; expected one per answer", all.len()));
    }
    let mut places = vec![None; count];
    for one in all {
        let index = one["index"].as_u64().and_then(|index| usize::try_from(index).ok());
        match index.and_then(|index| places.get_mut(index)) {
            Some(place @ None) => *place = Some(&one[key]),
            _ => return Err(format!("the index {} of {count} is duplicate or invalid", one["index"])),
        }
    }
    Ok(places.into_iter().flatten().collect())
}

/// Returns the score of a text's only label.
fn label(value: &Value) -> Result<&Value, String> {
    match value {
        Value::Array(labels) => match labels.as_slice() {
            [label] => Ok(&label["score"]),
            labels => Err(format!("the model has {} labels; expected a reward model with one", labels.len())),
        },
        label => Ok(&label["score"]),
    }
}

/// Returns a finite number, which may be alone in a list.
fn number(value: &Value) -> Option<f32> {
    match value {
        Value::Array(all) => match all.as_slice() {
            [one] => one.as_f64(),
            _ => None,
        },
        value => value.as_f64(),
    }
    .map(|number| number as f32)
    .filter(|number| number.is_finite())
}

/// Returns OpenRLHF's additional numbers: its scores and the contents of `extra_logs`.
fn logs(value: &Value) -> Result<BTreeMap<String, Vec<f32>>, String> {
    let extra = value["extra_logs"].as_object().into_iter().flatten();
    let scores = value.get("scores").filter(|scores| !scores.is_null());
    let mut logs = BTreeMap::new();
    for (name, values) in
        extra.map(|(name, values)| (name.as_str(), values)).chain(scores.map(|all| ("scores", all)))
    {
        let values = as_list(values).map_or(std::slice::from_ref(values), Vec::as_slice);
        let values = values.iter().map(|value| {
            number(value).ok_or_else(|| format!("the log {name:?} has {value}; expected finite numbers"))
        });
        logs.insert(name.to_owned(), values.collect::<Result<_, _>>()?);
    }
    Ok(logs)
}
