//! The weights of a decoder in files.

use std::collections::BTreeMap;
use std::path::Path;

use super::Decoder;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::lora::peft;
use crate::model::parameters::{Parameter, SCORE, parameters};
use crate::model::weights::{self, Entry};

impl Decoder {
    /// Lists the parameters that checkpoints hold: the adapters' if there are any, else all.
    fn stored(&self) -> Vec<Parameter> {
        match &self.adapters {
            Some(adapters) => adapters.parameters(&self.config, &self.heads),
            None => parameters(&self.config, &self.heads),
        }
    }

    /// Returns the weights that checkpoints hold by name, in the layout of files: the adapters' if there are
    /// any, else all.
    pub fn tensors(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut tensors = BTreeMap::new();
        for parameter in self.stored() {
            let host = parameter.turned(self.params.get(&parameter.name)?.read()?)?;
            tensors.insert(parameter.name, host);
        }
        Ok(tensors)
    }

    /// Writes the weights of [`Decoder::tensors`] to a safetensors file, each under all names that `named` returns,
    /// reading one tensor at a time from the device.
    pub(in crate::model) fn write(&self, path: &Path, named: impl Fn(&str) -> Vec<String>) -> Result<()> {
        let mut parameters = BTreeMap::new();
        let mut entries = Vec::new();
        for parameter in self.stored() {
            let tensor = self.params.get(&parameter.name)?;
            let mut shape = tensor.shape();
            if parameter.transposed {
                shape.reverse();
            }
            for name in named(&parameter.name) {
                entries.push(Entry { name: name.clone(), dtype: tensor.dtype(), shape: shape.clone() });
                parameters.insert(name, parameter.clone());
            }
        }
        weights::save_streamed(path, entries, |name| {
            let missing = || Error::invalid(name, "is not a parameter of the model");
            let parameter = parameters.get(name).ok_or_else(missing)?;
            parameter.turned(self.params.get(&parameter.name)?.read()?)
        })
    }

    /// Overwrites the weights with those of [`Decoder::tensors`].
    ///
    /// # Errors
    /// Fails if a weight is missing or has another shape; no weight has changed then.
    pub fn restore(&self, mut tensors: BTreeMap<String, HostTensor>) -> Result<()> {
        let mut fitting = Vec::new();
        for parameter in self.stored() {
            let host = parameter.fitting(tensors.remove(&parameter.name))?;
            fitting.push((self.params.get(&parameter.name)?, host));
        }
        if let Some(name) = tensors.keys().next() {
            return Err(Error::invalid(name, "is not a weight that this model trains"));
        }
        for (param, host) in fitting {
            param.assign(&param.constant(&host)?.cast(param.dtype())?)?;
        }
        Ok(())
    }

    /// Overwrites the trained weights with those of a folder that the model was saved to; for a model with
    /// adapters, the adapters' weights.
    ///
    /// # Errors
    /// Fails if a file cannot be read, if a weight is missing or has another shape, and if adapters belong to a base
    /// with other weights.
    pub fn restore_from(&self, dir: &Path) -> Result<()> {
        self.restore(match self.adapters() {
            Some(adapters) => peft::saved(dir, adapters, self.config(), &self.heads)?,
            None => {
                let mut tensors = weights::load_file(&dir.join(weights::SINGLE))?;
                if let Some(head) = tensors.remove(self.config().family.score_head) {
                    tensors.insert(SCORE.to_owned(), head);
                }
                tensors
            }
        })
    }
}
