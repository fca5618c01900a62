//! Low-rank adapters (LoRA, arXiv 2106.09685): y = x·Wᵀ + s·(dropout(x)·Aᵀ)·Bᵀ over a frozen W.
//!
//! Adapters are ordinary parameters beside those of the base, `NAME.lora_A.weight` `[r, in]` and
//! `NAME.lora_B.weight` `[out, r]`, so that optimiser, gradients and checkpoints need no special cases.
//! Names, scales, targets and files follow PEFT.

mod base;
pub mod config;
mod dropout;
mod experts;
mod modules;
mod naming;
mod patterns;
pub mod peft;
mod peft_config;
mod rules;
mod targets;
mod tensors;
mod trainer_notes;
mod tying;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use config::{LoraConfig, Modules};
pub use trainer_notes::{FILE as TRAINER_NOTES, quantisation};

pub(super) use self::base::Base;
pub(super) use self::dropout::{Dropout, Noise};
use self::naming::{AdapterLayout, Naming};
use self::targets::Targets;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::config::ModelConfig;
use crate::model::decoder::Decoder;
use crate::model::layers::Weight;
use crate::model::parameters::{Head, Parameter, parameters};
use crate::params::Params;
use crate::tensor::Tensor;

/// The adapters of a decoder: their targets and scales.
#[derive(Debug, Clone)]
pub struct Adapters {
    config: LoraConfig,
    base: Base,
    /// The seed of dropout masks.
    seed: u64,
    targets: Targets,
    naming: Naming,
}

impl Adapters {
    /// Returns the configuration.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Returns the folder of the base, as given.
    pub fn base(&self) -> &Path {
        &self.base.dir
    }

    /// Lists the parameters that training changes: matrices A and B of every target, and the modules to save.
    pub(super) fn parameters(&self, config: &ModelConfig, heads: &[Head]) -> Vec<Parameter> {
        let gaussian = self.config.init_lora_weights == "gaussian";
        let mut list = Vec::new();
        for parameter in parameters(config, heads) {
            if let Some(target) = parameter.module().and_then(|module| self.targets.adapted.get(module)) {
                let [a, b] = parameter.adapter(target.rank, gaussian);
                list.extend([a, b]);
            }
            if self.targets.saved.contains(&parameter.name) {
                list.push(parameter);
            }
        }
        if let (None, Some(target)) = (Head::Language.parameter(config), self.head_target(config)) {
            let tied = Parameter::tied_head(config);
            list.extend(tied.adapter(target.rank, gaussian));
        }
        list
    }

    /// Returns the names that the adapters use for the modules of a decoder of this shape.
    fn layout<'a>(&self, shape: &'a ModelConfig, heads: &'a [Head]) -> AdapterLayout<'a> {
        AdapterLayout { shape, heads, naming: self.naming }
    }

    /// Returns the adapter of the language-model head, if it has one.
    fn head_target(&self, config: &ModelConfig) -> Option<&targets::Target> {
        self.targets.adapted.get(language_module(config))
    }

    /// Returns whether training applies dropout to the adapters' inputs.
    pub(super) fn has_dropout(&self) -> bool {
        self.config.lora_dropout > 0.0
    }

    /// Returns the seed of dropout masks.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }
}

/// Returns the module of the language-model head, tied or not, by the name of its parameter.
pub(super) fn language_module(config: &ModelConfig) -> &'static str {
    config.family.language_head.trim_end_matches(".weight")
}

/// The adapter of one linear layer.
#[derive(Debug, Clone)]
pub(super) struct Adapter {
    module: Arc<str>,
    a: Weight,
    b: Weight,
    scale: f64,
    dropout: f64,
}

impl Adapter {
    /// Looks up the adapter of a module, if it has one.
    pub fn find(params: &Params, module: &str, adapters: Option<&Adapters>) -> Result<Option<Self>> {
        let Some((adapters, target)) = adapters.and_then(|all| Some((all, all.targets.adapted.get(module)?)))
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            module: module.into(),
            a: Weight::of(params, &format!("{module}.lora_A.weight"))?,
            b: Weight::of(params, &format!("{module}.lora_B.weight"))?,
            scale: target.scale,
            dropout: adapters.config.lora_dropout,
        }))
    }

    pub fn over(&self, params: &Params) -> Self {
        Self { module: Arc::clone(&self.module), a: self.a.over(params), b: self.b.over(params), ..*self }
    }

    /// Returns A and B.
    pub fn tensors(&self) -> [&Tensor; 2] {
        [self.a.tensor(), self.b.tensor()]
    }

    /// Adds (s·dropout(x)·Aᵀ)·Bᵀ to y; the sum has the type of y. A and B are f32, and so is their
    /// arithmetic, as in PEFT.
    pub fn add(&self, x: &Tensor, y: &Tensor, noise: Noise<'_>) -> Result<Tensor> {
        let mut x = x.cast(DType::F32)?;
        if let Some(mask) = noise.mask(&self.module, self.dropout, x.shape()[1])? {
            x = x.mul(&x.constant(&mask)?)?;
        }
        let low = x.kernels().linear(&x, self.a.tensor(), None)?.affine(self.scale, 0.0)?;
        let change = low.kernels().linear(&low, self.b.tensor(), None)?;
        y.add(&change.cast(y.dtype())?)
    }

    /// Computes s·B·A in f32, the change of the weight, `[out, in]`.
    pub fn change(&self) -> Result<Tensor> {
        self.b.tensor().matmul(self.a.tensor())?.affine(self.scale, 0.0)
    }
}

/// The values of new adapters.
pub(super) enum Values<'a> {
    /// A from the seed, B zero: the model's function does not change.
    Drawn,
    /// Values read from a folder.
    Stored {
        /// The values by parameter name; those that the adapters take are removed.
        values: &'a mut BTreeMap<String, HostTensor>,
        /// The base class whose module names the folder uses.
        naming: Naming,
    },
}

/// Adds adapters to a decoder. The base is frozen, and the modules to save become trained f32 copies.
///
/// # Errors
/// Fails if the configuration is not supported or matches no module, and if values are missing or have
/// another shape.
pub(super) fn adapt(
    decoder: &Decoder,
    config: LoraConfig,
    base: Base,
    seed: u64,
    mut values: Values<'_>,
) -> Result<Decoder> {
    if decoder.adapters().is_some() {
        return Err(Error::invalid("adapter", "the model has one already; merge it first"));
    }
    let shape = decoder.config();
    let mut layout = AdapterLayout::new(shape, decoder.heads());
    if let Values::Stored { naming, .. } = &values {
        layout.naming = *naming;
    }
    let targets = Targets::find(&config, &layout)?;
    if let Values::Drawn = &values {
        tying::check_new(&config, &layout)?;
        experts::check_new(&config, &layout, &targets)?;
    }
    let naming = layout.naming;
    let mut params = decoder.params().training(|_| false);
    let mut originals = Params::default();
    for name in &targets.saved {
        if let Some(matrix) = decoder.params().quantised(name) {
            let message = format!(
                "names the module of {name}, which is stored in {} and cannot be trained in full",
                matrix.method()
            );
            return Err(Error::invalid("modules_to_save", message));
        }
        let original = params.get(name)?.clone();
        params.insert(name.clone(), original.copied(DType::F32)?);
        originals.insert_frozen(name.clone(), original);
    }
    let adapters = Adapters { config, base, seed, targets, naming };
    let device = params.iter().next().map(|(_, tensor)| tensor.clone());
    let device = device.ok_or_else(|| Error::invalid("adapter", "the model has no parameters"))?;
    for parameter in adapters.parameters(shape, decoder.heads()) {
        let name = &parameter.name;
        let saved = adapters.targets.saved.contains(name);
        let host = match &mut values {
            Values::Drawn if saved => continue,
            Values::Drawn => parameter.random(seed)?,
            Values::Stored { values, .. } => parameter.fitting(values.remove(name))?,
        };
        params.insert(name.clone(), device.constant(&host)?.cast(DType::F32)?);
    }
    let adapted = decoder.with_adapters(params, Some(Arc::new(adapters)), originals)?;
    Ok(adapted.with_config(trainer_notes::drop_of_base))
}

/// Returns the base without its adapters: the same storage, frozen. It is the reference policy of a new
/// adapter.
pub(super) fn without(decoder: &Decoder) -> Result<Decoder> {
    if decoder.adapters().is_none() {
        return Ok(decoder.detached());
    }
    let mut params = Params::default();
    for parameter in parameters(decoder.config(), decoder.heads()) {
        if let Some(matrix) = decoder.params().quantised(&parameter.name) {
            params.insert_quantised(parameter.name, matrix.clone());
            continue;
        }
        let own = decoder.originals().find(&parameter.name);
        let tensor = own.map_or_else(|| decoder.params().get(&parameter.name), Ok)?;
        params.insert_frozen(parameter.name, tensor.detach());
    }
    decoder.with_adapters(params, None, Params::default())
}

/// Returns a model without adapters, all of whose weights are trained, with W + s·B·A in place of every adapted
/// W; the other weights share their storage. A tied language-model head with an adapter is untied, so that the
/// embedding does not change. Quantised matrices are dequantised to f32.
pub(super) fn merged(decoder: &Decoder) -> Result<Decoder> {
    let Some(adapters) = decoder.adapters() else { return Ok(decoder.clone()) };
    let mut config = decoder.config().clone();
    if config.tied && adapters.head_target(&config).is_some() && decoder.heads().contains(&Head::Language) {
        config.tied = false;
    }
    let mut params = Params::default();
    for parameter in parameters(&config, decoder.heads()) {
        let dense;
        let stored = match decoder.params().quantised(&parameter.name) {
            Some(matrix) => {
                dense = matrix.dense(DType::F32)?;
                &dense
            }
            None if parameter.name == config.family.language_head && decoder.config().tied => {
                decoder.language_head()?
            }
            None => decoder.params().get(&parameter.name)?,
        };
        let adapter = match parameter.module() {
            Some(module) => Adapter::find(decoder.params(), module, Some(adapters))?,
            None => None,
        };
        let weight = match adapter {
            Some(adapter) => {
                stored.detach().cast(DType::F32)?.add(&adapter.change()?.detach())?.cast(stored.dtype())?
            }
            None => stored.detach(),
        };
        params.insert(parameter.name, weight);
    }
    Decoder::new(config, params, decoder.heads(), decoder.compute())
}
