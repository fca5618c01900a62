//! Opening of trained reward models for use: the model with its tokenizer.

use std::path::Path;

use super::{Loading, RewardModel, folder};
use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::Result;
use crate::text::Tokenizer;

impl RewardModel {
    /// Opens a trained reward model, frozen and stored in the type that it computes in, and its tokenizer.
    ///
    /// # Errors
    /// Fails if the path is not a model's folder (the error describes it), and as [`RewardModel::load`] and
    /// [`Tokenizer::from_dir`] do.
    pub fn open_trained(backend: &dyn Backend, dir: &Path, compute: DType) -> Result<(Self, Tokenizer)> {
        folder::check(dir)?;
        let tokenizer = Tokenizer::from_dir(dir)?;
        Ok((Self::load_as(dir, Loading::frozen(backend, compute))?, tokenizer))
    }
}
