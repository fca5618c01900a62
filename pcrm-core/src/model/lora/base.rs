//! The base of adapters: its folder, and the digest of the weights that they belong to.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::checkpoint::Checkpoint;
use crate::model::weights;

/// The model under adapters.
#[derive(Debug, Clone)]
pub(in crate::model) struct Base {
    /// The folder, as given.
    pub dir: PathBuf,
    /// The digest of its weights, if it is known.
    pub weights: Option<String>,
}

impl Base {
    /// Returns the base in a folder, with the digest of its weights if it has any.
    ///
    /// # Errors
    /// Fails if the weights cannot be read.
    pub fn with_digest(dir: &Path) -> Result<Self> {
        let has_weights = [weights::SINGLE, weights::INDEX].iter().any(|name| dir.join(name).exists());
        let weights = if has_weights { Some(digest(dir)?) } else { None };
        Ok(Self { dir: dir.to_path_buf(), weights })
    }

    /// Checks that the weights have the digest of those that the adapter in a folder was trained on. A base whose
    /// digest is not known passes.
    ///
    /// # Errors
    /// Fails if the digests differ.
    pub(super) fn require(&self, expected: &str, adapter: &Path) -> Result<()> {
        match self.weights.as_deref() {
            Some(found) if found != expected => {
                let message = format!(
                    "the base model {} is not the one that the adapter was trained on: its weights have the digest \
                     {found}, expected {expected}; restore the base of the training, or train the adapter again",
                    self.dir.display()
                );
                Err(Error::file(adapter, message))
            }
            _ => Ok(()),
        }
    }
}

/// Computes the digest of the weights in a folder; see [`Checkpoint::digest`].
///
/// # Errors
/// Fails if the folder has no weights, or they cannot be read.
pub(super) fn digest(dir: &Path) -> Result<String> {
    Ok(format!("xxh3:{}", Checkpoint::open(dir)?.digest()?))
}
