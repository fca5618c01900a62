//! Trains a reward model from files, with defaults for all other options.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use pcrm_core::DType;
use pcrm_core::constraint::{Priors, parse};

use super::reward::{RewardData, RewardOptions, RewardRun};
use super::{Base, Setting};
use crate::crossfit::MarginCache;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::offline::{Outcome, Silent};
use crate::scorer::first_backend;

/// The default for the largest number of tokens in a sequence.
const MAX_LENGTH: usize = 1024;

/// A training run of a reward model in f32 on the CPU: the initial model, the data, and the options.
///
/// ```
/// # use std::error::Error;
/// use pcrm_rl::prelude::*;
/// use {pcrm_backend_candle as _, pcrm_constraints as _}; // link the backend and the constraints
///
/// # fn main() -> Result<(), Box<dyn Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let dir = folder.path().join("rm");
/// let outcome = RewardTrainer::new("examples/tiny", "examples/tiny/pairs.jsonl")
///     .random_init()
///     .constraint("length_ratio")
///     .options(|options| options.trainer.learning_rate = 1e-3)
///     .output(&dir)
///     .train()?;
/// assert!(matches!(outcome, Outcome::Finished { .. }));
/// let scorer = Scorer::open(&dir)?;
/// println!("{}", scorer.score("Name a tree.", " An oak.")?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RewardTrainer {
    model: PathBuf,
    data: Vec<PathBuf>,
    output: Option<PathBuf>,
    constraint: String,
    random_init: bool,
    max_length: usize,
    options: RewardOptions,
}

impl RewardTrainer {
    /// Creates a training run for the model in a folder on a preference file, without a constraint.
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            data: vec![data.into()],
            output: None,
            constraint: "none".to_owned(),
            random_init: false,
            max_length: MAX_LENGTH,
            options: RewardOptions::default(),
        }
    }

    /// Adds a data file, or a slice such as `more.jsonl[:500]`.
    pub fn data(mut self, file: impl Into<PathBuf>) -> Self {
        self.data.push(file.into());
        self
    }

    /// Sets the constraint: a kind, or JSON with its parameters.
    pub fn constraint(mut self, constraint: impl Into<String>) -> Self {
        self.constraint = constraint.into();
        self
    }

    /// Initialises the weights from the seed instead of reading them.
    pub fn random_init(mut self) -> Self {
        self.random_init = true;
        self
    }

    /// Sets the largest number of tokens in a sequence; longer pairs are dropped.
    pub fn max_length(mut self, tokens: usize) -> Self {
        self.max_length = tokens;
        self
    }

    /// Changes the options of the steps and of the loss.
    pub fn options(mut self, change: impl FnOnce(&mut RewardOptions)) -> Self {
        change(&mut self.options);
        self
    }

    /// Sets the folder of the run.
    pub fn output(mut self, dir: impl Into<PathBuf>) -> Self {
        self.output = Some(dir.into());
        self
    }

    /// Trains the model and saves it with its tokenizer in the run's folder, as Hugging Face files.
    ///
    /// # Errors
    /// Fails if no folder is named or it holds a model, an option is out of range, a file cannot be read, or the loss
    /// is no longer finite.
    pub fn train(self) -> Result<Outcome> {
        let invalid = |field, message: &str| Err(Error::Invalid { field, message: message.to_owned() });
        let Some(dir) = self.output else { return invalid("output", "is not set; expected a new folder") };
        if dir.join("config.json").exists() {
            return invalid("output", &format!("{} holds a model; expected a new folder", dir.display()));
        }
        self.options.check(false)?;
        let seed = self.options.trainer.seed;
        let backend = first_backend()?;
        let base = Base { random_init: self.random_init, ..Base::new(self.model, DType::F32, seed) };
        let tokenizer = base.tokenizer()?;
        let priors = Priors::seeded(seed);
        let mut constraint = parse(&self.constraint)?;
        constraint.settle(&priors)?;
        let data = RewardData::read(&base, &tokenizer, &self.data, constraint, self.max_length)?;
        let stop = AtomicBool::new(false);
        let setting = Setting {
            backend: backend.as_ref(),
            base: &base,
            tokenizer: &tokenizer,
            dir: &dir,
            resume: false,
            stop: &stop,
        };
        let cache = MarginCache::default();
        let run = RewardRun::new(setting, &self.options, data, &priors, cache, &mut Silent)?;
        Ok(run.train(Fingerprint::new(), &mut Silent)?.outcome)
    }
}
