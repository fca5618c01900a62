//! The models that are served, by name, and their reload.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context, Result, bail};

use super::model::Model;
use super::refusal::{Kind, Refusal};

/// Makes the model of a name from a folder.
pub type Load = Box<dyn Fn(&str, &PathBuf) -> Result<Model> + Send>;

/// The models, the first of which is for requests that name none.
pub struct Models {
    served: RwLock<Vec<Arc<Model>>>,
    /// One reload at a time.
    load: Mutex<Load>,
}

impl Models {
    /// Loads the models of these names.
    ///
    /// # Errors
    /// The first that does not load.
    pub fn load(names: &[(String, PathBuf)], load: Load) -> Result<Self> {
        let models = names.iter().map(|(name, dir)| Ok(Arc::new(load(name, dir)?)));
        Ok(Self { served: RwLock::new(models.collect::<Result<_>>()?), load: Mutex::new(load) })
    }

    /// All models, as they are now.
    pub fn all(&self) -> Vec<Arc<Model>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finds the model that a request names, by its name or its folder; the first for none, "" and "default".
    ///
    /// # Errors
    /// A name that is not served.
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
            Refusal { kind: Kind::NoModel, message, field: Some("model".to_owned()) }
        })
    }

    /// Loads the folder of a model again and puts it in its place. Requests that are waiting keep the model that they were
    /// tokenised for; both are in memory until these are answered.
    ///
    /// # Errors
    /// A name that is not served; a folder that does not load, whose model then stays.
    pub fn reload(&self, name: &str) -> Result<Arc<Model>> {
        let load = self.load.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(old) = self.all().into_iter().find(|model| model.name == name) else {
            bail!("the model {name:?} is not served")
        };
        let new = load(name, &old.dir).with_context(|| format!("the model {name:?} stays as it was"))?;
        let new = Arc::new(new);
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        served.iter_mut().filter(|model| model.name == name).for_each(|model| *model = Arc::clone(&new));
        Ok(new)
    }
}
