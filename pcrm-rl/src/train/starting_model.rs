//! The base model of runs and judges: a folder with weights to read, or to draw randomly.

use std::path::PathBuf;
use std::sync::Arc;

use pcrm_core::model::lora::LoraConfig;
use pcrm_core::model::{Checkpointing, LanguageModel, Loading, ModelConfig, RewardModel, WeightPool};
use pcrm_core::optim::WeightType;
use pcrm_core::quant::Quantisation;
use pcrm_core::text::Tokenizer;
use pcrm_core::{Backend, DType, digest};

use crate::error::Result;
use crate::options::refuse;

/// A model before training. It is opened once per training, since training overwrites the weights.
#[derive(Debug, Clone)]
pub struct Base {
    /// Folder of the model.
    pub dir: PathBuf,
    /// Draws all weights instead of only a missing score head.
    pub random_init: bool,
    /// Element type of the computation.
    pub dtype: DType,
    /// Seed of randomly drawn weights.
    pub seed: u64,
    /// Adapters to train on the frozen model, instead of the model.
    pub lora: Option<LoraConfig>,
    /// Recomputes layers in the backward pass to save the memory of their activations, without changing
    /// results.
    pub checkpointing: Checkpointing,
    /// The type of the trained weights.
    pub weights: WeightType,
    /// The coefficient of the routers' loss of a language model that is a mixture of experts; `None` for that
    /// of its config.
    pub router_aux_loss_coef: Option<f64>,
    /// The quantisation of a frozen model's linear weights on loading.
    pub quantise: Option<Quantisation>,
    /// Frozen weights that this model shares with others of the run.
    pub pool: Option<Arc<WeightPool>>,
}

impl Base {
    /// Creates a base from a folder's weights, all of them trained; missing ones are drawn from the seed.
    pub fn new(dir: PathBuf, dtype: DType, seed: u64) -> Self {
        Self {
            dir,
            random_init: false,
            dtype,
            seed,
            lora: None,
            checkpointing: Checkpointing::Off,
            weights: WeightType::F32,
            router_aux_loss_coef: None,
            quantise: None,
            pool: None,
        }
    }

    /// Loads the tokenizer of the folder.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Ok(Tokenizer::from_dir(&self.dir)?)
    }

    /// Opens the reward model, with its own copy of the weights; a missing head is drawn.
    ///
    /// # Errors
    /// Fails if a file cannot be read or adapters do not fit.
    pub fn open(&self, backend: &dyn Backend) -> Result<RewardModel> {
        let model = match self.random_init {
            true => {
                RewardModel::random_as(self.trained(backend), ModelConfig::from_dir(&self.dir)?, self.seed)?
            }
            false => RewardModel::load_to_train_as(&self.dir, self.loading(backend), self.seed)?,
        };
        let model = match &self.lora {
            Some(lora) => model.with_adapters(lora.clone(), &self.dir, self.seed)?,
            None => model,
        };
        Ok(model.checkpointing(self.checkpointing))
    }

    /// Opens the language model, with its own copy of the weights.
    ///
    /// # Errors
    /// Fails if a file cannot be read, the folder has no language-model head, adapters do not fit, or the
    /// routers' loss is asked of a model without routers.
    pub fn open_language(&self, backend: &dyn Backend) -> Result<LanguageModel> {
        let model = match self.random_init {
            true => {
                LanguageModel::random_as(self.trained(backend), ModelConfig::from_dir(&self.dir)?, self.seed)?
            }
            false => LanguageModel::load_as(&self.dir, self.loading(backend))?,
        };
        let model = match &self.lora {
            Some(lora) => model.with_adapters(lora.clone(), &self.dir, self.seed)?,
            None => model,
        };
        self.balanced(model.checkpointing(self.checkpointing))
    }

    /// Returns the model with this base's coefficient of the routers' loss.
    fn balanced(&self, model: LanguageModel) -> Result<LanguageModel> {
        let Some(coefficient) = self.router_aux_loss_coef else { return Ok(model) };
        if coefficient != 0.0 && model.config().mixture.is_none() {
            let message = format!(
                "{coefficient}: {} is no mixture of experts, so it has no routers to balance; expected 0 or none",
                self.dir.display()
            );
            return refuse("router-aux-loss-coef", message);
        }
        Ok(model.with_config(|config| {
            if let Some(mixture) = &mut config.mixture {
                mixture.balance = coefficient;
            }
        }))
    }

    /// Opens the language model unchanged and frozen, as a reference.
    ///
    /// # Errors
    /// Fails as [`Base::open_language`] does.
    pub fn open_reference(&self, backend: &dyn Backend) -> Result<LanguageModel> {
        let model = match self.random_init {
            true => {
                let how = Loading::masters(backend, self.dtype).quantised(self.quantise);
                LanguageModel::random_as(how, ModelConfig::from_dir(&self.dir)?, self.seed)?
            }
            false => {
                let how = Loading::frozen(backend, self.dtype).quantised(self.quantise);
                let how = how.sharing(self.pool.as_deref());
                LanguageModel::load_as(&self.dir, how)?
            }
        };
        Ok(model.detached())
    }

    /// Returns the loading options. A model under adapters is frozen, and kept in its computation type.
    fn loading<'b>(&'b self, backend: &'b dyn Backend) -> Loading<'b> {
        let how = match self.lora {
            Some(_) => Loading::frozen(backend, self.dtype).quantised(self.quantise),
            None => self.trained(backend),
        };
        how.sharing(self.pool.as_deref())
    }

    /// Returns the options for trained weights; random weights under adapters are f32.
    fn trained<'b>(&self, backend: &'b dyn Backend) -> Loading<'b> {
        let weights = if self.lora.is_some() { WeightType::F32 } else { self.weights };
        Loading::trained(backend, self.dtype, weights).quantised(self.quantise)
    }

    /// Returns a text that identifies the model and the way it is computed.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    pub(crate) fn digest(&self, backend: &dyn Backend) -> Result<String> {
        let Self { random_init, dtype, seed, lora, quantise, .. } = self;
        let (version, model) = (env!("CARGO_PKG_VERSION"), digest::with_base(&self.dir)?);
        let (backend, device) = (backend.name(), backend.device());
        let adapters = lora.as_ref().map_or_else(String::new, |lora| format!(" {}", serde_json::json!(lora)));
        let quantised = quantise.map_or_else(String::new, |method| format!(" {method}"));
        Ok(format!("{version} {backend} {device} {model} {random_init} {dtype} {seed}{adapters}{quantised}"))
    }
}
