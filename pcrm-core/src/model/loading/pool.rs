//! Frozen weights that models share: a base under the adapters of a policy, a critic and a reward model.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::storage::{LinearStorage, Loading, Precision};
use crate::device::Device;
use crate::dtype::DType;
use crate::model::parameters::Parameter;
use crate::params::Params;

/// Frozen weights by the folder that they were read from. Models loaded with the same pool
/// ([`Loading::sharing`]) hold one copy of the weights that they have in common, if they store them in the
/// same types on the same device. Weights that are trained are never shared.
///
/// The pool keeps the weights in memory as long as it exists.
#[derive(Debug, Default)]
pub struct WeightPool {
    folders: Mutex<Vec<(Key, Shelf)>>,
}

/// Identifies frozen weights: models whose keys are equal share them.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    dir: PathBuf,
    backend: &'static str,
    device: Device,
    compute: DType,
    linear: LinearStorage,
}

/// The weights of a folder, and the number of models that use them.
#[derive(Debug, Default)]
struct Shelf {
    params: Params,
    models: usize,
}

impl WeightPool {
    /// Returns the folders whose weights several models use, each with their number.
    pub fn shared(&self) -> Vec<(PathBuf, usize)> {
        let folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let several = folders.iter().filter(|(_, shelf)| shelf.models > 1);
        several.map(|(key, shelf)| (key.dir.clone(), shelf.models)).collect()
    }

    /// Gives a model those of its parameters that the pool has.
    pub(super) fn lend(&self, dir: &Path, how: Loading<'_>, list: &[Parameter], params: &mut Params) {
        let Some(key) = Key::of(dir, how) else { return };
        let folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, shelf)) = folders.iter().find(|(known, _)| *known == key) else { return };
        list.iter().for_each(|parameter| shelf.params.hand(&parameter.name, params));
    }

    /// Keeps a model's parameters of this list for later models.
    pub(super) fn keep(&self, dir: &Path, how: Loading<'_>, list: &[Parameter], params: &Params) {
        let Some(key) = Key::of(dir, how) else { return };
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let at = folders.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            folders.push((key, Shelf::default()));
            folders.len() - 1
        });
        let shelf = &mut folders[at].1;
        shelf.models += 1;
        list.iter().for_each(|parameter| params.hand(&parameter.name, &mut shelf.params));
    }
}

impl Key {
    /// Returns the key of a folder's weights; `None` if they are trained, or if the folder is gone.
    fn of(dir: &Path, how: Loading<'_>) -> Option<Self> {
        let frozen = how.precision == Precision::Compute;
        Some(Self {
            dir: dir.canonicalize().ok().filter(|_| frozen)?,
            backend: how.backend.name(),
            device: how.backend.device(),
            compute: how.compute,
            linear: how.beneath().linear,
        })
    }
}
