//! A data set's card: the configs in the YAML at the head of its README, as `datasets` reads them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::repository::Repository;

/// The file of the card.
const CARD: &str = "README.md";

/// A file that contains only YAML, whose keys take precedence over those of the card.
const SETTINGS: &str = ".huggingface.yaml";

/// The size of the largest card that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// The split of files that are listed without one.
const TRAIN: &str = "train";

/// A config: a part of a data set with splits of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name of the config.
    pub name: String,
    /// True if the card marks it as the default.
    pub default: bool,
    /// The folder of its files, or an empty string for the whole repository.
    pub folder: String,
    /// The splits and the patterns of their files. `None` if the names of files and folders determine the
    /// splits.
    pub splits: Option<Vec<(String, Vec<String>)>>,
}

/// Fetches the card of a data set, and returns the configs that it lists.
///
/// # Errors
/// Fails if the card cannot be fetched or its configs are malformed.
pub fn configs(repository: &mut Repository) -> Result<Vec<Config>> {
    for name in [SETTINGS, CARD] {
        if !repository.files().iter().any(|file| file == name) {
            continue;
        }
        repository.fetch(&[name.to_owned()])?;
        let path = repository.folder().join(name);
        let mut bytes = Vec::new();
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        file.take(LARGEST + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
        ensure!(bytes.len() as u64 <= LARGEST, "{name} is larger than {LARGEST} bytes");
        let text = String::from_utf8_lossy(&bytes);
        let found = match name {
            CARD => head(&text).map_or(Ok(None), |yaml| listed(&yaml)),
            _ => listed(&text),
        };
        if let Some(configs) = found.with_context(|| name.to_owned())? {
            return Ok(configs);
        }
    }
    Ok(Vec::new())
}

/// Returns the YAML between lines of `---` at the head of a card, after as many empty lines as it has lines
/// before it, so that an error has the card's line.
fn head(card: &str) -> Option<String> {
    let mut lines = card.lines();
    let begin = lines.position(|line| !line.trim().is_empty())?;
    if card.lines().nth(begin)?.trim_start() != "---" {
        return None;
    }
    let mut yaml = "\n".repeat(begin + 1);
    for line in lines {
        if line.trim_end_matches([' ', '\t']) == "---" {
            return Some(yaml);
        }
        yaml.push_str(line);
        yaml.push('\n');
    }
    None
}

/// Returns the configs under the key `configs` of YAML, or `None` without that key.
fn listed(yaml: &str) -> Result<Option<Vec<Config>>> {
    #[derive(Deserialize)]
    struct Keys {
        configs: Option<Value>,
    }

    // Other keys of a card are not read, so errors in them do not matter.
    if !yaml.contains("configs") {
        return Ok(None);
    }
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! { max_events: 4_000_000, max_nodes: 2_000_000 },
    };
    let keys: Option<Keys> =
        serde_saphyr::from_str_with_options(yaml, options).map_err(|error| anyhow!("{error}"))?;
    let Some(value) = keys.and_then(|keys| keys.configs) else { return Ok(None) };
    let values = value.as_array().with_context(|| unexpected("configs", &value, "a list"))?;
    let configs = values.iter().map(config).collect::<Result<Vec<_>>>()?;
    let mut names = BTreeSet::new();
    let twice = configs.iter().find(|config| !names.insert(config.name.as_str()));
    match twice {
        Some(config) => bail!("the config {} is listed twice", config.name),
        None => Ok(Some(configs)),
    }
}

fn config(value: &Value) -> Result<Config> {
    let fields = value.as_object().with_context(|| unexpected("a config", value, "keys and values"))?;
    let name = fields.get("config_name").unwrap_or(&Value::Null);
    let name = text(name).with_context(|| unexpected("config_name", name, "a name"))?;
    let read = || -> Result<Config> {
        let folder = given(fields, "data_dir").filter(|folder| *folder != "");
        let folder =
            folder.map_or(Some(String::new()), text).context("data_dir is not the name of a folder")?;
        let splits = given(fields, "data_files").map(splits).transpose()?;
        let default = fields.get("default") == Some(&Value::Bool(true));
        Ok(Config { name: name.clone(), default, folder, splits })
    };
    read().with_context(|| format!("the config {name}"))
}

/// Returns the value of a key, unless it is null.
fn given<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    fields.get(key).filter(|value| !value.is_null())
}

fn splits(data_files: &Value) -> Result<Vec<(String, Vec<String>)>> {
    if let Some(patterns) = patterns(data_files) {
        return Ok(vec![(TRAIN.to_owned(), patterns)]);
    }
    let expected = "a path, a list of paths, or a list of split and path";
    let items = data_files.as_array().with_context(|| unexpected("data_files", data_files, expected))?;
    let (mut splits, mut names) = (Vec::new(), BTreeSet::new());
    for item in items {
        let name =
            item.get("split").and_then(text).with_context(|| unexpected("data_files", item, expected))?;
        let path = item.get("path").unwrap_or(&Value::Null);
        let patterns =
            patterns(path).with_context(|| unexpected("path", path, "a path or a list of paths"))?;
        let word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_');
        ensure!(name.split('.').all(word), "split is {name:?}; expected words of letters, digits and _");
        ensure!(names.insert(name.clone()), "the split {name} is listed twice");
        splits.push((name, patterns));
    }
    Ok(splits)
}

/// Returns the patterns of a path or a list of paths.
fn patterns(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(paths) => paths.iter().map(|path| path.as_str().map(str::to_owned)).collect(),
        path => Some(vec![path.as_str()?.to_owned()]),
    }
}

/// Returns a name, which YAML may have taken for a number.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn unexpected(key: &str, value: &Value, expected: &str) -> String {
    let shown: String = value.to_string().chars().take(80).collect();
    format!("{key} is {shown}; expected {expected}")
}

#[cfg(test)]
mod tests;
