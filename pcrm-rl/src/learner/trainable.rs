//! The interface of models that are trained, implemented for reward models and language models.

use std::path::Path;

use pcrm_core::model::{LanguageModel, Loading, RewardModel};
use pcrm_core::{Backend, DType, Params};
use serde_json::{Map, Value};

use crate::error::Result;

/// A model that can be trained, saved and loaded again.
pub trait Trainable: Sized {
    /// Returns all parameters, including frozen ones; the trained ones are leaves ([`Params::trained`]).
    fn params(&self) -> &Params;

    /// Returns the same model with its trained parameters as leaves.
    fn trainable(&self) -> Self;

    /// Returns a model on the same storage without history; updates change it too.
    fn detached(&self) -> Self;

    /// Returns the same model with the dropout of a training step, a function of the seed and the step.
    fn at_step(&self, step: u64) -> Self;

    /// Returns the element type of its computation.
    fn compute(&self) -> DType;

    /// Returns the model with a note, saved in its `config.json` under `pcrm`.
    fn noted(self, name: &str, note: Value) -> Self;

    /// Writes a folder that `transformers` or `peft` can load.
    ///
    /// # Errors
    /// Fails if the disk or the backend fails.
    fn save(&self, dir: &Path) -> Result<()>;

    /// Overwrites the weights with those of a folder that [`Trainable::save`] wrote.
    ///
    /// # Errors
    /// Fails if a weight is missing or has another shape.
    fn restore(&self, dir: &Path) -> Result<()>;

    /// Loads the folder that this model was saved to, stored as this model is.
    ///
    /// # Errors
    /// Fails if the folder cannot be loaded.
    fn reloaded(&self, backend: &dyn Backend, dir: &Path) -> Result<Self>;
}

/// Implements [`Trainable`] for both models of core, which have these methods under the same names.
macro_rules! trainable {
    ($model:ty) => {
        impl Trainable for $model {
            fn params(&self) -> &Params {
                self.params()
            }

            fn trainable(&self) -> Self {
                self.trainable()
            }

            fn detached(&self) -> Self {
                self.detached()
            }

            fn at_step(&self, step: u64) -> Self {
                self.at_step(step)
            }

            fn compute(&self) -> DType {
                self.decoder().compute()
            }

            fn noted(self, name: &str, note: Value) -> Self {
                self.with_config(|config| {
                    let notes = config.raw.entry("pcrm").or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(notes) = notes {
                        notes.insert(name.to_owned(), note);
                    }
                })
            }

            fn save(&self, dir: &Path) -> Result<()> {
                Ok(self.save(dir)?)
            }

            fn restore(&self, dir: &Path) -> Result<()> {
                Ok(self.restore_from(dir)?)
            }

            fn reloaded(&self, backend: &dyn Backend, dir: &Path) -> Result<Self> {
                let decoder = self.decoder();
                let how = Loading::masters(backend, decoder.compute()).quantised(decoder.quantisation());
                Ok(Self::load_as(dir, how)?)
            }
        }
    };
}

trainable!(RewardModel);
trainable!(LanguageModel);
