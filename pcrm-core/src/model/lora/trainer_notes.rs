//! `pcrm.json`: the trainer's notes on an adapter; for a full model they are in `config.json`, under `pcrm`. An
//! adapter's notes also identify its base.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::{disguise, types, weights};
use crate::quant::Quantisation;

/// The file in an adapter's folder.
pub const FILE: &str = "pcrm.json";

const KEY: &str = "pcrm";

/// The note that names the quantisation of the base.
const QUANTIZE: &str = "quantize";

/// The note with the digest of the base's weights.
const BASE_WEIGHTS: &str = "base_weights";

/// Drops the notes on the base, which do not describe a model with adapters.
pub(super) fn drop_of_base(config: &mut ModelConfig) {
    config.raw.shift_remove(KEY);
}

/// Replaces the notes in a config by the notes of the adapter in this folder, if it has any.
///
/// # Errors
/// Fails if the file is not a JSON object, or a note has another type or value than expected.
pub(super) fn read(dir: &Path, config: &mut ModelConfig) -> Result<()> {
    drop_of_base(config);
    quantisation(dir)?;
    let Some(mut notes) = notes(dir)? else { return Ok(()) };
    if let Some(notes) = notes.as_object_mut() {
        // Of the base, which may be loaded in another way or merged.
        for name in [QUANTIZE, BASE_WEIGHTS] {
            notes.shift_remove(name);
        }
    }
    let notes = Map::from_iter([(KEY.to_owned(), notes)]);
    types::check(&notes, &dir.join(FILE), |_| true)?;
    config.raw.extend(notes);
    Ok(())
}

/// Returns the quantisation of the base that the adapter in this folder was trained on; `None` if there was
/// none, or the folder has no notes.
///
/// # Errors
/// Fails if the file is not JSON or names an unknown method.
pub fn quantisation(dir: &Path) -> Result<Option<Quantisation>> {
    let path = dir.join(FILE);
    let method = notes(dir)?.map(|notes| notes[QUANTIZE].clone()).unwrap_or_default();
    match &method {
        Value::Null => Ok(None),
        Value::String(name) => name.parse().map(Some).map_err(|error| Error::file(&path, error)),
        other => Err(Error::file(&path, format!("{QUANTIZE} is {other}; expected the name of a method"))),
    }
}

/// Returns the digest of the base's weights that the adapter in this folder was trained on; `None` if the folder
/// has no notes or they have no digest: PEFT or an earlier version wrote it.
///
/// # Errors
/// Fails if the file is not JSON or the digest is not a text.
pub(super) fn base_weights(dir: &Path) -> Result<Option<String>> {
    match notes(dir)?.map(|notes| notes[BASE_WEIGHTS].clone()).unwrap_or_default() {
        Value::Null => Ok(None),
        Value::String(digest) => Ok(Some(digest)),
        other => {
            let message = format!("{BASE_WEIGHTS} is {other}; expected the digest of the base's weights");
            Err(Error::file(dir.join(FILE), message))
        }
    }
}

/// Returns the content of the file, if it exists.
fn notes(dir: &Path) -> Result<Option<Value>> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    serde_json::from_str(&disguise::read_text(&path)?).map(Some).map_err(|error| Error::file(&path, error))
}

/// Writes the notes of a config, the quantisation of the base and the digest of its weights to a folder, if there
/// are any.
///
/// # Errors
/// Fails if the disk is full or not writable.
pub(super) fn write(
    dir: &Path,
    config: &ModelConfig,
    quantisation: Option<Quantisation>,
    base_weights: Option<&str>,
) -> Result<()> {
    let mut notes = config.raw.get(KEY).cloned();
    let method = quantisation.map(|method| method.to_string());
    for (name, note) in [(QUANTIZE, method.as_deref()), (BASE_WEIGHTS, base_weights)] {
        if let Some(note) = note {
            notes.get_or_insert_with(|| Value::Object(Map::new()))[name] = note.into();
        }
    }
    notes.map_or(Ok(()), |notes| weights::write_json(&dir.join(FILE), &notes))
}
