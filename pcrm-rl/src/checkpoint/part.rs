//! The parts of a checkpoint: models with their optimisers.

use std::collections::BTreeMap;
use std::path::Path;

use pcrm_core::HostTensor;
use pcrm_core::model::{Checkpoint, weights};

use super::{OPTIMISER, put_weights};
use crate::error::{Error, Result};
use crate::learner::{Learner, Trainable};

/// Moments by name.
pub type Moments = BTreeMap<String, HostTensor>;

/// A model and its optimiser, as a checkpoint keeps them.
pub trait CheckpointPart {
    /// Returns the optimiser's moments, for the process that writes them; the other processes of the run call
    /// [`CheckpointPart::contribute`].
    ///
    /// # Errors
    /// Fails as the backend does, or if a process is gone.
    fn moments(&self) -> Result<Moments>;

    /// Gives this process's slice of the moments to the process that writes them. By default it is made of all
    /// moments.
    ///
    /// # Errors
    /// Fails as [`CheckpointPart::moments`] does.
    fn contribute(&self) -> Result<()> {
        self.moments().map(drop)
    }

    /// Writes the model and these moments into a folder.
    ///
    /// # Errors
    /// Fails if the disk or the backend does.
    fn write(&self, dir: &Path, moments: &Moments) -> Result<()>;

    /// Reads the model and its moments from a folder, as they were after `step` steps.
    ///
    /// # Errors
    /// Fails if the files do not fit the model.
    fn read(&mut self, dir: &Path, step: u64) -> Result<()>;
}

impl<M: Trainable> CheckpointPart for Learner<M> {
    fn moments(&self) -> Result<Moments> {
        self.moments()
    }

    fn contribute(&self) -> Result<()> {
        self.contribute_moments()
    }

    fn write(&self, dir: &Path, moments: &Moments) -> Result<()> {
        self.model.save(dir)?;
        Ok(weights::save(&dir.join(OPTIMISER), moments)?)
    }

    fn read(&mut self, dir: &Path, step: u64) -> Result<()> {
        put_weights(dir, &self.model)?;
        let moments = Checkpoint::open_file(dir, OPTIMISER)?;
        self.restore_moments(&moments, step)
            .map_err(|error| Error::Checkpoint { path: dir.join(OPTIMISER), message: error.to_string() })
    }
}
