//! AdamW with decoupled decay over named parameters, with resumable state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::{AdamWStep, Slots};
use crate::params::{Gradients, Params};

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
        let zeros = |(name, param): (&str, &crate::Tensor)| {
            if param.dtype() != DType::F32 {
                let message = format!("has the type {}; a trained parameter must be f32", param.dtype());
                return Err(Error::invalid(name, message));
            }
            let host = HostTensor::f32(param.shape(), vec![0.0; param.size()])?;
            let slots = Slots {
                param: param.detach(),
                mean: param.constant(&host)?,
                variance: param.constant(&host)?,
            };
            Ok((name.to_owned(), slots))
        };
        let slots: BTreeMap<String, Slots> = params.iter_trained().map(zeros).collect::<Result<_>>()?;
        match slots.is_empty() {
            true => Err(Error::invalid("optimiser", "the model has no parameter to train: all are frozen")),
            false => Ok(Self { config, slots, step: 0 }),
        }
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
            // Biases and norms are vectors; transformers does not decay them.
            let weight_decay = if slots.param.shape().len() < 2 { 0.0 } else { weight_decay };
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
    pub fn restore(&mut self, mut state: BTreeMap<String, HostTensor>, step: u64) -> Result<()> {
        for (name, slots) in &self.slots {
            for (moment, tensor) in [("mean", &slots.mean), ("variance", &slots.variance)] {
                let key = format!("{moment}.{name}");
                let missing = || Error::invalid(key.clone(), "is missing from the optimiser's state");
                let host = state.remove(&key).ok_or_else(missing)?;
                if host.shape() != tensor.shape() {
                    let message = format!("has shape {:?}, expected {:?}", host.shape(), tensor.shape());
                    return Err(Error::invalid(key, message));
                }
                tensor.assign(&tensor.constant(&host)?)?;
            }
        }
        self.step = step;
        Ok(())
    }
}
