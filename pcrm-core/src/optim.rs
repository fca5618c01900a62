//! AdamW with decoupled decay over named parameters, and the state that makes it resumable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Result;
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
    /// Decoupled decay, applied to matrices and not to biases and norms, as `transformers` does.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// What gradients of this global norm are multiplied with so that it becomes at most `max_norm`
/// (`torch.nn.utils.clip_grad_norm_`).
pub fn clip_scale(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

/// The optimiser: fp32 parameters and moments, updated in place.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    slots: BTreeMap<String, Slots>,
    step: u64,
}

impl AdamW {
    /// An optimiser of these parameters, its moments zero.
    ///
    /// # Errors
    /// The backend's.
    pub fn new(config: AdamWConfig, params: &Params) -> Result<Self> {
        let zeros = |(name, param): (&str, &crate::Tensor)| {
            let host = HostTensor::f32(param.shape(), vec![0.0; param.size()])?;
            let slots = Slots {
                param: param.detach(),
                mean: param.constant(&host)?,
                variance: param.constant(&host)?,
            };
            Ok((name.to_owned(), slots))
        };
        Ok(Self { config, slots: params.iter().map(zeros).collect::<Result<_>>()?, step: 0 })
    }

    /// Updates every parameter that has a gradient; gradients are first multiplied with `grad_scale`.
    ///
    /// # Errors
    /// The backend's.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, grad_scale: f64) -> Result<()> {
        self.step += 1;
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        for (name, gradient) in gradients.iter() {
            let Some(slots) = self.slots.get(name) else { continue };
            // Biases and norms are vectors; transformers leaves them undecayed.
            let weight_decay = if slots.param.shape().len() < 2 { 0.0 } else { weight_decay };
            let step = AdamWStep { lr, beta1, beta2, eps, weight_decay, step: self.step, grad_scale };
            gradient.kernels().adamw(&step, slots, gradient)?;
        }
        Ok(())
    }

    /// How many steps were made.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The moments, as `mean.NAME` and `variance.NAME`.
    ///
    /// # Errors
    /// The backend's.
    pub fn state(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut state = BTreeMap::new();
        for (name, slots) in &self.slots {
            state.insert(format!("mean.{name}"), slots.mean.read()?);
            state.insert(format!("variance.{name}"), slots.variance.read()?);
        }
        Ok(state)
    }

    /// Takes up the state of [`AdamW::state`] after `step` steps.
    ///
    /// # Errors
    /// A moment that is missing or has another shape than its parameter.
    pub fn restore(&mut self, mut state: BTreeMap<String, HostTensor>, step: u64) -> Result<()> {
        for (name, slots) in &self.slots {
            for (moment, tensor) in [("mean", &slots.mean), ("variance", &slots.variance)] {
                let key = format!("{moment}.{name}");
                let missing = || crate::Error::invalid(key.clone(), "is missing from the optimiser's state");
                let host = state.remove(&key).ok_or_else(missing)?;
                if host.shape() != tensor.shape() {
                    let message = format!("has shape {:?}, expected {:?}", host.shape(), tensor.shape());
                    return Err(crate::Error::invalid(key, message));
                }
                tensor.assign(&tensor.constant(&host)?)?;
            }
        }
        self.step = step;
        Ok(())
    }
}
