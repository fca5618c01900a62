//! The decoder, written once: families differ in data, backends in kernels.

mod attention;
mod embed;
mod layer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use self::embed::Embed;
use self::layer::Layer;
use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::{Ask, TokenStats};
use crate::model::checkpoint::Checkpoint;
use crate::model::config::ModelConfig;
use crate::model::layers::{Norm, Weight};
use crate::model::loading::{self, Headless, Loading, held};
use crate::model::parameters::{Head, parameters};
use crate::model::rope::Angles;
use crate::model::{Rows, folder};
use crate::params::Params;
use crate::tensor::Tensor;
use crate::tree::{Packed, SequenceTree};

/// A decoder-only transformer.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: Arc<ModelConfig>,
    params: Params,
    heads: Arc<[Head]>,
    compute: DType,
    embed: Embed,
    layers: Vec<Layer>,
    last_norm: Norm,
    /// The language-model head, unless it is tied or absent.
    language_head: Option<Weight>,
    /// The rotary positions that layers turn by, each once.
    angles: Vec<Angles>,
}

/// State that all layers of one forward pass share.
struct Pass<'a> {
    tree: &'a SequenceTree,
    /// cos and sin of every row, `[rows, half of the dimensions that turn]`, for each of the decoder's rotary positions.
    angles: Vec<[Tensor; 2]>,
}

/// The names of the parameters of one layer.
struct Names<'a> {
    config: &'a ModelConfig,
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
    /// A parameter that is missing.
    pub fn new(config: ModelConfig, params: Params, heads: &[Head], compute: DType) -> Result<Self> {
        let mut angles: Vec<Angles> = Vec::new();
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let rope = config.sights[layer].rope.as_ref().map(|rope| {
                angles.iter().position(|known| known.rope() == rope).unwrap_or_else(|| {
                    angles.push(Angles::new(rope.clone()));
                    angles.len() - 1
                })
            });
            layers.push(Layer::of(&config, &params, &Names { config: &config, layer }, rope)?);
        }
        let family = config.family;
        let language_head = match heads.contains(&Head::Language) && !config.tied {
            true => Some(Weight::of(&params, family.language_head)?),
            false => None,
        };
        Ok(Self {
            embed: Embed::of(&config, &params)?,
            layers,
            last_norm: Norm::of(&params, family.last_norm, family.norm, config.norm_eps)?,
            language_head,
            angles,
            config: Arc::new(config),
            params,
            heads: heads.into(),
            compute,
        })
    }

    /// Loads the body of a folder's model, frozen; heads are neither needed nor read.
    ///
    /// # Errors
    /// A missing or broken file, a parameter that is missing or has another shape, a family not served.
    pub fn load(backend: &dyn Backend, dir: &Path, compute: DType) -> Result<Self> {
        folder::check(dir)?;
        let how = Loading::frozen(backend, compute);
        Self::read(ModelConfig::from_dir(dir)?, &Checkpoint::open(dir)?, &[], how)
    }

    /// Reads the tensors of a checkpoint into a decoder of this config with these heads.
    ///
    /// # Errors
    /// As [`Decoder::load`]; a head that the checkpoint lacks.
    pub fn read(
        config: ModelConfig,
        checkpoint: &Checkpoint,
        heads: &[Head],
        how: Loading<'_>,
    ) -> Result<Self> {
        loading::read(config, checkpoint, heads, how, Headless::Refused)
    }

    /// Returns the shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Returns the element type that the decoder computes in.
    pub fn compute(&self) -> DType {
        self.compute
    }

    /// Returns the parameters, those of heads included, by their names in the checkpoint.
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
            last_norm: self.last_norm.over(&params),
            language_head: self.language_head.as_ref().map(|head| head.over(&params)),
            angles: self.angles.clone(),
            params,
        }
    }

    /// Returns the same weights with a changed config.
    pub fn with_config(mut self, change: impl FnOnce(&mut ModelConfig)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }

    /// Returns the same weights without history. An optimiser that updates them changes the result too.
    pub fn detached(&self) -> Self {
        self.with_params(self.params.detached())
    }

    /// Returns the same weights, the trained ones as leaves that get gradients.
    pub fn trainable(&self) -> Self {
        self.with_params(self.params.variables())
    }

    /// Returns a frozen copy that computes in `dtype`. Its matrices are held in that type, vectors and scalar heads in
    /// f32. Later updates of the original do not reach it.
    pub fn snapshot(&self, dtype: DType) -> Result<Self> {
        let params = self.params.snapshot(|name, shape| held(name, shape, dtype))?;
        Ok(Self { compute: dtype, ..self.with_params(params) })
    }

    /// Computes the hidden states after the last norm, `[wanted rows, width]`.
    ///
    /// # Errors
    /// Token ids outside the vocabulary, positions past the model's last one.
    pub fn forward(&self, batch: &Packed, rows: Rows<'_>) -> Result<Tensor> {
        let mut x = self.embed.forward(&self.config, batch)?.cast(self.compute)?;
        let pass = self.pass(&batch.tree, &x)?;
        for (at, layer) in self.layers.iter().enumerate() {
            let last = at + 1 == self.layers.len();
            x = layer.forward(&x, &pass, if last { rows } else { Rows::All })?;
        }
        self.last_norm.forward(&x)
    }

    /// Prepares what layers share, on the device and in the type of x.
    fn pass<'a>(&self, tree: &'a SequenceTree, x: &Tensor) -> Result<Pass<'a>> {
        let tables = |angles: &Angles| {
            let [cos, sin] = angles.of(tree)?;
            Ok([x.constant(&cos)?.cast(x.dtype())?, x.constant(&sin)?.cast(x.dtype())?])
        };
        Ok(Pass { tree, angles: self.angles.iter().map(tables).collect::<Result<_>>()? })
    }

    /// Returns the matrix whose product with hidden states gives logits, `[vocabulary, width]`.
    ///
    /// # Errors
    /// The model was loaded without a language-model head.
    pub fn language_head(&self) -> Result<&Tensor> {
        match &self.language_head {
            Some(head) => Ok(head.tensor()),
            None if self.config.tied => Ok(self.embed.table()),
            None => Err(Error::invalid(self.config.family.language_head, "the model was loaded without it")),
        }
    }

    /// Computes the logits of hidden states, `[rows, vocabulary]`.
    ///
    /// # Errors
    /// As [`Decoder::language_head`]; a config that bounds logits.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.refuse_cap()?;
        hidden.kernels().linear(hidden, &self.language_head()?.cast(self.compute)?, None)
    }

    /// Computes statistics of tokens from hidden states, without ever holding the logits.
    ///
    /// # Errors
    /// As [`Decoder::language_head`]; a question that does not fit.
    pub fn token_stats(&self, hidden: &Tensor, ask: &Ask<'_>) -> Result<TokenStats> {
        hidden.kernels().token_stats(hidden, &self.language_head()?.cast(self.compute)?, ask)
    }

    /// Refuses logits that the config bounds by tanh.
    fn refuse_cap(&self) -> Result<()> {
        match self.config.logit_cap {
            None => Ok(()),
            Some(cap) => Err(Error::invalid(
                "final_logit_softcapping",
                format!("{cap}; logits that are capped are not served"),
            )),
        }
    }

    /// Returns the trained weights by name, as files store them.
    pub fn tensors(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut tensors = BTreeMap::new();
        for parameter in parameters(&self.config, &self.heads) {
            let host = parameter.turned(self.params.get(&parameter.name)?.read()?)?;
            tensors.insert(parameter.name, host);
        }
        Ok(tensors)
    }

    /// Overwrites the weights with those of [`Decoder::tensors`].
    ///
    /// # Errors
    /// A weight that is missing or has another shape; no weight has changed then.
    pub fn restore(&self, mut tensors: BTreeMap<String, HostTensor>) -> Result<()> {
        let mut fitting = Vec::new();
        for parameter in parameters(&self.config, &self.heads) {
            let name = &parameter.name;
            let missing = || Error::invalid(name, "is missing from the checkpoint");
            let host = parameter.turned(tensors.remove(name).ok_or_else(missing)?)?;
            if host.shape() != parameter.shape {
                let message = format!("has shape {:?}, expected {:?}", host.shape(), parameter.shape);
                return Err(Error::invalid(name, message));
            }
            fitting.push((self.params.get(name)?, host));
        }
        for (param, host) in fitting {
            param.assign(&param.constant(&host)?)?;
        }
        Ok(())
    }
}
