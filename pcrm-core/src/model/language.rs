//! A language model: a decoder with a language-model head, in Hugging Face's files.

mod token_stats;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

pub use self::token_stats::{RouterLoss, TokenQuestions};
use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::config::ModelConfig;
use crate::model::decoder::Decoder;
use crate::model::loading::{self, Headless, Loading};
use crate::model::lora::peft::{self, AdapterFolder};
use crate::model::lora::{self, LoraConfig, Values};
use crate::model::{Checkpointing, Head, Rows, folder, weights};
use crate::params::Params;
use crate::tensor::Tensor;
use crate::tree::Packed;

/// The file with a model's generation defaults.
const GENERATION: &str = "generation_config.json";

const HEADS: &[Head] = &[Head::Language];

/// A decoder with a head over the vocabulary: policies, references, models that SFT trains.
#[derive(Debug, Clone)]
pub struct LanguageModel {
    decoder: Decoder,
    /// The `generation_config.json` of the original folder, which saving writes again.
    generation: Option<Arc<[u8]>>,
}

impl LanguageModel {
    /// Loads a language model as f32 masters, to train it or to compute with it in `compute`. The folder of a
    /// PEFT adapter is loaded with its base; training then changes the adapter alone.
    ///
    /// # Errors
    /// Fails if a file is missing or broken, if a parameter is missing or has another shape, if the family or
    /// a key of `config.json` is not supported, and if the folder holds a reward model.
    pub fn load(backend: &dyn Backend, dir: &Path, compute: DType) -> Result<Self> {
        Self::load_as(dir, Loading::masters(backend, compute))
    }

    /// Loads a language model with parameters stored according to `how`.
    ///
    /// # Errors
    /// Fails as [`LanguageModel::load`] does.
    pub fn load_as(dir: &Path, how: Loading<'_>) -> Result<Self> {
        if AdapterFolder::is_alone(dir) {
            return Self::load_adapter(dir, None, how, 0);
        }
        let decoder = loading::read_folder(dir, HEADS, how, Headless::Refused)?;
        let path = dir.join(GENERATION);
        let generation = match path.exists() {
            true => Some(fs::read(&path).map_err(Error::io(&path))?.into()),
            false => None,
        };
        Ok(Self { decoder, generation })
    }

    /// Loads a PEFT adapter with its base: the folder `base`, or the one that the adapter names. The seed
    /// determines dropout.
    ///
    /// # Errors
    /// Fails as [`LanguageModel::load`] does for the base, and if the adapter belongs to a reward model, does
    /// not fit the base or was trained on other weights.
    pub fn load_adapter(dir: &Path, base: Option<&Path>, how: Loading<'_>, seed: u64) -> Result<Self> {
        let folder = AdapterFolder::open(dir)?;
        if folder.is_reward()? {
            let message = "is the adapter of a reward model (task_type SEQ_CLS), not of a language model";
            return Err(Error::file(dir, message));
        }
        let base_dir = base.map_or_else(|| folder.base(), |base| Ok(base.to_path_buf()))?;
        folder::check(&base_dir)?;
        let from = folder.base_in(&base_dir, how)?;
        let base = Self::load_as(&base_dir, how.beneath())?;
        Ok(base.over(folder.apply(&base.decoder, from, seed)?))
    }

    /// Creates a language model with random weights.
    ///
    /// # Errors
    /// Fails if the standard deviation (`initializer_range`) is not finite.
    pub fn random(backend: &dyn Backend, config: ModelConfig, compute: DType, seed: u64) -> Result<Self> {
        Self::random_as(Loading::masters(backend, compute), config, seed)
    }

    /// Creates a language model with random weights, loaded with the options `how`.
    ///
    /// # Errors
    /// Fails as [`LanguageModel::random`] does.
    pub fn random_as(how: Loading<'_>, config: ModelConfig, seed: u64) -> Result<Self> {
        Ok(Self { decoder: loading::random(config, HEADS, how, seed)?, generation: None })
    }

    /// Changes the config that is saved with the model: the padding id, notes of the trainer.
    pub fn with_config(self, change: impl FnOnce(&mut ModelConfig)) -> Self {
        Self { decoder: self.decoder.with_config(change), generation: self.generation }
    }

    /// Returns the body.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Returns the configuration of the model.
    pub fn config(&self) -> &ModelConfig {
        self.decoder.config()
    }

    /// Returns all parameters, the head's included.
    pub fn params(&self) -> &Params {
        self.decoder.params()
    }

    /// Returns handles to the parameters that training changes.
    pub fn trained(&self) -> Params {
        self.params().trained()
    }

    /// Returns the same model with the trained parameters as leaves that get gradients.
    pub fn trainable(&self) -> Self {
        self.over(self.decoder.trainable())
    }

    /// Returns the same weights without history. An optimiser that updates them changes the result too: a
    /// reference policy needs a [`LanguageModel::snapshot`].
    pub fn detached(&self) -> Self {
        self.over(self.decoder.detached())
    }

    /// Returns a frozen copy that computes in `dtype` and is not affected by later updates of the original.
    pub fn snapshot(&self, dtype: DType) -> Result<Self> {
        Ok(self.over(self.decoder.snapshot(dtype)?))
    }

    /// Returns the same weights for sampling, cast once instead of for every token; see [`Decoder::cast_once`].
    ///
    /// # Errors
    /// Fails with the backend's error.
    pub fn for_sampling(&self) -> Result<Self> {
        Ok(self.over(self.decoder.cast_once()?))
    }

    /// Selects the dropout masks of adapters for a training step: the masks of a step are always the same.
    pub fn at_step(&self, step: u64) -> Self {
        self.over(self.decoder.clone().at_step(step))
    }

    /// Adds new adapters to the model. The base is frozen; A is drawn from the seed and B is zero, so that
    /// the model's function does not change. `base` is the folder that the saved adapter will name.
    ///
    /// # Errors
    /// Fails if the configuration is not supported or matches no module, if the model already has adapters,
    /// and if the folder has weights that cannot be read.
    pub fn with_adapters(&self, config: LoraConfig, base: &Path, seed: u64) -> Result<Self> {
        config.check_new()?;
        let base = lora::Base::with_digest(base)?;
        Ok(self.over(lora::adapt(&self.decoder, config, base, seed, Values::Drawn)?))
    }

    /// Returns the base without its adapters, frozen, over the same storage: the reference of new adapters.
    ///
    /// # Errors
    /// Fails if a parameter of the base is missing.
    pub fn without_adapters(&self) -> Result<Self> {
        Ok(self.over(lora::without(&self.decoder)?))
    }

    /// Returns a full model with the adapters merged into its weights.
    ///
    /// # Errors
    /// Fails with the backend's error.
    pub fn merged(&self) -> Result<Self> {
        Ok(self.over(lora::merged(&self.decoder)?))
    }

    /// Returns the same model with gradient checkpointing; see [`Decoder::checkpointing`].
    pub fn checkpointing(self, checkpointing: Checkpointing) -> Self {
        Self { decoder: self.decoder.checkpointing(checkpointing), generation: self.generation }
    }

    /// Returns the bytes of the folder's `generation_config.json`.
    pub(super) fn generation_bytes(&self) -> Option<&[u8]> {
        self.generation.as_deref()
    }

    fn over(&self, decoder: Decoder) -> Self {
        Self { decoder, generation: self.generation.clone() }
    }

    /// Computes the logits at these rows (ascending), `[rows, vocabulary]`.
    ///
    /// # Errors
    /// Fails as [`Decoder::forward`] and [`Decoder::logits`] do.
    pub fn logits(&self, batch: &Packed, rows: Rows<'_>) -> Result<Tensor> {
        self.decoder.logits(&self.decoder.forward(batch, rows)?)
    }

    /// Returns the trained weights by name, in the layout of files.
    pub fn tensors(&self) -> Result<BTreeMap<String, HostTensor>> {
        self.decoder.tensors()
    }

    /// Overwrites the trained weights with those of [`LanguageModel::tensors`].
    ///
    /// # Errors
    /// Fails if a weight is missing or has another shape.
    pub fn restore(&self, tensors: BTreeMap<String, HostTensor>) -> Result<()> {
        self.decoder.restore(tensors)
    }

    /// Overwrites the trained weights with those of a folder that [`Self::save`] wrote.
    ///
    /// # Errors
    /// Fails if a file cannot be read, and if a weight is missing or has another shape.
    pub fn restore_from(&self, dir: &Path) -> Result<()> {
        self.decoder.restore_from(dir)
    }

    /// Writes `config.json`, `model.safetensors` and, if the model came with one, `generation_config.json`,
    /// such that `AutoModelForCausalLM.from_pretrained` gives the same logits. A tied head is not written.
    /// For a model with adapters, only the adapters are written, in PEFT's format.
    ///
    /// # Errors
    /// Fails if the disk is full or not writable.
    pub fn save(&self, dir: &Path) -> Result<()> {
        if let Some(adapters) = self.decoder.adapters() {
            return peft::save(&self.decoder, adapters, dir);
        }
        self.decoder.write(&dir.join(weights::SINGLE), |name| vec![name.to_owned()])?;
        if let Some(generation) = &self.generation {
            weights::write(&dir.join(GENERATION), generation)?;
        }
        // Last, so that a folder with a config has the weights too.
        weights::write_json(&dir.join("config.json"), &self.config().language_json())
    }
}
