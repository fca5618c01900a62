//! The Hub names of the base model and the data of a run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pcrm_core::model::lora::peft::AdapterFolder;
use pcrm_rl::manifest;
use serde_json::Value;

use crate::hub::{CachedPath, Kind, is_repository};

/// The longest chain of local runs to follow to a base model.
const LONGEST: usize = 8;

/// The origins of a run.
pub struct Origins {
    /// The Hub repository of the base model; `None` if the run started from random weights or a local
    /// checkpoint.
    pub base: Option<String>,
    /// The Hub repositories of the training data, without duplicates.
    pub datasets: Vec<String>,
    /// The Hub repository of the evaluation data, if all of it comes from one.
    pub evaluated_on: Option<String>,
    /// All paths in the records.
    pub paths: Vec<String>,
}

impl Origins {
    /// Reads the origins of a run from its manifest and, for an adapter, from its configuration. `base` takes
    /// precedence.
    ///
    /// # Errors
    /// Fails if a record is not JSON or `base` is not the name of a repository.
    pub fn of(run: &Path, base: Option<&str>, adapter: bool) -> Result<Self> {
        let record = record(run)?;
        let listed = |key: &str| -> Vec<String> {
            let files = record[key].as_array().into_iter().flatten();
            files.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let (data, eval_data) = (listed("data"), listed("eval_data"));
        let mut paths: Vec<String> =
            [record["model"].as_str()].into_iter().flatten().map(str::to_owned).collect();
        paths.extend(data.iter().chain(&eval_data).cloned());
        let mut named = base_of(&record);
        if adapter && named.is_none() {
            let folder = AdapterFolder::open(run)?;
            let name = folder.base_name().ok();
            paths.extend(name.map(str::to_owned));
            named = name.and_then(|name| match CachedPath::of(Path::new(name)) {
                Some(CachedPath { kind: Kind::Model, repository, .. }) => Some(repository),
                _ => Some(name.to_owned()).filter(|name| is_repository(name) && !Path::new(name).exists()),
            });
        }
        if let Some(base) = base {
            ensure!(
                is_repository(base),
                "--base-model {base}: expected the name of a Hub repository, ORG/NAME"
            );
            named = Some(base.to_owned());
        }
        let datasets = datasets(&data);
        let held_out = if eval_data.is_empty() { &data } else { &eval_data };
        let sources: Vec<Option<String>> = held_out.iter().map(|path| dataset(path)).collect();
        let first = sources.first().cloned().flatten();
        let evaluated_on = first.filter(|first| sources.iter().all(|other| other.as_ref() == Some(first)));
        Ok(Self { base: named, datasets, evaluated_on, paths })
    }
}

/// Reads a run's manifest; null if the folder has none.
fn record(run: &Path) -> Result<Value> {
    let path = run.join(manifest::FILE);
    if !path.exists() {
        return Ok(Value::Null);
    }
    let place = || path.display().to_string();
    serde_json::from_slice(&fs::read(&path).with_context(place)?).with_context(place)
}

/// Returns the repository that a run's model was trained from, also through earlier local runs.
fn base_of(record: &Value) -> Option<String> {
    let mut record = record.clone();
    for _ in 0..LONGEST {
        if record["fingerprint"]["random-init"] == true {
            return None;
        }
        let model = PathBuf::from(record["model"].as_str()?);
        if let Some(CachedPath { kind: Kind::Model, repository, .. }) = CachedPath::of(&model) {
            return Some(repository);
        }
        record = self::record(&model).ok().filter(|record| !record.is_null())?;
    }
    None
}

fn dataset(path: &str) -> Option<String> {
    CachedPath::of(Path::new(path))
        .filter(|cached| cached.kind == Kind::Dataset)
        .map(|cached| cached.repository)
}

fn datasets(paths: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    for name in paths.iter().filter_map(|path| dataset(path)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
