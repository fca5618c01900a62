//! AdamW with decoupled decay over named parameters, with resumable state.

mod layout;
mod sliced;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::{AdamWStep, Slots};
use crate::params::{Gradients, Params};

pub use layout::slice_of;
pub use sliced::{LaneSums, SliceGradient, SlicedAdamW, halves};

/// The constants of AdamW; the defaults are those of `transformers.TrainingArguments`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// ε in the denominator.
    pub eps: f64,
    /// Decoupled decay, applied to matrices but not to biases and norms, as in `transformers`.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// Returns the factor that reduces gradients of this global norm to at most `max_norm`
/// (`torch.nn.utils.clip_grad_norm_`).
pub fn clip_scale(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

/// The optimiser of the trained parameters of a model: f32 parameters and moments, updated in place.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    slots: BTreeMap<String, Slots>,
    step: u64,
}

impl AdamW {
    /// Creates an optimiser of the trained parameters among these, with zero moments.
    ///
    /// # Errors
    /// Fails if none of the parameters is trained, and if a trained one is not f32.
    pub fn new(config: AdamWConfig, params: &Params) -> Result<Self> {
        check_trainable(params)?;
        let zeros = |(name, param): (&str, &crate::Tensor)| {
            let host = HostTensor::f32(param.shape(), vec![0.0; param.size()])?;
            let slots = Slots {
                param: param.detach(),
                mean: param.constant(&host)?,
                variance: param.constant(&host)?,
            };
            Ok((name.to_owned(), slots))
        };
        let slots = params.iter_trained().map(zeros).collect::<Result<_>>()?;
        Ok(Self { config, slots, step: 0 })
    }

    /// Updates every parameter of the optimiser; gradients are first multiplied by `grad_scale`.
    ///
    /// # Errors
    /// Fails if a gradient belongs to no parameter of the optimiser, and if a parameter has no gradient. No
    /// parameter has changed then.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, grad_scale: f64) -> Result<()> {
        if let Some((name, _)) = gradients.iter().find(|(name, _)| !self.slots.contains_key(*name)) {
            return Err(Error::invalid(name, "has a gradient, but the optimiser does not train it"));
        }
        let names = || self.slots.keys().filter(|name| gradients.get(name).is_err()).cloned();
        if names().next().is_some() {
            return Err(Error::MissingGradient { names: names().collect() });
        }
        self.step += 1;
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        for (name, slots) in &self.slots {
            let gradient = gradients.get(name)?;
            let weight_decay = if decays(&slots.param.shape()) { weight_decay } else { 0.0 };
            let step = AdamWStep { lr, beta1, beta2, eps, weight_decay, step: self.step, grad_scale };
            gradient.kernels().adamw(&step, slots, gradient)?;
        }
        Ok(())
    }

    /// Returns the number of completed steps.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Returns the moments, as `mean.NAME` and `variance.NAME`.
    pub fn state(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut state = BTreeMap::new();
        for (name, slots) in &self.slots {
            state.insert(format!("mean.{name}"), slots.mean.read()?);
            state.insert(format!("variance.{name}"), slots.variance.read()?);
        }
        Ok(state)
    }

    /// Restores the state of [`AdamW::state`] after `step` steps.
    ///
    /// # Errors
    /// Fails if a moment is missing or has another shape than its parameter.
    pub fn restore(&mut self, state: &BTreeMap<String, HostTensor>, step: u64) -> Result<()> {
        for (name, slots) in &self.slots {
            for (of, tensor) in [("mean", &slots.mean), ("variance", &slots.variance)] {
                tensor.assign(&tensor.constant(moment(state, of, name, &tensor.shape())?)?)?;
            }
        }
        self.step = step;
        Ok(())
    }
}

/// Returns an error if no parameter is trained, or a trained one is not f32.
fn check_trainable(params: &Params) -> Result<()> {
    if params.iter_trained().next().is_none() {
        return Err(Error::invalid("optimiser", "the model has no parameter to train: all are frozen"));
    }
    match params.iter_trained().find(|(_, param)| param.dtype() != DType::F32) {
        Some((name, param)) => {
            let message = format!("has the type {}; a trained parameter must be f32", param.dtype());
            Err(Error::invalid(name, message))
        }
        None => Ok(()),
    }
}

/// Returns true if parameters of this shape decay. Biases and norms are vectors; transformers does not decay them.
fn decays(shape: &[usize]) -> bool {
    shape.len() >= 2
}

/// A moment of a parameter of this shape in an optimiser's state.
fn moment<'a>(
    state: &'a BTreeMap<String, HostTensor>,
    moment: &str,
    name: &str,
    shape: &[usize],
) -> Result<&'a HostTensor> {
    let key = format!("{moment}.{name}");
    match state.get(&key) {
        None => Err(Error::invalid(key, "is missing from the optimiser's state")),
        Some(host) if host.shape() != shape => {
            Err(Error::invalid(key, format!("has shape {:?}, expected {shape:?}", host.shape())))
        }
        Some(host) => Ok(host),
    }
}
