//! The context in which constraints compute bounds: seed, backend, embeddings on disk, a progress bar.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use pcrm_core::Error;
use pcrm_core::constraint::{Folders, Priors, Progress};

use crate::chain::in_full;
use crate::hub;
use crate::machine::Machine;
use crate::progress::{self, bar};

/// Returns priors for constraints on this machine; `model` is a model folder whose weights exist, if any.
///
/// # Errors
/// Fails if the backend is unknown.
pub fn priors(machine: &Machine, model: Option<&PathBuf>) -> Result<Priors> {
    let mut priors = Priors::seeded(machine.seed);
    priors.cache = dirs::cache_dir().map(|folder| folder.join("pcrm").join("embeddings"));
    priors.engine = Some(machine.engine()?);
    priors.model = model.cloned();
    priors.folders = Some(Arc::new(OnHub));
    priors.progress = Some(Arc::new(Bar::default()));
    Ok(priors)
}

/// Fetches encoders that are Hub repositories.
#[derive(Debug)]
struct OnHub;

impl Folders for OnHub {
    fn fetch(&self, named: &Path) -> pcrm_core::Result<PathBuf> {
        hub::encoder(named).map_err(|error| Error::Unsupported(in_full(&error)))
    }
}

/// A bar that appears with the first report and disappears with the last.
#[derive(Debug, Default)]
struct Bar(Mutex<Option<progress::Bar>>);

impl Progress for Bar {
    fn at(&self, what: &str, done: u64, total: u64) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.get_or_insert_with(|| bar(total, what)).set_position(done);
        if done == total
            && let Some(bar) = shown.take()
        {
            bar.finish_and_clear();
        }
    }
}
