//! The models of the loopback server, in the thread that computes with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use pcrm_core::model::{LanguageModel, Loading};
use pcrm_core::{Backend, DType};
use pcrm_rl::rollout::source::{Own, Pending, RolloutSource, SampleRequest};
use pcrm_rl::rollout::{Budget, Engine, Prompt, Sample, Sampling, Stop};
use serde_json::Value;

/// Work of the thread that has the models.
pub enum Job {
    Load {
        name: String,
        path: String,
    },
    Update {
        path: String,
        version: String,
    },
    Unload {
        name: String,
    },
    Lose,
    Generate {
        name: Option<String>,
        stale: bool,
        prompt: Prompt,
        samples: usize,
        sampling: Sampling,
        ends: Vec<u32>,
    },
}

/// The result of a job: samples with the version of the weights, or a status and a message.
pub type Reply = Result<(Vec<Sample>, String), (u16, String)>;

/// The models of the server, in the thread that computes with them.
pub struct Models {
    backend: Box<dyn Backend>,
    adapters: BTreeMap<String, LanguageModel>,
    whole: Option<(String, LanguageModel)>,
    first: Option<LanguageModel>,
    most_adapters: usize,
}

impl Models {
    pub fn new(backend: Box<dyn Backend>, most_adapters: usize) -> Self {
        Self { backend, adapters: BTreeMap::new(), whole: None, first: None, most_adapters }
    }

    /// Runs a job.
    pub fn done(&mut self, job: Job) -> Reply {
        let faulty = |error: anyhow::Error| (500, format!("{error:#}"));
        match job {
            Job::Load { name, path } => {
                if self.adapters.contains_key(&name) {
                    return Err((400, format!("The lora adapter '{name}' has already been loaded.")));
                }
                if self.adapters.len() >= self.most_adapters {
                    return Err((400, format!("there are {} adapters already", self.adapters.len())));
                }
                let how = Loading::masters(self.backend.as_ref(), DType::F32);
                let base = base_of(Path::new(&path)).map_err(faulty)?;
                let model = LanguageModel::load_adapter(Path::new(&path), base.as_deref(), how, 0)
                    .map_err(|error| (400, error.to_string()))?;
                self.first.get_or_insert(model.detached());
                self.adapters.insert(name.clone(), model);
                Ok((Vec::new(), name))
            }
            Job::Update { path, version } => {
                let model = LanguageModel::load(self.backend.as_ref(), Path::new(&path), DType::F32)
                    .map_err(|error| (400, error.to_string()))?;
                self.first.get_or_insert(model.detached());
                self.whole = Some((version.clone(), model));
                Ok((Vec::new(), version))
            }
            Job::Unload { name } => match self.adapters.remove(&name) {
                Some(_) => Ok((Vec::new(), name)),
                None => Err((404, format!("The lora adapter '{name}' cannot be found."))),
            },
            Job::Lose => {
                self.adapters.clear();
                Ok((Vec::new(), String::new()))
            }
            Job::Generate { name, stale, prompt, samples, sampling, ends } => {
                let (version, model) = match &name {
                    Some(name) => match self.adapters.get(name) {
                        Some(model) => (name.clone(), model),
                        None => return Err((404, format!("The model `{name}` does not exist."))),
                    },
                    None => match &self.whole {
                        Some((version, model)) => (version.clone(), model),
                        None => return Err((400, "there are no weights".to_owned())),
                    },
                };
                let model = self.first.as_ref().filter(|_| stale).unwrap_or(model);
                let made = sampled(model, prompt, samples, sampling, &ends).map_err(faulty)?;
                Ok((made, version))
            }
        }
    }
}

/// Returns the base of an adapter that names it relative to the working folder of its run, one of the folders
/// above the adapter.
fn base_of(adapter: &Path) -> Result<Option<PathBuf>> {
    let config: Value = serde_json::from_str(&std::fs::read_to_string(adapter.join("adapter_config.json"))?)?;
    let name = config["base_model_name_or_path"].as_str().context("base_model_name_or_path")?;
    let places = adapter.ancestors().map(|dir| dir.join(name));
    Ok(places.into_iter().find(|base| base.join("config.json").is_file()))
}

/// Samples answers to a prompt as a run with seed 0 and the end token 2 does.
pub fn of_policy(model: &LanguageModel, prompt: &Prompt, samples: usize, most: usize) -> Result<Vec<Sample>> {
    let sampling = Sampling { max_tokens: most, ..Sampling::default() };
    sampled(model, prompt.clone(), samples, sampling, &[2])
}

fn sampled(
    model: &LanguageModel,
    prompt: Prompt,
    samples: usize,
    sampling: Sampling,
    ends: &[u32],
) -> Result<Vec<Sample>> {
    let engine = Engine::new(model.decoder(), Budget { cache_tokens: 16 * 1024, ..Budget::default() })?;
    let stop = Stop::at(ends.iter().copied());
    let mut own = Own::new(engine, &stop).with_policy(&model.for_sampling()?, 0);
    let ask = SampleRequest { prompts: vec![prompt], samples, sampling, version: 0, pass: 0 };
    let made = own.finish(Pending::Waiting(ask), &AtomicBool::new(false))?;
    made.into_iter().next().context("samples of a prompt")
}
