//! The base model of runs and judges: a folder, whose weights are read or drawn.

use std::path::PathBuf;

use pcrm_core::model::lora::LoraConfig;
use pcrm_core::model::{Checkpointing, LanguageModel, Loading, ModelConfig, RewardModel};
use pcrm_core::text::Tokenizer;
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
    /// Adapters to train on the frozen model, in place of the model.
    pub lora: Option<LoraConfig>,
    /// Runs layers again in the backward pass, which saves their activations and changes no number.
    pub checkpointing: Checkpointing,
}

impl Base {
    /// A folder's weights, all of them trained; what they lack is drawn from the seed.
    pub fn new(dir: PathBuf, dtype: DType, seed: u64) -> Self {
        Self { dir, random_init: false, dtype, seed, lora: None, checkpointing: Checkpointing::Off }
    }

    /// The tokenizer of the folder.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Ok(Tokenizer::from_dir(&self.dir)?)
    }

    /// The reward model, with weights of its own; a head that the folder lacks is drawn.
    ///
    /// # Errors
    /// Files that cannot be read, adapters that do not fit.
    pub fn open(&self, backend: &dyn Backend) -> Result<RewardModel> {
        let model = match self.random_init {
            true => RewardModel::random(backend, ModelConfig::from_dir(&self.dir)?, self.dtype, self.seed)?,
            false => RewardModel::load_to_train_as(&self.dir, self.loading(backend), self.seed)?,
        };
        let model = match &self.lora {
            Some(lora) => model.with_adapters(lora.clone(), &self.dir, self.seed)?,
            None => model,
        };
        Ok(model.checkpointing(self.checkpointing))
    }

    /// The language model, with weights of its own.
    ///
    /// # Errors
    /// Files that cannot be read; a folder without a language model's head; adapters that do not fit.
    pub fn open_language(&self, backend: &dyn Backend) -> Result<LanguageModel> {
        let model = match self.random_init {
            true => LanguageModel::random(backend, ModelConfig::from_dir(&self.dir)?, self.dtype, self.seed)?,
            false => LanguageModel::load_as(&self.dir, self.loading(backend))?,
        };
        let model = match &self.lora {
            Some(lora) => model.with_adapters(lora.clone(), &self.dir, self.seed)?,
            None => model,
        };
        Ok(model.checkpointing(self.checkpointing))
    }

    /// The language model as it is, frozen: a reference.
    ///
    /// # Errors
    /// As [`Base::open_language`].
    pub fn open_reference(&self, backend: &dyn Backend) -> Result<LanguageModel> {
        let model = match self.random_init {
            true => LanguageModel::random(backend, ModelConfig::from_dir(&self.dir)?, self.dtype, self.seed)?,
            false => LanguageModel::load_as(&self.dir, Loading::frozen(backend, self.dtype))?,
        };
        Ok(model.detached())
    }

    /// A model under adapters is frozen, and held in the type that it computes in.
    fn loading<'b>(&self, backend: &'b dyn Backend) -> Loading<'b> {
        match self.lora {
            Some(_) => Loading::frozen(backend, self.dtype),
            None => Loading::masters(backend, self.dtype),
        }
    }

    /// A text that tells it from other models, and from the same one computed otherwise.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub(crate) fn digest(&self, backend: &dyn Backend) -> Result<String> {
        let Self { random_init, dtype, seed, lora, .. } = self;
        let (version, model) = (env!("CARGO_PKG_VERSION"), digest::model(&self.dir)?);
        let (backend, device) = (backend.name(), backend.device());
        let adapters = lora.as_ref().map_or_else(String::new, |lora| format!(" {lora:?}"));
        Ok(format!("{version} {backend} {device} {model} {random_init} {dtype} {seed}{adapters}"))
    }
}
