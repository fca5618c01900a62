//! The end tokens of a model's answers, and the sampling suggested by its folder.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::language::LanguageModel;
use crate::error::{Error, Result};
use crate::kernels::Filters;

const FILE: &str = "generation_config.json";

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
    /// Fails if a value has another type or is out of range.
    pub fn suggested_filters(&self) -> Result<Option<Filters>> {
        let config = self.generation_config()?;
        if config.is_empty() {
            return Ok(None);
        }
        let number = |key: &str, default: f64| match config.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value
                .as_f64()
                .ok_or_else(|| Error::invalid(key, format!("{FILE} has {value}; expected a number"))),
        };
        let sampled = config.get("do_sample").and_then(Value::as_bool).unwrap_or(false);
        let filters = Filters {
            temperature: if sampled { number("temperature", 1.0)? } else { 0.0 },
            top_k: if sampled { number("top_k", 50.0)? as usize } else { 0 },
            top_p: if sampled { number("top_p", 1.0)? } else { 1.0 },
            min_p: if sampled { number("min_p", 0.0)? } else { 0.0 },
            repetition_penalty: number("repetition_penalty", 1.0)?,
        };
        filters.check()?;
        Ok(Some(filters))
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
