//! A reward model: a decoder with a scalar head, in Hugging Face's files.

mod closing;

use std::collections::BTreeMap;
use std::path::Path;

use self::closing::closed;
use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::adoption::Adoption;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::{CLASS_FILE, ModelConfig};
use crate::model::decoder::Decoder;
use crate::model::loading::{self, Headless, Loading};
use crate::model::lora::peft::{self, AdapterFolder};
use crate::model::lora::{self, LoraConfig, Values};
use crate::model::parameters::{Head, SCORE};
use crate::model::{Checkpointing, Rows, folder, published, weights};
use crate::params::Params;
use crate::tensor::Tensor;
use crate::tree::Packed;

const HEADS: &[Head] = &[Head::Score];

/// A decoder with `score.weight` on top: r = w · h at the scored row.
#[derive(Debug, Clone)]
pub struct RewardModel {
    decoder: Decoder,
}

impl RewardModel {
    /// Loads a trained reward model as f32 masters. The folder of a PEFT adapter is loaded with its base;
    /// training then changes the adapter and the head alone.
    ///
    /// # Errors
    /// Fails if the folder has no head `score.weight` (the error names candidates), if a file is missing or
    /// broken, if a parameter is missing or has another shape, and if the family or a key of `config.json` is
    /// not supported.
    pub fn load(backend: &dyn Backend, dir: &Path, compute: DType) -> Result<Self> {
        Self::load_as(dir, Loading::masters(backend, compute))
    }

    /// Loads a trained reward model with parameters stored according to `how`.
    ///
    /// # Errors
    /// Fails as [`RewardModel::load`] does.
    pub fn load_as(dir: &Path, how: Loading<'_>) -> Result<Self> {
        if AdapterFolder::is_alone(dir) {
            return Self::load_adapter(dir, None, how, 0);
        }
        Ok(Self { decoder: loading::read_folder(dir, HEADS, how, Headless::Refused)? })
    }

    /// Loads a PEFT adapter with its base: the folder `base`, or the one that the adapter names. The seed
    /// determines dropout. The head may belong to the adapter, on the base of a language model.
    ///
    /// # Errors
    /// Fails as [`RewardModel::load`] does for the base, and if the adapter belongs to a language model, does
    /// not fit the base or was trained on other weights.
    pub fn load_adapter(dir: &Path, base: Option<&Path>, how: Loading<'_>, seed: u64) -> Result<Self> {
        let adapter = AdapterFolder::open(dir)?;
        if !adapter.is_reward()? {
            let message = "is the adapter of a language model (task_type CAUSAL_LM), not of a reward model";
            return Err(Error::file(dir, message));
        }
        let headless = if adapter.holds(Head::Score)? { Headless::Given } else { Headless::Refused };
        let base_dir = base.map_or_else(|| adapter.base(), |base| Ok(base.to_path_buf()))?;
        folder::check(&base_dir)?;
        let from = adapter.base_in(&base_dir, how)?;
        let base = loading::read_folder(&base_dir, HEADS, how.beneath(), headless)?;
        Ok(Self { decoder: adapter.apply(&base, from, seed)? })
    }

    /// Checks that a folder's weights include the head, without reading them; a folder without weights
    /// passes.
    ///
    /// # Errors
    /// Fails as [`RewardModel::load`] does, as far as names show.
    pub fn check_head(dir: &Path) -> Result<()> {
        if ![weights::SINGLE, weights::INDEX].iter().any(|name| dir.join(name).exists()) {
            return Ok(());
        }
        let (config, checkpoint) = (ModelConfig::from_dir(dir)?, Checkpoint::open(dir)?);
        published::check(&config, dir)?;
        let adoption = Adoption::new(&config, &checkpoint)?;
        match adoption.has(SCORE) {
            true => Ok(()),
            false => Err(Error::file(dir, adoption.headless())),
        }
    }

    /// Loads a model to train: a reward model with its head, or a language model that gets a head drawn from
    /// `seed`.
    ///
    /// A warning is logged if a head is drawn although `config.json` names a `...ForSequenceClassification`,
    /// or although a tensor looks like a head.
    ///
    /// # Errors
    /// Fails as [`RewardModel::load`] does, except for the head.
    pub fn load_to_train(backend: &dyn Backend, dir: &Path, compute: DType, seed: u64) -> Result<Self> {
        Self::load_to_train_as(dir, Loading::masters(backend, compute), seed)
    }

    /// Loads a model to train like [`RewardModel::load_to_train`], with parameters stored according to `how`:
    /// a frozen one can get adapters.
    ///
    /// # Errors
    /// Fails as [`RewardModel::load_to_train`] does.
    pub fn load_to_train_as(dir: &Path, how: Loading<'_>, seed: u64) -> Result<Self> {
        Ok(Self { decoder: loading::read_folder(dir, HEADS, how, Headless::Drawn(seed))? })
    }

    /// Creates a reward model with random weights.
    ///
    /// # Errors
    /// Fails if the standard deviation (`initializer_range`) is not finite.
    pub fn random(backend: &dyn Backend, config: ModelConfig, compute: DType, seed: u64) -> Result<Self> {
        Self::random_as(Loading::masters(backend, compute), config, seed)
    }

    /// Creates a reward model with random weights, loaded with the options `how`.
    ///
    /// # Errors
    /// Fails as [`RewardModel::random`] does.
    pub fn random_as(how: Loading<'_>, config: ModelConfig, seed: u64) -> Result<Self> {
        Ok(Self { decoder: loading::random(config, HEADS, how, seed)? })
    }

    /// Changes the config that is saved with the model: the padding id, notes of the trainer.
    pub fn with_config(self, change: impl FnOnce(&mut ModelConfig)) -> Self {
        Self { decoder: self.decoder.with_config(change) }
    }

    /// Returns the body.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Returns the configuration of the body.
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
        Self { decoder: self.decoder.trainable() }
    }

    /// Returns the same model with gradient checkpointing; see [`Decoder::checkpointing`].
    pub fn checkpointing(self, checkpointing: Checkpointing) -> Self {
        Self { decoder: self.decoder.checkpointing(checkpointing) }
    }

    /// Returns the same weights without history. An optimiser that updates them changes the result too: a
    /// fixed reference needs a [`RewardModel::snapshot`].
    pub fn detached(&self) -> Self {
        Self { decoder: self.decoder.detached() }
    }

    /// Returns a frozen copy that computes in `dtype` and is not affected by later updates of the original.
    pub fn snapshot(&self, dtype: DType) -> Result<Self> {
        Ok(Self { decoder: self.decoder.snapshot(dtype)? })
    }

    /// Selects the dropout masks of adapters for a training step: the masks of a step are always the same.
    pub fn at_step(&self, step: u64) -> Self {
        Self::over(self.decoder.clone().at_step(step))
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
        Ok(Self::over(lora::adapt(&self.decoder, config, base, seed, Values::Drawn)?))
    }

    /// Returns the base without its adapters, frozen, over the same storage: the reference of new adapters.
    ///
    /// # Errors
    /// Fails if a parameter of the base is missing.
    pub fn without_adapters(&self) -> Result<Self> {
        Ok(Self::over(lora::without(&self.decoder)?))
    }

    /// Returns a full model with the adapters merged into its weights.
    ///
    /// # Errors
    /// Fails with the backend's error.
    pub fn merged(&self) -> Result<Self> {
        Ok(Self::over(lora::merged(&self.decoder)?))
    }

    fn over(decoder: Decoder) -> Self {
        Self { decoder }
    }

    /// Returns the same model with a head of zeros, which scores every sequence 0: an untrained critic.
    ///
    /// # Errors
    /// Fails if the head is frozen, and with the backend's error.
    pub fn with_head_of_zeros(self) -> Result<Self> {
        let mut tensors = self.tensors()?;
        let Some(head) = tensors.get_mut(SCORE) else {
            return Err(Error::invalid(SCORE, "is not among the trained parameters"));
        };
        *head = HostTensor::f32(head.shape(), vec![0.0; head.shape().iter().product()])?;
        self.restore(tensors)?;
        Ok(self)
    }

    /// Computes the scores at these rows (ascending), f32 `[rows]`. For a model with a closing token
    /// ([`ModelConfig::closing`]), scores are read at that token, which is appended after each row that is
    /// not it.
    ///
    /// # Errors
    /// Fails as [`Decoder::forward`] does and, for a model with a closing token, if a row does not end a
    /// segment.
    pub fn scores(&self, batch: &Packed, rows: &[usize]) -> Result<Tensor> {
        if let Some(token) = self.config().closing {
            let (batch, rows) = closed(batch, rows, token)?;
            let order = HostTensor::indices(rows.order);
            let scores = self.scored(&batch, &rows.ascending)?;
            return scores.index_select(0, &scores.constant(&order)?);
        }
        self.scored(batch, rows)
    }

    fn scored(&self, batch: &Packed, rows: &[usize]) -> Result<Tensor> {
        let hidden = self.decoder.forward(batch, Rows::Only(rows))?.cast(DType::F32)?;
        hidden.kernels().linear(&hidden, self.params().get(SCORE)?, None)?.reshape([rows.len()])
    }

    /// Returns the trained weights by name, in the layout of files.
    pub fn tensors(&self) -> Result<BTreeMap<String, HostTensor>> {
        self.decoder.tensors()
    }

    /// Overwrites the trained weights with those of [`RewardModel::tensors`].
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

    /// Writes `config.json` and `model.safetensors` such that
    /// `AutoModelForSequenceClassification.from_pretrained` gives the same scores, with `trust_remote_code=True`
    /// for families that `transformers` has no class for: [`CLASS_FILE`] is their class. For a model with
    /// adapters, only the adapters and the head are written, in PEFT's format.
    ///
    /// # Errors
    /// Fails if the disk is full or not writable.
    pub fn save(&self, dir: &Path) -> Result<()> {
        if let Some(adapters) = self.decoder.adapters() {
            return peft::save(&self.decoder, adapters, dir);
        }
        let head = self.config().family.score_head;
        let named = |name: &str| vec![if name == SCORE { head.to_owned() } else { name.to_owned() }];
        self.decoder.write(&dir.join(weights::SINGLE), named)?;
        if let Some(code) = self.config().family.class_code() {
            weights::write(&dir.join(CLASS_FILE), code.as_bytes())?;
        }
        // Last, so that a folder with a config has the weights too.
        weights::write_json(&dir.join("config.json"), &self.config().reward_json())
    }
}
