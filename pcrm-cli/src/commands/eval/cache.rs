//! The score cache: one file per model, found by content and trusted only if complete.
//!
//! A model's key is a hash of its weights, config and tokenizer, of backend, device, element type and quantisation,
//! and of this binary's version; a text's key is a hash of its token ids. A file is `pcrm scores 1\n`, the number of
//! scores, each score as 16 bytes of the text's hash and an f32, and the SHA-256 of all that; numbers are
//! little-endian.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pcrm_core::disk::whole::{folder_of, sweep};
use pcrm_core::model::weights;
use sha2::{Digest, Sha256};

use crate::machine::Machine;
use pcrm_core::digest;
use pcrm_core::model::lora::peft::AdapterFolder;
use pcrm_core::quant::Quantisation;

const MAGIC: &[u8] = b"pcrm scores 1\n";
const DIGEST: usize = 32;

type Key = [u8; 16];

/// The cached scores of one model.
#[derive(Debug, Default)]
pub struct ScoreCache {
    path: Option<PathBuf>,
    scores: BTreeMap<Key, f32>,
    changed: bool,
}

impl ScoreCache {
    /// Opens a model's cache in this folder. An incomplete file is reported and recomputed.
    ///
    /// # Errors
    /// Fails if the model's files cannot be read.
    pub fn open(
        folder: &Path,
        model: &Path,
        machine: &Machine,
        quantise: Option<Quantisation>,
    ) -> Result<Self> {
        let path = folder.join(format!("{}.scores", fingerprint(model, machine, quantise)?));
        let scores = match fs::read(&path) {
            Ok(bytes) => parse(&bytes).unwrap_or_else(|| {
                tracing::warn!("{}: is damaged or cut short; recomputing all scores", path.display());
                BTreeMap::new()
            }),
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!("{}: {error}; recomputing all scores", path.display());
                }
                BTreeMap::new()
            }
        };
        Ok(Self { path: Some(path), scores, changed: false })
    }

    /// Returns the score of these tokens, if cached.
    pub fn get(&self, ids: &[u32]) -> Option<f32> {
        self.scores.get(&key(ids)).copied()
    }

    /// Adds a score.
    pub fn insert(&mut self, ids: &[u32], score: f32) {
        self.changed = true;
        self.scores.insert(key(ids), score);
    }

    /// Writes the file atomically if it is to be kept and has new scores. A cache that cannot be written only
    /// gives a warning, since the scores are already in memory.
    pub fn save(&mut self) {
        let Some(path) = self.path.as_ref().filter(|_| self.changed) else { return };
        let mut bytes = MAGIC.to_vec();
        bytes.extend((self.scores.len() as u64).to_le_bytes());
        for (key, score) in &self.scores {
            bytes.extend(key);
            bytes.extend(score.to_le_bytes());
        }
        bytes.extend(Sha256::digest(&bytes));
        let written = sweep(folder_of(path)).and_then(|()| weights::write(path, &bytes));
        match written {
            Ok(()) => self.changed = false,
            Err(error) => tracing::warn!("scores are not cached: {error}"),
        }
    }
}

/// Returns the user's cache folder for scores.
///
/// # Errors
/// Fails if the user has no cache folder.
pub fn users_folder() -> Result<PathBuf> {
    let folder = dirs::cache_dir().context("this user has no cache folder; use --cache DIR or --no-cache")?;
    Ok(folder.join("pcrm").join("scores"))
}

fn key(ids: &[u32]) -> Key {
    let mut hasher = Sha256::new();
    ids.iter().for_each(|id| hasher.update(id.to_le_bytes()));
    let digest = hasher.finalize();
    std::array::from_fn(|at| digest[at])
}

/// Returns true for the files of a model folder that affect its scores.
fn matters(name: &str) -> bool {
    const FILES: [&str; 10] = [
        "adapter_config.json",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "vocab.json",
        "merges.txt",
    ];
    FILES.contains(&name) || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")
}

fn fingerprint(model: &Path, machine: &Machine, quantise: Option<Quantisation>) -> Result<String> {
    let at = || format!("--model {}", model.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(model).with_context(at)? {
        let name = entry.with_context(at)?.file_name().to_string_lossy().into_owned();
        if matters(&name) {
            files.insert(name.clone(), digest::file(&model.join(name))?);
        }
    }
    if AdapterFolder::is_alone(model) {
        let base = AdapterFolder::open(model).and_then(|folder| folder.base()).with_context(at)?;
        files.insert("base".to_owned(), digest::model(&base).with_context(at)?);
    }
    let Machine { backend, device, dtype, .. } = machine;
    let quantised = quantise.map_or_else(String::new, |method| format!(" {method}"));
    let version = env!("CARGO_PKG_VERSION");
    Ok(digest::text(&format!("{version} {backend} {device} {dtype} {files:?}{quantised}")))
}

fn parse(bytes: &[u8]) -> Option<BTreeMap<Key, f32>> {
    let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    if Sha256::digest(body).as_slice() != digest {
        return None;
    }
    let (count, records) = body.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    let (records, rest) = records.as_chunks::<20>();
    if !rest.is_empty() || records.len() as u64 != u64::from_le_bytes(*count) {
        return None;
    }
    let score = |record: &[u8; 20]| {
        let key = std::array::from_fn(|at| record[at]);
        (key, f32::from_le_bytes(std::array::from_fn(|at| record[16 + at])))
    };
    Some(records.iter().map(score).collect())
}

#[cfg(test)]
mod tests {
    use pcrm_core::{DType, Device};

    use super::*;

    /// Protects: the scores of an adapter are those of its weights over its base: other weights of either give another
    /// key.
    #[test]
    fn an_adapter_is_known_with_its_base() {
        let folder = tempfile::tempdir().unwrap();
        let (base, adapter) = (folder.path().join("base"), folder.path().join("adapter"));
        let write = |dir: &Path, name: &str, text: &str| {
            fs::create_dir_all(dir).unwrap();
            fs::write(dir.join(name), text).unwrap();
        };
        write(&base, "config.json", "{}");
        write(&base, "model.safetensors", "one");
        let config = format!(r#"{{"peft_type": "LORA", "base_model_name_or_path": {:?}}}"#, base);
        write(&adapter, "adapter_config.json", &config);
        write(&adapter, "adapter_model.safetensors", "one");
        let machine = Machine {
            seed: 0,
            config: None,
            backend: "candle".to_owned(),
            device: Device::Cpu,
            dtype: DType::F32,
            threads: None,
        };
        let key = || fingerprint(&adapter, &machine, None).unwrap();
        let first = key();
        assert_eq!(key(), first);
        write(&base, "README.md", "a card");
        assert_eq!(key(), first);
        write(&base, "model.safetensors", "two");
        let second = key();
        assert_ne!(second, first);
        write(&adapter, "adapter_model.safetensors", "two");
        assert_ne!(key(), second);
        assert_ne!(key(), first);
    }

    /// Protects: cached scores are returned bit for bit, and a truncated or changed file is not trusted.
    #[test]
    fn whole_files_are_trusted_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.scores");
        let mut cache = ScoreCache { path: Some(path.clone()), ..ScoreCache::default() };
        for id in 0..50_u32 {
            cache.insert(&[id, 7], (id as f32).sin());
        }
        cache.save();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(parse(&bytes).unwrap(), cache.scores);
        assert_eq!(cache.get(&[3, 7]).map(f32::to_bits), Some(3_f32.sin().to_bits()));
        assert_eq!(cache.get(&[7, 3]), None);
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).is_none(), "cut to {end} bytes");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(parse(&changed).is_none(), "byte {at} changed");
        }
    }
}
