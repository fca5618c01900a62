//! JSON files that contain a hash of themselves (XXH3, 128 bits), which reveals damage and changes.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use super::whole;
use crate::error::{Error, Result};

/// The last key of a sealed file.
const KEY: &str = "hash";
/// The value of the key while the hash is computed.
const BLANK: &str = "00000000000000000000000000000000";

/// The state of a file's seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// The file is as it was written.
    Whole,
    /// The file has no hash: an older version wrote it.
    Absent,
}

/// Writes an object as JSON with a hash of the file in it, atomically like [`whole::write`].
///
/// # Errors
/// Fails if the value is not an object, and if the file cannot be written.
pub fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_value(value).map_err(|error| Error::file(path, error))?;
    let Value::Object(mut fields) = json else {
        return Err(Error::file(path, "expected an object"));
    };
    fields.insert(KEY.into(), BLANK.into());
    let mut text = serde_json::to_string_pretty(&fields).map_err(|error| Error::file(path, error))?;
    text.push('\n');
    let hash = format!("{:032x}", xxh3_128(text.as_bytes()));
    let place = place(&text, BLANK).ok_or_else(|| Error::file(path, "has no place for its hash"))?;
    text.replace_range(place, &hash);
    whole::write(path, text.as_bytes())
}

/// Reads a file that [`write()`] wrote, or one without a hash.
///
/// # Errors
/// Fails if the file cannot be read, has other content, or does not match its hash.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<(T, Seal)> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let wrong = |error: &dyn std::fmt::Display| Error::file(path, format!("is damaged: {error}"));
    let text = String::from_utf8(bytes).map_err(|error| wrong(&error))?;
    let mut value: Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let hash = value.as_object_mut().and_then(|fields| fields.shift_remove(KEY));
    let seal = match hash {
        None => Seal::Absent,
        Some(hash) => {
            let hash = hash.as_str().unwrap_or_default();
            let blank = place(&text, hash).filter(|_| hash.len() == BLANK.len()).map(|place| {
                let mut blank = text.clone();
                blank.replace_range(place, BLANK);
                blank
            });
            if blank.is_none_or(|blank| format!("{:032x}", xxh3_128(blank.as_bytes())) != hash) {
                return Err(wrong(&"its content does not match its hash"));
            }
            Seal::Whole
        }
    };
    Ok((serde_json::from_value(value).map_err(|error| wrong(&error))?, seal))
}

/// Finds the hash in the text of a file.
fn place(text: &str, hash: &str) -> Option<std::ops::Range<usize>> {
    let before = format!("\"{KEY}\": \"");
    let start = text.rfind(&format!("{before}{hash}\""))? + before.len();
    Some(start..start + hash.len())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        step: u64,
        loss: f64,
    }

    /// Protects: every flipped bit of a sealed file is detected; a file without a hash is readable and marked
    /// as such.
    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write(&path, &Example { step: 6, loss: 0.1 + 0.2 }).unwrap();
        assert_eq!(read::<Example>(&path).unwrap(), (Example { step: 6, loss: 0.1 + 0.2 }, Seal::Whole));
        let bytes = fs::read(&path).unwrap();
        for bit in 0..8 * bytes.len() {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &changed).unwrap();
            assert!(read::<Example>(&path).is_err(), "bit {bit}: {}", String::from_utf8_lossy(&changed));
        }
        fs::write(&path, r#"{"step": 6, "loss": 0.5}"#).unwrap();
        assert_eq!(read::<Example>(&path).unwrap().1, Seal::Absent);
    }
}
