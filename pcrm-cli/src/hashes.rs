//! Hashes of files and texts, for manifests and for telling runs apart.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

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

/// SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// A file that cannot be read.
pub fn digest_file(path: &Path) -> Result<String> {
    let mut hasher = Hasher(Sha256::new());
    let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hasher));
    copied.with_context(|| path.display().to_string())?;
    Ok(hex(&hasher.0.finalize()))
}

/// SHA-256 of a text, in hexadecimal digits.
pub fn digest_text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
