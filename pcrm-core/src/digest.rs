//! SHA-256 digests of files, texts and model folders, in hexadecimal, for identifying runs and cache entries.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::model::lora::peft::AdapterFolder;

struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Computes the digest of a file, which is read in pieces.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn file(path: &Path) -> Result<String> {
    let mut hasher = Hasher(Sha256::new());
    let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hasher));
    copied.map_err(Error::io(path))?;
    Ok(hex(&hasher.0.finalize()))
}

/// Computes the digest of a text.
pub fn text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Computes the digest of a model folder's config, weights and tokenizer: of its JSON, safetensors and Jinja
/// files.
///
/// # Errors
/// Fails if a file cannot be read.
pub fn model(dir: &Path) -> Result<String> {
    const EXTENSIONS: [&str; 3] = ["json", "safetensors", "jinja"];
    let read = |path: &PathBuf| {
        path.is_file() && path.extension().is_some_and(|ext| EXTENSIONS.iter().any(|known| ext == *known))
    };
    let entries = fs::read_dir(dir).map_err(Error::io(dir))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(read).collect();
    files.sort();
    let parts = files.iter().map(|path| file(path)).collect::<Result<Vec<_>>>()?;
    Ok(text(&parts.join(" ")))
}

/// Computes the digest of a model folder as [`model`] does; for an adapter alone, it includes the digest of
/// the base.
///
/// # Errors
/// Fails if a file cannot be read or an adapter's base is not found.
pub fn with_base(dir: &Path) -> Result<String> {
    let own = model(dir)?;
    match AdapterFolder::is_alone(dir) {
        true => Ok(text(&format!("{own} {}", model(&AdapterFolder::open(dir)?.base()?)?))),
        false => Ok(own),
    }
}

/// Formats bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
