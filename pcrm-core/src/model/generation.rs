//! The end tokens of a model's answers, and the sampling suggested by its folder.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::language::LanguageModel;
use crate::error::{Error, Result};
use crate::kernels::Filters;

const FILE: &str = "generation_config.json";

/// A key of `generation_config.json` that changes answers in `transformers` and is not supported.
struct Rule {
    key: &'static str,
    /// The number that turns the rule off, as null, false and empty values do.
    neutral: f64,
    /// True if greedy answers do not depend on it.
    is_of_sampling: bool,
}

const fn always(key: &'static str, neutral: f64) -> Rule {
    Rule { key, neutral, is_of_sampling: false }
}

const fn of_sampling(key: &'static str, neutral: f64) -> Rule {
    Rule { key, neutral, is_of_sampling: true }
}

const UNSUPPORTED: [Rule; 24] = [
    always("no_repeat_ngram_size", 0.0),
    always("encoder_no_repeat_ngram_size", 0.0),
    always("encoder_repetition_penalty", 1.0),
    always("suppress_tokens", f64::NAN),
    always("begin_suppress_tokens", f64::NAN),
    always("bad_words_ids", f64::NAN),
    always("force_words_ids", f64::NAN),
    always("sequence_bias", f64::NAN),
    always("constraints", f64::NAN),
    always("min_length", 0.0),
    always("min_new_tokens", 0.0),
    always("exponential_decay_length_penalty", f64::NAN),
    always("forced_bos_token_id", f64::NAN),
    always("forced_eos_token_id", f64::NAN),
    always("forced_decoder_ids", f64::NAN),
    always("stop_strings", f64::NAN),
    always("guidance_scale", 1.0),
    always("watermarking_config", f64::NAN),
    always("penalty_alpha", 0.0),
    always("num_beams", 1.0),
    of_sampling("typical_p", 1.0),
    of_sampling("top_h", f64::NAN),
    of_sampling("epsilon_cutoff", 0.0),
    of_sampling("eta_cutoff", 0.0),
];

impl Rule {
    /// Returns the rule's value in a configuration, unless it has no effect.
    fn value<'a>(&self, config: &'a Map<String, Value>) -> Option<&'a Value> {
        config.get(self.key).filter(|value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Number(number) => number.as_f64() != Some(self.neutral),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::Bool(true) | Value::String(_) => true,
        })
    }
}

impl LanguageModel {
    /// Returns all tokens that end an answer: those of `generation_config.json` and of `config.json`, each
    /// one or a list.
    ///
    /// # Errors
    /// Fails if an `eos_token_id` is not a token id or list of ids, or is outside the vocabulary.
    pub fn stop_ids(&self) -> Result<BTreeSet<u32>> {
        let mut ids = BTreeSet::new();
        let vocabulary = self.config().vocabulary;
        let generation = self.generation_config()?;
        for (file, value) in
            [(FILE, generation.get("eos_token_id")), ("config.json", self.config().raw.get("eos_token_id"))]
        {
            let values = match value {
                None | Some(Value::Null) => continue,
                Some(Value::Array(values)) => values.as_slice(),
                Some(one) => std::slice::from_ref(one),
            };
            for value in values {
                let id = value
                    .as_u64()
                    .and_then(|id| u32::try_from(id).ok())
                    .filter(|id| (*id as usize) < vocabulary);
                let message = || format!("{file} has {value}; expected token ids below {vocabulary}");
                ids.insert(id.ok_or_else(|| Error::invalid("eos_token_id", message()))?);
            }
        }
        Ok(ids)
    }

    /// Returns the sampling that `generation_config.json` suggests, as `transformers` interprets it: greedy
    /// unless `do_sample` is true, with a default `top_k` of 50. `None` without the file.
    ///
    /// # Errors
    /// Fails if a value has another type or is out of range, or a key is not supported.
    pub fn suggested_filters(&self) -> Result<Option<Filters>> {
        filters(&self.generation_config()?)
    }

    /// Returns the keys and values of `generation_config.json` that change even greedy answers in
    /// `transformers`.
    ///
    /// # Errors
    /// Fails if the file is not a JSON object.
    pub fn suggested_rules(&self) -> Result<Vec<(&'static str, Value)>> {
        Ok(rules(&self.generation_config()?))
    }

    /// Returns `generation_config.json`, empty if the folder has none.
    fn generation_config(&self) -> Result<Map<String, Value>> {
        match self.generation_bytes() {
            Some(bytes) => {
                serde_json::from_slice(bytes).map_err(|error| Error::invalid(FILE, error.to_string()))
            }
            None => Ok(Map::new()),
        }
    }
}

fn filters(config: &Map<String, Value>) -> Result<Option<Filters>> {
    if config.is_empty() {
        return Ok(None);
    }
    let number = |key: &str, default: f64| match config.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value
            .as_f64()
            .ok_or_else(|| Error::invalid(key, format!("{FILE} has {value}; expected a number"))),
    };
    let whole = |key: &str, default: usize| match config.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_u64().and_then(|value| usize::try_from(value).ok()).ok_or_else(|| {
            Error::invalid(key, format!("{FILE} has {value}; expected a whole number from 0"))
        }),
    };
    let sampled = match config.get("do_sample") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(sampled)) => *sampled,
        Some(other) => {
            return Err(Error::invalid("do_sample", format!("{FILE} has {other}; expected true or false")));
        }
    };
    for rule in UNSUPPORTED.iter().filter(|rule| sampled || !rule.is_of_sampling) {
        if let Some(value) = rule.value(config) {
            let message = format!("{FILE} has {value}; expected none, as it is not supported");
            return Err(Error::invalid(rule.key, message));
        }
    }
    let filters = Filters {
        temperature: if sampled { number("temperature", 1.0)? } else { 0.0 },
        top_k: if sampled { whole("top_k", 50)? } else { 0 },
        top_p: if sampled { number("top_p", 1.0)? } else { 1.0 },
        min_p: if sampled { number("min_p", 0.0)? } else { 0.0 },
        repetition_penalty: number("repetition_penalty", 1.0)?,
    };
    filters.check()?;
    Ok(Some(filters))
}

fn rules(config: &Map<String, Value>) -> Vec<(&'static str, Value)> {
    let unsupported = UNSUPPORTED.iter().filter(|rule| !rule.is_of_sampling);
    let penalty = always("repetition_penalty", 1.0);
    let all = std::iter::once(&penalty).chain(unsupported);
    all.filter_map(|rule| Some((rule.key, rule.value(config)?.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(fields) = value else { panic!("not an object") };
        fields
    }

    /// Protects: a suggestion that cannot be followed is refused by key and value; neutral values, and those of
    /// sampling where answers are greedy, are not.
    #[test]
    fn unsupported_suggestions_are_refused() {
        let refused = |config: Value| filters(&object(config)).unwrap_err().to_string();
        for (config, parts) in [
            (json!({"no_repeat_ngram_size": 3}), ["no_repeat_ngram_size", "3"]),
            (json!({"suppress_tokens": [1, 2]}), ["suppress_tokens", "[1,2]"]),
            (json!({"forced_eos_token_id": 0}), ["forced_eos_token_id", "0"]),
            (json!({"do_sample": true, "typical_p": 0.9}), ["typical_p", "0.9"]),
            (json!({"do_sample": "yes"}), ["do_sample", "expected true or false"]),
            (json!({"do_sample": true, "top_k": 2.5}), ["top_k", "has 2.5; expected a whole number"]),
            (json!({"do_sample": true, "top_k": -1}), ["top_k", "has -1; expected a whole number"]),
        ] {
            let said = refused(config);
            assert!(parts.iter().all(|part| said.contains(part)) && said.contains(FILE), "{said}");
        }
        let neutral = json!({"num_beams": 1, "min_length": 0, "typical_p": 0.9, "guidance_scale": null,
            "bad_words_ids": [], "encoder_repetition_penalty": 1.0, "repetition_penalty": 1.1});
        let kept = filters(&object(neutral.clone())).unwrap().unwrap();
        assert_eq!((kept.temperature, kept.repetition_penalty), (0.0, 1.1));
        assert_eq!(rules(&object(neutral)), [("repetition_penalty", json!(1.1))]);
        assert_eq!(
            rules(&object(json!({"repetition_penalty": 1, "min_new_tokens": 2}))),
            [("min_new_tokens", json!(2))]
        );
    }
}
