//! A reward model: a decoder and a scalar head, in Hugging Face's files.

use std::collections::BTreeMap;
use std::path::Path;

use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::adoption::Adoption;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::ModelConfig;
use crate::model::decoder::Decoder;
use crate::model::parameters::{self, Head, Parameter, SCORE, parameters};
use crate::model::{Rows, folder, weights};
use crate::params::Params;
use crate::tensor::Tensor;
use crate::tree::Packed;

/// A decoder with `score.weight` on top: r = w · h at the scored row.
#[derive(Debug, Clone)]
pub struct RewardModel {
    decoder: Decoder,
}

impl RewardModel {
    /// Loads a trained reward model.
    ///
    /// # Errors
    /// A folder without the head `score.weight` (the message names the tensors that may be one), a missing or broken
    /// file, a parameter that is missing or has another shape, a family or a key of `config.json` that is not served.
    pub fn load(backend: &dyn Backend, dir: &Path, compute: DType) -> Result<Self> {
        Self::read(backend, dir, compute, |adoption, _| Err(Error::file(dir, adoption.headless())))
    }

    /// Refuses a folder whose weights lack the head, without reading them; one without any weights passes.
    ///
    /// # Errors
    /// As [`RewardModel::load`], as far as names tell.
    pub fn check_head(dir: &Path) -> Result<()> {
        if ![weights::SINGLE, weights::INDEX].iter().any(|name| dir.join(name).exists()) {
            return Ok(());
        }
        let (config, checkpoint) = (ModelConfig::from_dir(dir)?, Checkpoint::open(dir)?);
        let adoption = Adoption::new(&config, &checkpoint)?;
        match adoption.has_head() {
            true => Ok(()),
            false => Err(Error::file(dir, adoption.headless())),
        }
    }

    /// Loads a model to train: a reward model with its head, or a language model that gets a head drawn from `seed`.
    ///
    /// A head that is drawn although `config.json` names a `...ForSequenceClassification`, or although a tensor looks
    /// like one, is logged as a warning.
    ///
    /// # Errors
    /// As [`RewardModel::load`], but for the head.
    pub fn load_to_train(backend: &dyn Backend, dir: &Path, compute: DType, seed: u64) -> Result<Self> {
        Self::read(backend, dir, compute, |adoption, head| {
            adoption.say_drawn(seed);
            Ok(BTreeMap::from([(head.name.clone(), head.random(seed)?)]))
        })
    }

    /// Reads a folder; `draw` gives the head where there is none.
    fn read(
        backend: &dyn Backend,
        dir: &Path,
        compute: DType,
        draw: impl FnOnce(&Adoption<'_>, &Parameter) -> Result<BTreeMap<String, HostTensor>>,
    ) -> Result<Self> {
        folder::check(dir)?;
        let config = ModelConfig::from_dir(dir)?;
        let checkpoint = Checkpoint::open(dir)?;
        let mut adoption = Adoption::new(&config, &checkpoint)?;
        if let Some(labels) = config.labels.filter(|labels| *labels != 1 && adoption.has_head()) {
            let message = format!("names {labels} labels; a reward model has one");
            return Err(Error::file(dir.join("config.json"), message));
        }
        let mut tensors = adoption.take(&parameters(&config, Head::None))?;
        let head = parameters::score(&config);
        let score = match adoption.has_head() {
            true => adoption.take(&[head])?,
            false => draw(&adoption, &head)?,
        };
        tensors.extend(score);
        adoption.finish();
        Self::from_tensors(backend, config, &tensors, compute)
    }

    /// A reward model with random weights.
    ///
    /// # Errors
    /// The backend's.
    pub fn random(backend: &dyn Backend, config: ModelConfig, compute: DType, seed: u64) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for parameter in parameters(&config, Head::Score) {
            tensors.insert(parameter.name.clone(), parameter.random(seed)?);
        }
        Self::from_tensors(backend, config, &tensors, compute)
    }

    fn from_tensors(
        backend: &dyn Backend,
        config: ModelConfig,
        tensors: &BTreeMap<String, HostTensor>,
        compute: DType,
    ) -> Result<Self> {
        Ok(Self { decoder: Decoder::new(config, parameters::upload(backend, tensors)?, compute) })
    }

    /// The same model with a changed config, which is saved with it: the padding id, notes of the trainer.
    pub fn with_config(self, change: impl FnOnce(&mut ModelConfig)) -> Self {
        Self { decoder: self.decoder.with_config(change) }
    }

    /// The body.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The shape of the body.
    pub fn config(&self) -> &ModelConfig {
        self.decoder.config()
    }

    /// All parameters, the head's included.
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

    /// Returns the same weights without history. An optimiser that updates them changes the result too: a reference
    /// that must stay as it is needs a [`RewardModel::snapshot`].
    pub fn detached(&self) -> Self {
        Self { decoder: self.decoder.detached() }
    }

    /// Returns a frozen copy that computes in `dtype` and that later updates of the original do not reach.
    pub fn snapshot(&self, dtype: DType) -> Result<Self> {
        Ok(Self { decoder: self.decoder.snapshot(dtype)? })
    }

    /// The scores at these rows (ascending), f32 `[rows]`.
    ///
    /// # Errors
    /// Those of [`Decoder::forward`].
    pub fn scores(&self, batch: &Packed, rows: &[usize]) -> Result<Tensor> {
        let hidden = self.decoder.forward(batch, Rows::Only(rows))?.cast(DType::F32)?;
        hidden.kernels().linear(&hidden, self.params().get(SCORE)?, None)?.reshape([rows.len()])
    }

    /// The weights by name, as files store them.
    ///
    /// # Errors
    /// The backend's.
    pub fn tensors(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut tensors = BTreeMap::new();
        for parameter in parameters(self.config(), Head::Score) {
            let host = self.params().get(&parameter.name)?.read()?;
            tensors.insert(parameter.name, if parameter.transposed { host.transposed()? } else { host });
        }
        Ok(tensors)
    }

    /// Overwrites the weights with those of [`RewardModel::tensors`].
    ///
    /// # Errors
    /// A weight that is missing or has another shape.
    pub fn restore(&self, mut tensors: BTreeMap<String, HostTensor>) -> Result<()> {
        for parameter in parameters(self.config(), Head::Score) {
            let name = &parameter.name;
            let host =
                tensors.remove(name).ok_or_else(|| Error::invalid(name, "is missing from the checkpoint"))?;
            let host = if parameter.transposed { host.transposed()? } else { host };
            if host.shape() != parameter.shape {
                let message = format!("has shape {:?}, expected {:?}", host.shape(), parameter.shape);
                return Err(Error::invalid(name, message));
            }
            let param = self.params().get(name)?;
            param.assign(&param.constant(&host)?)?;
        }
        Ok(())
    }

    /// Writes `config.json` and `model.safetensors` such that
    /// `AutoModelForSequenceClassification.from_pretrained` gives the same scores.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, dir: &Path) -> Result<()> {
        weights::write_json(&dir.join("config.json"), &self.config().reward_json())?;
        weights::save(&dir.join("model.safetensors"), &self.tensors()?)
    }
}
