//! The disk cache of embeddings: one file per encoder, found by digest, used only if complete.
//!
//! A file holds `pcrm embeddings 1\n`, the length of a vector (u32), the number of vectors (u64), each vector
//! as 16 bytes of the text's SHA-256 and its f32s, and the SHA-256 of everything before; numbers are
//! little-endian.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pcrm_core::disk::whole::{folder_of, sweep};
use pcrm_core::model::weights;
use sha2::{Digest, Sha256};

const MAGIC: &[u8] = b"pcrm embeddings 1\n";
const HEAD: usize = MAGIC.len() + 4 + 8;
const DIGEST: usize = 32;
const KEY: usize = 16;

type Key = [u8; KEY];

/// The cached embeddings of one encoder.
#[derive(Debug, Default)]
pub struct Store {
    path: Option<PathBuf>,
    vectors: BTreeMap<Key, Vec<f32>>,
    changed: bool,
}

impl Store {
    /// Opens the store of the encoder with this digest; an incomplete file is reported and replaced.
    pub fn open(folder: &Path, kind: &str, digest: &str) -> Self {
        let name: String =
            Sha256::digest(digest).iter().take(KEY).map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(format!("{kind}-{name}.embeddings"));
        let vectors = match fs::read(&path) {
            Ok(bytes) => parse(&bytes).unwrap_or_else(|| {
                tracing::warn!("{}: is damaged or truncated; recomputing all embeddings", path.display());
                BTreeMap::new()
            }),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!("{}: {error}; recomputing all embeddings", path.display());
                }
                BTreeMap::new()
            }
        };
        Self { path: Some(path), vectors, changed: false }
    }

    /// Returns the vector of this text if it is cached.
    pub fn get(&self, text: &str) -> Option<&[f32]> {
        if self.vectors.is_empty() {
            return None;
        }
        self.vectors.get(&key(text)).map(Vec::as_slice)
    }

    /// Adds a vector, if there is a file to store it in.
    pub fn insert(&mut self, text: &str, vector: &[f32]) {
        if self.path.is_some() {
            self.changed = true;
            self.vectors.insert(key(text), vector.to_vec());
        }
    }

    /// Writes the file atomically if there is anything new. A failed write is only a warning, because the
    /// embeddings are in memory.
    pub fn save(&mut self) {
        let Some(path) = self.path.as_ref().filter(|_| self.changed) else { return };
        let width = self.vectors.values().next().map_or(0, Vec::len);
        let mut bytes = Vec::with_capacity(HEAD + self.vectors.len() * (KEY + 4 * width) + DIGEST);
        bytes.extend(MAGIC);
        bytes.extend((width as u32).to_le_bytes());
        bytes.extend((self.vectors.len() as u64).to_le_bytes());
        for (key, vector) in &self.vectors {
            bytes.extend(key);
            vector.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
        }
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        let written = sweep(folder_of(path)).and_then(|()| weights::write(path, &bytes));
        match written {
            Ok(()) => self.changed = false,
            Err(error) => tracing::warn!("cannot cache the embeddings: {error}"),
        }
    }
}

fn key(text: &str) -> Key {
    let mut key = [0; KEY];
    key.copy_from_slice(&Sha256::digest(text)[..KEY]);
    key
}

/// Parses a file's vectors; `None` if the file is incomplete.
fn parse(bytes: &[u8]) -> Option<BTreeMap<Key, Vec<f32>>> {
    let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    if Sha256::digest(content)[..] != *digest {
        return None;
    }
    let (width, rest) = content.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let (count, records) = rest.split_first_chunk::<8>()?;
    let record = KEY + 4 * u32::from_le_bytes(*width) as usize;
    if records.len() as u64 != u64::from_le_bytes(*count).checked_mul(record as u64)? {
        return None;
    }
    let read = |record: &[u8]| {
        let (key, numbers) = record.split_first_chunk::<KEY>()?;
        let (numbers, _) = numbers.as_chunks::<4>();
        Some((*key, numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()))
    };
    records.chunks_exact(record).map(read).collect()
}
