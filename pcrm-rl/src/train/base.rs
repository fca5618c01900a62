//! The base model of runs and judges: a folder, whose weights are read or drawn.

use std::path::PathBuf;

use pcrm_core::model::{LanguageModel, ModelConfig, RewardModel};
use pcrm_core::{Backend, DType, digest};

use crate::error::Result;

/// A model before training, which can be opened as often as it is trained: training overwrites the weights that it is
/// given.
#[derive(Debug, Clone)]
pub struct Base {
    /// The model's folder.
    pub dir: PathBuf,
    /// Draws all weights, instead of a missing score head alone.
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

    /// The language model, with weights of its own.
    ///
    /// # Errors
    /// Files that cannot be read; a folder without a language model's head.
    pub fn open_language(&self, backend: &dyn Backend) -> Result<LanguageModel> {
        Ok(match self.random_init {
            true => LanguageModel::random(backend, ModelConfig::from_dir(&self.dir)?, self.dtype, self.seed)?,
            false => LanguageModel::load(backend, &self.dir, self.dtype)?,
        })
    }

    /// A text that tells it from other models, and from the same one computed otherwise.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub(crate) fn digest(&self, backend: &dyn Backend) -> Result<String> {
        let Self { random_init, dtype, seed, .. } = self;
        let (version, model) = (env!("CARGO_PKG_VERSION"), digest::model(&self.dir)?);
        let (backend, device) = (backend.name(), backend.device());
        Ok(format!("{version} {backend} {device} {model} {random_init} {dtype} {seed}"))
    }
}
