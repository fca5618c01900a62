//! The decoder, written once: families differ in data, backends in kernels.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::{Ask, Attention, Mask};
use crate::model::checkpoint::Checkpoint;
use crate::model::config::{ModelConfig, Residual, Sight};
use crate::model::family::{EmbeddingScale, Mlp, NormKind, Positions, Qkv};
use crate::model::loading::{self, Headless, Loading, held};
use crate::model::parameters::{Head, parameters};
use crate::model::rope::Rope;
use crate::model::{Rows, folder, select};
use crate::params::Params;
use crate::tensor::{Tensor, Unary};
use crate::tree::{Packed, SequenceTree};

/// A decoder-only transformer.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: Arc<ModelConfig>,
    params: Params,
    heads: Arc<[Head]>,
    compute: DType,
}

/// What all layers of one forward pass share.
struct Pass<'a> {
    tree: &'a SequenceTree,
    /// cos and sin of every row, `[rows, half of the dimensions that turn]`, for each kind of rotary positions.
    angles: Vec<(&'a Rope, [Tensor; 2])>,
}

impl Decoder {
    /// Creates a decoder over these parameters, which computes in `compute`.
    pub fn new(config: ModelConfig, params: Params, heads: &[Head], compute: DType) -> Self {
        Self { config: Arc::new(config), params, heads: heads.into(), compute }
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

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The element type that it computes in.
    pub fn compute(&self) -> DType {
        self.compute
    }

    /// The same model with other handles to its parameters.
    pub fn with_params(&self, params: Params) -> Self {
        Self { params, ..self.clone() }
    }

    /// The same weights with a changed config.
    pub fn with_config(mut self, change: impl FnOnce(&mut ModelConfig)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }

    /// The matrix that hidden states meet for logits, `[vocabulary, width]`.
    ///
    /// # Errors
    /// The model was loaded without a language-model head.
    pub fn language_head(&self) -> Result<&Tensor> {
        match self.config.tied {
            true => self.params.get(&format!("{}.weight", self.config.family.embedding)),
            false => self.params.get(self.config.family.language_head),
        }
    }

    /// Logits of hidden states, `[rows, vocabulary]`.
    ///
    /// # Errors
    /// As [`Decoder::language_head`]; a config that bounds logits.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.refuse_cap()?;
        hidden.kernels().linear(hidden, &self.language_head()?.cast(self.compute)?, None)
    }

    /// ln p of the targets, `[rows]`, without ever holding the logits.
    ///
    /// # Errors
    /// As [`Decoder::logits`].
    pub fn log_probs(&self, hidden: &Tensor, targets: &[u32]) -> Result<Tensor> {
        self.refuse_cap()?;
        let rows: Vec<u32> = (0..targets.len() as u32).collect();
        let head = self.language_head()?.cast(self.compute)?;
        Ok(hidden.kernels().token_stats(hidden, &head, &Ask::log_probs(&rows, targets))?.log_probs)
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

    fn embed(&self, batch: &Packed) -> Result<Tensor> {
        let family = self.config.family;
        let vocabulary = self.config.vocabulary;
        if let Some(id) = batch.ids.iter().find(|id| **id as usize >= vocabulary) {
            return Err(Error::invalid(
                "token id",
                format!("{id} is outside the model's vocabulary of {vocabulary}"),
            ));
        }
        let table = self.params.get(&format!("{}.weight", family.embedding))?;
        let ids = table.constant(&HostTensor::indices(batch.ids.clone()))?;
        let mut x = table.kernels().embedding(table, &ids)?.cast(DType::F32)?; // [rows, width]
        if family.embedding_scale == EmbeddingScale::RootWidth {
            x = x.affine((self.config.width as f64).sqrt(), 0.0)?;
        }
        if let Positions::Learned(name) = family.positions {
            let positions = batch.tree.positions();
            if let Some(position) = positions.iter().find(|at| **at as usize >= self.config.max_positions) {
                let message =
                    format!("{position} is past the model's last ({})", self.config.max_positions - 1);
                return Err(Error::invalid("position", message));
            }
            let table = self.params.get(&format!("{name}.weight"))?;
            let positions = table.constant(&HostTensor::indices(positions))?;
            x = x.add(&table.kernels().embedding(table, &positions)?.cast(DType::F32)?)?;
        }
        x.cast(self.compute)
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let weight = self.params.get(&format!("{name}.weight"))?.cast(self.compute)?;
        let bias = format!("{name}.bias");
        let bias = match self.params.contains(&bias) {
            true => Some(self.params.get(&bias)?.cast(self.compute)?),
            false => None,
        };
        x.kernels().linear(x, &weight, bias.as_ref())
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let weight = self.params.get(&format!("{name}.weight"))?;
        let eps = self.config.norm_eps;
        match self.config.family.norm {
            NormKind::Rms => x.kernels().rms_norm(x, &weight.cast(self.compute)?, eps),
            NormKind::RmsAroundOne => {
                x.kernels().rms_norm(x, &weight.affine(1.0, 1.0)?.cast(self.compute)?, eps)
            }
            NormKind::Layer => {
                let weight = weight.cast(self.compute)?;
                let bias = self.params.get(&format!("{name}.bias"))?.cast(self.compute)?;
                x.kernels().layer_norm(x, &weight, &bias, eps)
            }
        }
    }

    /// The norm of every head on its own, x `[rows, heads, head_dim]`.
    fn norm_heads(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let (shape, dim) = (x.shape(), self.config.head_dim);
        self.norm(&x.reshape([x.size() / dim, dim])?, name)?.reshape(shape)
    }

    /// One layer; x `[rows, width]` → `[wanted rows, width]`.
    fn layer(&self, layer: usize, x: &Tensor, pass: &Pass<'_>, rows: Rows<'_>) -> Result<Tensor> {
        let family = self.config.family;
        let at = |name: &str| format!("{}{layer}.{name}", family.layers);
        let sight = &self.config.sights[layer];
        let attended = self.attention(&at, &self.norm(x, &at(family.attention_norm))?, sight, pass, rows)?;
        let mut attended = self.linear(&attended, &at(family.output))?;
        if let Some([name, _]) = family.post_norms {
            attended = self.norm(&attended, &at(name))?;
        }
        let x = select(x, rows)?;
        match self.config.residual {
            Residual::Sequential => {
                let x = x.add(&attended)?;
                x.add(&self.feed_forward(&at, &self.norm(&x, &at(family.mlp_norm))?)?)
            }
            Residual::Parallel => {
                let fed = self.feed_forward(&at, &self.norm(&x, &at(family.mlp_norm))?)?;
                fed.add(&attended)?.add(&x)
            }
        }
    }

    /// x `[rows, width]`, normalised → `[rows, width]`.
    fn feed_forward(&self, at: &dyn Fn(&str) -> String, x: &Tensor) -> Result<Tensor> {
        let family = self.config.family;
        let hidden = match &family.mlp {
            Mlp::Gated { gate, up, .. } => {
                let (gate, up) = (self.linear(x, &at(gate))?, self.linear(x, &at(up))?);
                match self.config.activation {
                    Unary::Silu => gate.kernels().swiglu(&gate, &up)?,
                    op @ (Unary::Gelu | Unary::GeluTanh) => gate.kernels().gelu(&gate, op)?.mul(&up)?,
                    other => gate.unary(other)?.mul(&up)?,
                }
            }
            Mlp::Plain { up, .. } => {
                let up = self.linear(x, &at(up))?;
                match self.config.activation {
                    op @ (Unary::Gelu | Unary::GeluTanh) => up.kernels().gelu(&up, op)?,
                    other => up.unary(other)?,
                }
            }
        };
        let (Mlp::Gated { down, .. } | Mlp::Plain { down, .. }) = &family.mlp;
        let fed = self.linear(&hidden, &at(down))?;
        match family.post_norms {
            Some([_, name]) => self.norm(&fed, &at(name)),
            None => Ok(fed),
        }
    }

    /// x `[rows, width]`, normalised → `[wanted rows, heads · head_dim]`.
    fn attention(
        &self,
        at: &dyn Fn(&str) -> String,
        x: &Tensor,
        sight: &Sight,
        pass: &Pass<'_>,
        rows: Rows<'_>,
    ) -> Result<Tensor> {
        let ModelConfig { heads, kv_heads, head_dim, .. } = *self.config;
        let split = |x: &Tensor, heads: usize| x.reshape([x.shape()[0], heads, head_dim]);
        let [mut q, mut k, v] = match &self.config.family.qkv {
            Qkv::Separate([q, k, v]) => [
                split(&self.linear(&select(x, rows)?, &at(q))?, heads)?,
                split(&self.linear(x, &at(k))?, kv_heads)?,
                split(&self.linear(x, &at(v))?, kv_heads)?,
            ],
            Qkv::Fused(name) => {
                let all = self.linear(x, &at(name))?.reshape([x.shape()[0], 3 * heads, head_dim])?;
                let part = |at: usize| all.narrow(1, at * heads, heads);
                [select(&part(0)?, rows)?, part(1)?, part(2)?]
            }
            Qkv::FusedByHead(name) => {
                let all = self.linear(x, &at(name))?.reshape([x.shape()[0], heads, 3 * head_dim])?;
                let part = |at: usize| all.narrow(2, at * head_dim, head_dim);
                [select(&part(0)?, rows)?, part(1)?, part(2)?]
            }
        }; // each [rows, heads, head_dim]
        if let Some([q_norm, k_norm]) = self.config.family.head_norms {
            q = self.norm_heads(&q, &at(q_norm))?;
            k = self.norm_heads(&k, &at(k_norm))?;
        }
        let angles = pass.angles.iter().find(|(rope, _)| sight.rope.as_ref() == Some(*rope));
        if let Some((_, [cos, sin])) = angles {
            q = rotate(&q, &select(cos, rows)?, &select(sin, rows)?)?;
            k = rotate(&k, cos, sin)?;
        }
        let queries = match rows {
            Rows::All => None,
            Rows::Only(rows) => Some(rows),
        };
        let how = Attention { scale: sight.scale, mask: Mask::Causal { window: sight.window }, queries };
        let attended = q.kernels().attention([&q, &k, &v], pass.tree, &how)?;
        attended.reshape([attended.shape()[0], heads * head_dim])
    }
}

/// Turns as many of every head's first dimensions as there are angles for; x `[rows, heads, head_dim]`.
fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (dim, turning) = (x.shape()[2], 2 * cos.shape()[1]);
    if turning == dim {
        return x.kernels().rotary(x, cos, sin);
    }
    let turned = x.kernels().rotary(&x.narrow(2, 0, turning)?, cos, sin)?;
    Tensor::concat(&[&turned, &x.narrow(2, turning, dim - turning)?], 2)
}

impl Decoder {
    /// Returns the parameters, by their names in the checkpoint.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Computes the hidden states after the last norm, `[wanted rows, width]`.
    ///
    /// # Errors
    /// Token ids outside the vocabulary, positions past the model's last one.
    pub fn forward(&self, batch: &Packed, rows: Rows<'_>) -> Result<Tensor> {
        let mut x = self.embed(batch)?;
        let mut angles: Vec<(&Rope, [Tensor; 2])> = Vec::new();
        for rope in self.config.sights.iter().filter_map(|sight| sight.rope.as_ref()) {
            if angles.iter().all(|(known, _)| *known != rope) {
                let [cos, sin] = rope.tables(&batch.tree)?;
                let angle = |table| x.constant(&table)?.cast(self.compute);
                angles.push((rope, [angle(cos)?, angle(sin)?]));
            }
        }
        let pass = Pass { tree: &batch.tree, angles };
        let last = self.config.layers - 1;
        for layer in 0..self.config.layers {
            x = self.layer(layer, &x, &pass, if layer == last { rows } else { Rows::All })?;
        }
        self.norm(&x, self.config.family.last_norm)
    }

    /// Returns the same weights without history. An optimiser that updates them changes the result too.
    pub fn detached(&self) -> Self {
        self.with_params(self.params.detached())
    }

    /// Returns the same weights, the trained ones as leaves that get gradients.
    pub fn trainable(&self) -> Self {
        self.with_params(self.params.variables())
    }

    /// Returns a frozen copy that computes in `dtype`. Its matrices are held in that type, vectors and heads of
    /// scores in f32. Later updates of the original do not reach it.
    pub fn snapshot(&self, dtype: DType) -> Result<Self> {
        let params = self.params.snapshot(|name, shape| held(name, shape, dtype))?;
        Ok(Self { params, compute: dtype, ..self.clone() })
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
