//! `manifest.json`: the options and inputs of a run, with the fingerprint that resuming must match.

use std::path::Path;

use pcrm_core::disk::sealed;
use pcrm_core::model::Loading;
use pcrm_core::model::lora::{self, peft::AdapterFolder};
use pcrm_core::quant::Quantisation;
use pcrm_core::{Backend, DType};
use serde_json::Value;

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;

/// The file name in a run's folder.
pub const FILE: &str = "manifest.json";

/// Returns the options to load a model that is applied, not trained: an adapter's base is quantised as in
/// training.
pub fn applied<'a>(backend: &'a dyn Backend, dir: &Path, dtype: DType) -> Loading<'a> {
    Loading::frozen(backend, dtype).quantised(quantisation(dir))
}

/// Returns the quantisation of the base that the adapter in a folder was trained on, if the adapter's notes
/// name one, or its manifest for an adapter of an earlier version. Opening the adapter reports broken notes.
pub fn quantisation(dir: &Path) -> Option<Quantisation> {
    if !AdapterFolder::is_alone(dir) {
        return None;
    }
    if let Ok(Some(method)) = lora::quantisation(dir) {
        return Some(method);
    }
    let text = std::fs::read_to_string(dir.join(FILE)).ok()?;
    let manifest: Value = serde_json::from_str(&text).ok()?;
    manifest["fingerprint"]["quantize"].as_str()?.parse().ok()
}

/// Reads the fingerprint of the run in a folder; `None` if there is no run. With a valid checkpoint in the
/// folder, which has its own fingerprint, a damaged manifest is only a warning.
///
/// # Errors
/// Fails if the manifest is damaged and the folder has no checkpoint.
pub(crate) fn fingerprint(dir: &Path, has_checkpoint: bool) -> Result<Option<Fingerprint>> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let read = sealed::read::<Value>(&path).and_then(|(manifest, _)| {
        serde_json::from_value(manifest["fingerprint"].clone())
            .map_err(|error| pcrm_core::Error::file(&path, format!("has no fingerprint of a run: {error}")))
    });
    match read {
        Ok(fingerprint) => Ok(Some(fingerprint)),
        Err(error) if has_checkpoint => {
            tracing::warn!("{error}; the run is held to its checkpoint alone");
            Ok(None)
        }
        Err(error) => {
            let message =
                format!("{error}; the manifest is needed to identify the run; choose another folder");
            Err(Error::Checkpoint { path: dir.to_path_buf(), message })
        }
    }
}

/// Returns an entry of the fingerprint of the run in a folder, from its manifest or else its newest checkpoint; `None`
/// if there is no run or it has no such entry.
///
/// # Errors
/// Fails if neither the manifest nor a checkpoint is intact.
pub fn recorded(dir: &Path, name: &str) -> Result<Option<Value>> {
    let has_checkpoint = !checkpoint::steps(dir)?.is_empty();
    let mut print = fingerprint(dir, has_checkpoint)?;
    if print.is_none() && has_checkpoint {
        print = checkpoint::newest(dir)?.map(|(_, state)| state.fingerprint);
    }
    Ok(print.and_then(|mut print| print.remove(name)))
}

/// Writes the manifest of a run.
///
/// # Errors
/// Fails if the disk fails.
pub fn write(dir: &Path, manifest: &Value) -> Result<()> {
    Ok(sealed::write(&dir.join(FILE), manifest)?)
}
