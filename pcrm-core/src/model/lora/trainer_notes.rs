//! `pcrm.json`: the notes of an adapter's trainer, which `config.json` has under `pcrm` for a full model.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::{disguise, types, weights};

/// The file in an adapter's folder.
pub const FILE: &str = "pcrm.json";

const KEY: &str = "pcrm";

/// Drops the notes on the base, which do not describe a model with adapters.
pub(super) fn drop_of_base(config: &mut ModelConfig) {
    config.raw.shift_remove(KEY);
}

/// Sets the notes of a config to those of the adapter in this folder, if it has any.
///
/// # Errors
/// Fails if the file is not a JSON object, or a note has another type than expected.
pub(super) fn read(dir: &Path, config: &mut ModelConfig) -> Result<()> {
    drop_of_base(config);
    let path = dir.join(FILE);
    if !path.exists() {
        return Ok(());
    }
    let notes: Value =
        serde_json::from_str(&disguise::read_text(&path)?).map_err(|error| Error::file(&path, error))?;
    let notes = Map::from_iter([(KEY.to_owned(), notes)]);
    types::check(&notes, &path, |_| true)?;
    config.raw.extend(notes);
    Ok(())
}

/// Writes the notes of a config to a folder, if it has any.
///
/// # Errors
/// Fails if the disk is full or not writable.
pub(super) fn write(dir: &Path, config: &ModelConfig) -> Result<()> {
    config.raw.get(KEY).map_or(Ok(()), |notes| weights::write_json(&dir.join(FILE), notes))
}
