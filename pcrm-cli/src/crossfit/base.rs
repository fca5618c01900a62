//! The base model of runs and judges: a folder, whose weights are read or drawn.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pcrm_core::model::{ModelConfig, RewardModel};
use pcrm_core::{Backend, DType};

use crate::hashes::{digest_file, digest_text};

/// A model before training, which can be opened as often as it is trained: training overwrites the weights that it is
/// given.
#[derive(Debug, Clone)]
pub struct Base {
    /// The model's folder.
    pub dir: PathBuf,
    /// Whether all weights are drawn instead of a missing score head alone.
    pub random_init: bool,
    /// The element type to compute in.
    pub dtype: DType,
    /// Seed of the weights that are drawn.
    pub seed: u64,
}

impl Base {
    /// The model, with weights of its own.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn open(&self, backend: &dyn Backend) -> Result<RewardModel> {
        Ok(match self.random_init {
            true => {
                let shape = ModelConfig::from_dir(&self.dir)?;
                RewardModel::random(backend, shape, self.dtype, self.seed)?
            }
            false => RewardModel::load_to_train(backend, &self.dir, self.dtype, self.seed)?,
        })
    }

    /// What tells it from others, the way it is computed included.
    ///
    /// # Errors
    /// As [`model_digest`].
    pub(super) fn digest(&self, backend: &dyn Backend) -> Result<String> {
        let Self { random_init, dtype, seed, .. } = self;
        let (version, model) = (env!("CARGO_PKG_VERSION"), model_digest(&self.dir)?);
        let (backend, device) = (backend.name(), backend.device());
        Ok(format!("{version} {backend} {device} {model} {random_init} {dtype} {seed}"))
    }
}

/// The hash of a model folder's config, weights and tokenizer.
///
/// # Errors
/// Files that cannot be read.
pub fn model_digest(dir: &Path) -> Result<String> {
    let mut names: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| format!("--model {}", dir.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.is_file()
                && path
                    .extension()
                    .is_some_and(|ext| ["json", "safetensors", "jinja"].iter().any(|known| ext == *known))
        })
        .collect();
    names.sort();
    let parts = names.iter().map(|path| digest_file(path)).collect::<Result<Vec<_>>>()?;
    Ok(digest_text(&parts.join(" ")))
}
