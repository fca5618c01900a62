//! The decoder, written once: families differ in data, backends in kernels.

mod attention;
mod cached;
mod embed;
mod experts;
mod feed_forward;
mod head;
mod layer;
mod pass;
mod stored;

use std::path::Path;
use std::sync::Arc;

pub use self::cached::{Filled, KeyValueCache};
use self::embed::Embed;
use self::layer::Layer;
use self::pass::Pass;
use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::Result;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::ModelConfig;
use crate::model::family::NormKind;
use crate::model::folder;
use crate::model::layers::{Linear, Norm, Weight};
use crate::model::loading::{self, Headless, Loading, held};
use crate::model::lora::{Adapter, Adapters, language_module};
use crate::model::parameters::Head;
use crate::model::recompute::Checkpointing;
use crate::model::rope::Angles;
use crate::params::Params;
use crate::quant::Quantisation;

/// A decoder-only transformer.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: Arc<ModelConfig>,
    params: Params,
    heads: Arc<[Head]>,
    compute: DType,
    embed: Embed,
    layers: Vec<Layer>,
    /// The last norm, unless the config drops it.
    last_norm: Option<Norm>,
    /// The projection of hidden states to the width of embeddings, if that differs from the layers'.
    projection: Option<Linear>,
    /// The language-model head, unless it is tied or absent.
    language_head: Option<Weight>,
    /// The adapter of the language-model head.
    head_adapter: Option<Adapter>,
    /// The distinct rotary positions of the layers.
    angles: Vec<Angles>,
    adapters: Option<Arc<Adapters>>,
    /// The base's version of the modules that adapters save.
    originals: Params,
    /// The step of training that selects dropout masks; `None`: no dropout.
    step: Option<u64>,
    checkpointing: Checkpointing,
}

/// The names of the parameters of one layer.
struct Names<'a> {
    config: &'a ModelConfig,
    adapters: Option<&'a Adapters>,
    layer: usize,
}

impl Names<'_> {
    fn name(&self, name: &str) -> String {
        format!("{}{}.{name}", self.config.family.layers, self.layer)
    }
}

impl Decoder {
    /// Creates a decoder with these heads over these parameters, which computes in `compute`.
    ///
    /// # Errors
    /// Fails if a parameter is missing.
    pub fn new(config: ModelConfig, params: Params, heads: &[Head], compute: DType) -> Result<Self> {
        Self::resolved(Arc::new(config), params, heads.into(), compute, None)
    }

    /// Looks up the parameters of all layers and of their adapters.
    fn resolved(
        config: Arc<ModelConfig>,
        params: Params,
        heads: Arc<[Head]>,
        compute: DType,
        adapters: Option<Arc<Adapters>>,
    ) -> Result<Self> {
        let mut angles: Vec<Angles> = Vec::new();
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let rope = config.sights[layer].rope.as_ref().map(|rope| {
                angles.iter().position(|known| known.rope() == rope).unwrap_or_else(|| {
                    angles.push(Angles::new(rope.clone()));
                    angles.len() - 1
                })
            });
            let names = Names { config: &config, adapters: adapters.as_deref(), layer };
            layers.push(Layer::of(&params, &names, rope)?);
        }
        let family = config.family;
        let language_head = match heads.contains(&Head::Language) && !config.tied {
            true => Some(Weight::of(&params, family.language_head)?),
            false => None,
        };
        Ok(Self {
            embed: Embed::of(&config, &params, adapters.as_deref())?,
            layers,
            last_norm: match config.last_norm {
                true => Some(Norm::of(&params, family.last_norm, family.norm, config.norm_eps)?),
                false => None,
            },
            projection: match config.projections() {
                Some(projections) => Some(Linear::of(&params, projections.out, adapters.as_deref())?),
                None => None,
            },
            language_head,
            head_adapter: match heads.contains(&Head::Language) {
                true => Adapter::find(&params, language_module(&config), adapters.as_deref())?,
                false => None,
            },
            angles,
            config,
            params,
            heads,
            compute,
            adapters,
            originals: Params::default(),
            step: None,
            checkpointing: Checkpointing::Off,
        })
    }

    /// Loads the body of a folder's model, frozen, without heads.
    ///
    /// # Errors
    /// Fails if a file is missing or broken, if a parameter is missing or has another shape, and if the
    /// family is not supported.
    pub fn load(backend: &dyn Backend, dir: &Path, compute: DType) -> Result<Self> {
        folder::check(dir)?;
        let how = Loading::frozen(backend, compute);
        Self::read(ModelConfig::from_dir(dir)?, &Checkpoint::open(dir)?, &[], how)
    }

    /// Reads the tensors of a checkpoint into a decoder of this config with these heads.
    ///
    /// # Errors
    /// Fails as [`Decoder::load`] does, and if the checkpoint lacks a head.
    pub fn read(
        config: ModelConfig,
        checkpoint: &Checkpoint,
        heads: &[Head],
        how: Loading<'_>,
    ) -> Result<Self> {
        loading::read(config, checkpoint, heads, how, Headless::Refused)
    }

    /// Returns the configuration of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Returns the element type of the computation.
    pub fn compute(&self) -> DType {
        self.compute
    }

    /// Returns the quantisation of linear weights; `None` if none is quantised.
    pub fn quantisation(&self) -> Option<Quantisation> {
        self.params.iter_quantised().next().map(|(_, matrix)| matrix.method())
    }

    /// Returns the parameters, including those of heads, by their names in the checkpoint.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Returns the same model over other handles to its parameters.
    pub fn with_params(&self, params: Params) -> Self {
        Self {
            config: Arc::clone(&self.config),
            heads: Arc::clone(&self.heads),
            compute: self.compute,
            embed: self.embed.over(&params),
            layers: self.layers.iter().map(|layer| layer.over(&params)).collect(),
            last_norm: self.last_norm.as_ref().map(|norm| norm.over(&params)),
            projection: self.projection.as_ref().map(|projection| projection.over(&params)),
            language_head: self.language_head.as_ref().map(|head| head.over(&params)),
            head_adapter: self.head_adapter.as_ref().map(|adapter| adapter.over(&params)),
            angles: self.angles.clone(),
            adapters: self.adapters.clone(),
            originals: self.originals.clone(),
            step: self.step,
            checkpointing: self.checkpointing,
            params,
        }
    }

    /// Returns the same weights with a changed config.
    pub fn with_config(mut self, change: impl FnOnce(&mut ModelConfig)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }

    /// Returns the same model over other parameters and adapters; `originals` is the base's version of the
    /// modules to save.
    ///
    /// # Errors
    /// Fails if a parameter is missing.
    pub(super) fn with_adapters(
        &self,
        params: Params,
        adapters: Option<Arc<Adapters>>,
        originals: Params,
    ) -> Result<Self> {
        let (config, heads) = (Arc::clone(&self.config), Arc::clone(&self.heads));
        let resolved = Self::resolved(config, params, heads, self.compute, adapters)?;
        Ok(Self { originals, checkpointing: self.checkpointing, ..resolved })
    }

    /// Returns the base's version of the modules that adapters save.
    pub(super) fn originals(&self) -> &Params {
        &self.originals
    }

    /// Returns the adapters, if the model has any.
    pub fn adapters(&self) -> Option<&Adapters> {
        self.adapters.as_deref()
    }

    /// Returns the heads.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// Returns the same model with gradient checkpointing: layers run again in the backward pass instead of
    /// saving tensors. Gradients have the same bits on a CPU.
    pub fn checkpointing(mut self, checkpointing: Checkpointing) -> Self {
        self.checkpointing = checkpointing;
        self
    }

    /// Returns the same weights without history and dropout. An optimiser that updates them changes the
    /// result too.
    pub fn detached(&self) -> Self {
        Self { step: None, ..self.with_params(self.params.detached()) }
    }

    /// Returns the same weights without history and dropout, already cast to the type of the computation, so
    /// that many passes between updates do not repeat the casts. A weight that needs no cast shares its
    /// storage, so a later update reaches it.
    ///
    /// # Errors
    /// Fails if there is not enough memory.
    pub fn cast_once(&self) -> Result<Self> {
        // Adapters compute in f32, and their base is stored in the type of the computation already.
        if self.adapters.is_some() {
            return Ok(self.detached());
        }
        let family = self.config.family;
        let params = self.params.cast(|name, param| {
            let is_vector = param.shape().len() < 2;
            let reads_wide = self.embed.reads_wide(&self.config, name)
                || (is_vector && family.norm == NormKind::RmsAroundOne)
                || held(name, &[1, 1], self.compute) != self.compute;
            if reads_wide { param.dtype() } else { self.compute }
        })?;
        Ok(Self { step: None, ..self.with_params(params) })
    }

    /// Returns the same weights, the trained ones as leaves that get gradients. Adapters apply their
    /// configured dropout; [`Decoder::at_step`] sets the step.
    pub fn trainable(&self) -> Self {
        self.with_params(self.params.variables()).at_step(0)
    }

    /// Selects the dropout masks of a training step: the masks of a step are always the same.
    pub fn at_step(mut self, step: u64) -> Self {
        self.step = Some(step);
        self
    }

    /// Returns a frozen copy that computes in `dtype`. Its matrices are stored in that type, vectors and
    /// scalar heads in f32. Later updates of the original do not reach it.
    pub fn snapshot(&self, dtype: DType) -> Result<Self> {
        let params = self.params.snapshot(|name, shape| held(name, shape, dtype))?;
        Ok(Self { compute: dtype, step: None, ..self.with_params(params) })
    }
}
