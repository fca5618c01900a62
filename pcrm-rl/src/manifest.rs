//! `manifest.json`: a run's options and what it read, with the fingerprint that resuming is held to.

use std::path::Path;

use pcrm_core::disk::sealed;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;

/// The name of the file in a run's folder.
pub const FILE: &str = "manifest.json";

/// The fingerprint of the run that a folder describes; none where it describes no run. Where the folder has a whole
/// checkpoint, which has a fingerprint of its own, a manifest that is damaged is a warning.
///
/// # Errors
/// A manifest that is damaged, in a folder without a checkpoint.
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
            let message = format!("{error}; without it nobody knows which run this is: name another folder");
            Err(Error::Checkpoint { path: dir.to_path_buf(), message })
        }
    }
}

/// Writes the manifest of a run.
///
/// # Errors
/// The disk's.
pub fn write(dir: &Path, manifest: &Value) -> Result<()> {
    Ok(sealed::write(&dir.join(FILE), manifest)?)
}
