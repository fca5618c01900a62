//! The served models by name, and their reload.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context, Result, bail};

use super::model::Model;
use super::queue::Queue;
use super::refusal::{Refusal, RefusalKind};

/// Loads the model of a name from a folder.
pub type Load = Box<dyn Fn(&str, &PathBuf) -> Result<Model> + Send>;

/// The models; the first one serves requests that name none.
pub struct Models {
    served: RwLock<Vec<Arc<Model>>>,
    /// The mutex allows one reload at a time.
    load: Mutex<Load>,
    /// Gets the models that a reload replaces.
    queue: Arc<Queue>,
}

impl Models {
    /// Loads the models under these names; `queue` holds their requests.
    ///
    /// # Errors
    /// Fails with the first model that does not load.
    pub fn load(names: &[(String, PathBuf)], load: Load, queue: Arc<Queue>) -> Result<Self> {
        let models = names.iter().map(|(name, dir)| Ok(Arc::new(load(name, dir)?)));
        Ok(Self { served: RwLock::new(models.collect::<Result<_>>()?), load: Mutex::new(load), queue })
    }

    /// Returns all current models.
    pub fn all(&self) -> Vec<Arc<Model>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finds a model by its name or its folder; no name, "" and "default" mean the first.
    ///
    /// # Errors
    /// Fails if no model has this name.
    pub fn find(&self, name: Option<&str>) -> Result<Arc<Model>, Refusal> {
        let all = self.all();
        let known = |name: &str| all.iter().find(|model| model.name == name || model.dir.as_os_str() == name);
        let found = match name {
            None | Some("") => all.first(),
            Some(name) => known(name).or(all.first().filter(|_| name == "default")),
        };
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|model| model.name.as_str()).collect();
            let message = format!(
                "the model {:?} is not served; expected one of: {}",
                name.unwrap_or_default(),
                names.join(", ")
            );
            Refusal { kind: RefusalKind::NoModel, message, field: Some("model".to_owned()) }
        })
    }

    /// Reloads a model from its folder and replaces it. Waiting requests keep the model they were tokenised
    /// for; both are in memory until those are answered.
    ///
    /// # Errors
    /// Fails if no model has this name, or if the folder does not load; the old model then stays.
    pub fn reload(&self, name: &str) -> Result<Arc<Model>> {
        let load = self.load.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(old) = self.all().into_iter().find(|model| model.name == name) else {
            bail!("the model {name:?} is not served")
        };
        let new = load(name, &old.dir).with_context(|| format!("the model {name:?} is unchanged"))?;
        let new = Arc::new(new);
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        served.iter_mut().filter(|model| model.name == name).for_each(|model| *model = Arc::clone(&new));
        drop(served);
        self.queue.retire(old);
        Ok(new)
    }
}
