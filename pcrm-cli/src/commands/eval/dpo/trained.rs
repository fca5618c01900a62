//! The record of a policy's training in its run's folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pcrm_core::constraint::{self, Constraint};
use pcrm_core::model::lora::peft::AdapterFolder;
use pcrm_rl::loss::preference::PreferenceConfig;
use serde_json::{Map, Value};

/// The options, the constraint and the reference of a policy's training.
pub struct PolicyTraining {
    pub config: PreferenceConfig,
    constraint: Option<Value>,
    pub reference: Option<PathBuf>,
}

impl PolicyTraining {
    /// Reads the manifest of a run, if there is one.
    pub fn of(dir: &Path) -> Result<Self> {
        let path = dir.join("manifest.json");
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(Self { config: PreferenceConfig::default(), constraint: None, reference: None });
        };
        let manifest: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let print = manifest["fingerprint"].as_object().cloned().unwrap_or_default();
        let known = serde_json::to_value(PreferenceConfig::default())?;
        let is_option = |name: &str| known.get(name).is_some() || name == "ld-alpha";
        let options: Map<String, Value> =
            print.iter().filter(|(name, _)| is_option(name)).map(|(a, b)| (a.clone(), b.clone())).collect();
        let config = serde_json::from_value(options.into()).with_context(|| path.display().to_string())?;
        let model = manifest["model"].as_str().map(PathBuf::from).filter(|dir| dir.exists());
        let reference = match print.get("reference").and_then(Value::as_str) {
            Some("start") => model,
            Some("base") => match model {
                Some(dir) if AdapterFolder::is_alone(&dir) => Some(AdapterFolder::open(&dir)?.base()?),
                _ => None,
            },
            _ => None,
        };
        Ok(Self { config, constraint: print.get("constraint").cloned(), reference })
    }

    /// Returns the requested constraint, else the one from training, else none.
    pub fn constraint(&self, named: Option<&str>) -> Result<Box<dyn Constraint>> {
        match (named, &self.constraint) {
            (Some(text), _) => crate::constraint::read(text),
            (None, Some(tagged)) => Ok(constraint::from_tagged(tagged.clone())?),
            (None, None) => Ok(constraint::parse("none")?),
        }
    }
}
