//! Opens trained reward models for use: the model with its tokenizer.

use std::path::Path;

use super::{Loading, RewardModel, folder};
use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::Result;
use crate::text::Tokenizer;

impl RewardModel {
    /// Opens a trained reward model, frozen and held in the type that it computes in, and its tokenizer.
    ///
    /// # Errors
    /// A path that is no model's folder (the message says what it is), and as [`RewardModel::load`] and
    /// [`Tokenizer::from_dir`].
    pub fn open_trained(backend: &dyn Backend, dir: &Path, compute: DType) -> Result<(Self, Tokenizer)> {
        folder::check(dir)?;
        let tokenizer = Tokenizer::from_dir(dir)?;
        Ok((Self::load_as(dir, Loading::frozen(backend, compute))?, tokenizer))
    }
}
