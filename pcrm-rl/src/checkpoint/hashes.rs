//! Hashes of a checkpoint's files (XXH3, 128 bits).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use crate::error::Result;

/// Returns the hash of every file in a folder and its subfolders, by path.
pub(super) fn hashes(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(pcrm_core::Error::io(dir))? {
        let path = entry.map_err(pcrm_core::Error::io(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match path.is_dir() {
            true => {
                let inner = hashes(&path)?.into_iter();
                found.extend(inner.map(|(file, hash)| (format!("{name}/{file}"), hash)));
            }
            false => {
                found.insert(name, hash(&path)?);
            }
        }
    }
    Ok(found)
}

/// Returns the XXH3 hash of a file, reading it in chunks.
pub(super) fn hash(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(pcrm_core::Error::io(path))?;
    let (mut hasher, mut piece) = (Xxh3::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece).map_err(pcrm_core::Error::io(path))? {
            0 => return Ok(format!("{:032x}", hasher.digest128())),
            read => hasher.update(&piece[..read]),
        }
    }
}
