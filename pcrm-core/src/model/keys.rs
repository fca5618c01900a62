//! Keys of `config.json`: for each family the keys that are read, the keys with restricted values, and the
//! keys that do not change scores.
//!
//! `config_keys.json` is the table of decoders, `encoder_keys.json` that of encoders.
//! `scripts/check-config-keys.py` compares both with the config classes of `transformers`: every field is in the
//! table, with the same default.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::types::{self, shown};

/// The keys of one family, or of every family.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    /// Keys that are read, with their defaults.
    read: Map<String, Value>,
    /// Other names of keys.
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// Keys that change scores, with their supported values.
    #[serde(default)]
    only: BTreeMap<String, Vec<Value>>,
    /// Keys that do not change scores.
    #[serde(default)]
    ignored: Vec<String>,
    /// Options of generation, which do not change scores either.
    #[serde(default)]
    generation: Vec<String>,
}

const EVERY: &str = "every";

type Table = BTreeMap<String, Keys>;

static TABLE: LazyLock<Table> = LazyLock::new(|| parsed(include_str!("config_keys.json")));
static ENCODERS: LazyLock<Table> = LazyLock::new(|| parsed(include_str!("encoder_keys.json")));

fn parsed(table: &str) -> Table {
    serde_json::from_str(table).expect("the table is part of the program, and a test reads it")
}

/// The table's rows for one family.
#[derive(Debug, Clone, Copy)]
pub(super) struct FamilyKeys {
    model_type: &'static str,
    every: &'static Keys,
    own: &'static Keys,
    /// Keys that change the scores of no family.
    neutral: &'static Keys,
}

impl FamilyKeys {
    /// Returns the keys of the family of decoders of this `model_type`.
    pub(super) fn of(model_type: &'static str) -> Option<Self> {
        Self::find(&TABLE, model_type)
    }

    /// Returns the keys of the family of encoders of this `model_type`, and the unknown keys of a config.
    ///
    /// # Errors
    /// Fails if a key of the config has an unsupported value or another type than its own.
    pub(super) fn of_encoder(
        model_type: &'static str,
        raw: &Map<String, Value>,
        path: &Path,
    ) -> Result<(Self, Vec<String>)> {
        let keys = Self::find(&ENCODERS, model_type)
            .ok_or_else(|| Error::file(path, format!("the keys of {model_type} are not known")))?;
        let unknown = keys.check(raw, path)?;
        types::check(raw, path, |key| keys.knows(key))?;
        Ok((keys, unknown))
    }

    fn find(table: &'static Table, model_type: &'static str) -> Option<Self> {
        let (every, own) = (table.get(EVERY)?, table.get(model_type)?);
        Some(Self { model_type, every, own, neutral: TABLE.get(EVERY)? })
    }

    /// Returns a config with every key under its first name, and with defaults for absent keys.
    ///
    /// # Errors
    /// Fails if a key and its other name have different values.
    pub(super) fn complete(&self, raw: &Map<String, Value>, path: &Path) -> Result<Map<String, Value>> {
        let mut full = raw.clone();
        for (alias, name) in &self.own.aliases {
            let Some(value) = full.remove(alias) else { continue };
            if let Some(other) = raw.get(name).filter(|other| **other != value) {
                let (value, other) = (shown(&value), shown(other));
                let message = format!("{alias} is {value} and {name} is {other}; expected equal values");
                return Err(Error::file(path, message));
            }
            full.insert(name.clone(), value);
        }
        for (key, default) in self.own.read.iter().chain(&self.every.read) {
            if !full.contains_key(key) {
                full.insert(key.clone(), default.clone());
            }
        }
        Ok(full)
    }

    /// Returns the default of a key.
    pub(super) fn default(&self, key: &str) -> &'static Value {
        self.own.read.get(key).or_else(|| self.every.read.get(key)).unwrap_or(&Value::Null)
    }

    /// Checks that keys have supported values, and returns the unknown keys.
    ///
    /// # Errors
    /// Fails if a key that changes scores has an unsupported value.
    pub(super) fn check(&self, raw: &Map<String, Value>, path: &Path) -> Result<Vec<String>> {
        let mut unknown = Vec::new();
        for (key, value) in raw {
            if let Some(served) = self.own.only.get(key).or_else(|| self.every.only.get(key)) {
                if !served.contains(value) {
                    let served: Vec<String> = served.iter().map(Value::to_string).collect();
                    let message = format!(
                        "{key} is {}; expected {}: no other value is supported for {}",
                        shown(value),
                        served.join(" or "),
                        self.model_type
                    );
                    return Err(Error::file(path, message));
                }
            } else if !self.knows(key) {
                unknown.push(key.clone());
            }
        }
        Ok(unknown)
    }

    /// Returns whether the table has a key in any row.
    pub(super) fn knows(&self, key: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|known| known == key);
        let named = |keys: &Keys| keys.read.contains_key(key) || keys.aliases.contains_key(key);
        [self.own, self.every].into_iter().any(named)
            || [self.own, self.every, self.neutral]
                .into_iter()
                .any(|keys| listed(&keys.ignored) || listed(&keys.generation))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::families::FAMILIES;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    /// Protects: the tables have rows for each family and for nothing else, and no key appears twice.
    #[test]
    fn every_family_has_its_keys() {
        let families: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
        let encoders: Vec<&str> =
            ["bert", "camembert", "deberta-v2", "distilbert", "modernbert", "roberta", "xlm-roberta"].into();
        for (table, families) in [(&TABLE, &families), (&ENCODERS, &encoders)] {
            for name in table.keys().filter(|name| *name != EVERY) {
                assert!(families.contains(&name.as_str()), "{name}");
            }
        }
        let decoders = families.into_iter().map(|family| (family, FamilyKeys::of(family)));
        for (family, keys) in
            decoders.chain(encoders.into_iter().map(|family| (family, FamilyKeys::find(&ENCODERS, family))))
        {
            let keys = keys.unwrap_or_else(|| panic!("no keys of {family}"));
            let mut all = Vec::new();
            for part in [keys.own, keys.every] {
                all.extend(
                    part.aliases.keys().chain(part.only.keys()).chain(&part.ignored).chain(&part.generation),
                );
            }
            all.extend(keys.own.read.keys());
            all.extend(keys.every.read.keys().filter(|key| !keys.own.read.contains_key(*key)));
            let mut once = all.clone();
            once.sort();
            once.dedup();
            assert_eq!(all.len(), once.len(), "{family}: a key is listed twice");
        }
    }

    /// Protects: in any family, an unsupported value is refused by name, and an unknown key is reported.
    #[test]
    fn keys_are_served_refused_or_reported() -> Result<()> {
        let path = Path::new("config.json");
        for family in &FAMILIES {
            let keys = FamilyKeys::of(family.model_type).unwrap_or_else(|| panic!("{}", family.model_type));
            let unknown = keys.check(&map(json!({"use_cache": true, "top_k": 3, "alibi": true})), path)?;
            assert_eq!(unknown, ["alibi"]);
            for (key, value) in [
                ("is_causal", json!(false)),
                ("is_encoder_decoder", json!(true)),
                ("pruned_heads", json!({"0": [1]})),
            ] {
                let raw = [(key.to_owned(), value.clone())].into_iter().collect();
                let error = keys.check(&raw, path).map_err(|error| error.to_string()).unwrap_err();
                assert!(error.contains(&format!("{key} is {value}; expected ")), "{error}");
            }
        }
        Ok(())
    }

    /// Protects: GPT-2's other names mean the same as its own, and may not contradict them.
    #[test]
    fn other_names_are_understood() -> Result<()> {
        let keys = FamilyKeys::of("gpt2").unwrap_or_else(|| panic!("gpt2"));
        let path = Path::new("config.json");
        let full =
            keys.complete(&map(json!({"hidden_size": 8, "n_embd": 8, "num_hidden_layers": 3})), path)?;
        assert_eq!(
            (&full["n_embd"], &full["n_layer"], &full["n_positions"]),
            (&json!(8), &json!(3), &json!(1024))
        );
        let error = keys.complete(&map(json!({"hidden_size": 8, "n_embd": 9})), path).map(drop);
        let error = error.map_err(|error| error.to_string()).unwrap_err();
        assert!(error.contains("hidden_size is 8 and n_embd is 9"), "{error}");
        Ok(())
    }
}
