//! A reward model: a decoder and a scalar head, in Hugging Face's files.

use std::collections::BTreeMap;
use std::path::Path;

use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::config::ModelConfig;
use crate::model::decoder::Decoder;
use crate::model::parameters::{self, Head, SCORE, parameters};
use crate::model::{Model, Rows, weights};
use crate::params::Params;
use crate::tensor::Tensor;
use crate::tree::Packed;

/// A decoder with `score.weight` on top: r = w · h at the scored row.
#[derive(Debug, Clone)]
pub struct RewardModel {
    decoder: Decoder,
}

impl RewardModel {
    /// Loads a folder: a reward model, or a language model that gets a head drawn from `seed`.
    ///
    /// # Errors
    /// A missing or broken file, a parameter that is missing or has another shape, a family not served.
    pub fn load(backend: &dyn Backend, dir: &Path, compute: DType, seed: u64) -> Result<Self> {
        let config = ModelConfig::from_dir(dir)?;
        let labels =
            config.raw.get("id2label").and_then(|labels| labels.as_object()).map_or(1, |map| map.len());
        let stored = weights::load(dir)?;
        if stored.contains_key(SCORE) && labels != 1 {
            return Err(Error::file(
                dir.join("config.json"),
                format!("{labels} labels; a reward model has one"),
            ));
        }
        let tensors = parameters::adopt(&config, &parameters(&config, Head::Score), stored, seed)
            .map_err(|error| Error::file(dir, error))?;
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

    /// The same model over leaves whose gradients are wanted.
    pub fn trainable(&self) -> Self {
        Self { decoder: self.decoder.with_params(self.params().variables()) }
    }

    /// The same weights without history.
    pub fn frozen(&self) -> Self {
        Self { decoder: self.decoder.with_params(self.params().detached()) }
    }

    /// The scores at these rows (ascending), f32 `[rows]`.
    ///
    /// # Errors
    /// Those of [`Model::forward`].
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
    pub fn restore(&self, tensors: BTreeMap<String, HostTensor>) -> Result<()> {
        let list = parameters(self.config(), Head::Score);
        if !tensors.contains_key(SCORE) {
            return Err(Error::invalid(SCORE, "is missing from the checkpoint"));
        }
        for (name, host) in parameters::adopt(self.config(), &list, tensors, 0)? {
            let param = self.params().get(&name)?;
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
