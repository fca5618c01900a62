//! AdamW with decoupled decay and f32 moments.

use std::collections::BTreeMap;

use super::held::Held;
use super::states::{States, put, put_rest};
use super::{AdamWConfig, WeightType, check, decay, plain};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::{AdamWStep, AdamWUpdate, Slots};
use crate::params::{Gradients, Params};
use crate::tensor::Tensor;

/// The optimiser of the trained parameters of a model: f32 moments, updated in place.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    slots: BTreeMap<String, Slot>,
    step: u64,
}

#[derive(Debug)]
struct Slot {
    held: Held,
    mean: Tensor,
    variance: Tensor,
}

impl AdamW {
    /// Creates an optimiser of the trained f32 parameters among these; its moments are zero.
    ///
    /// # Errors
    /// Fails if no parameter is trained, or if a trained one is not f32.
    pub fn new(config: AdamWConfig, params: &Params) -> Result<Self> {
        Self::holding(config, WeightType::F32, 0, params)
    }

    /// Creates an optimiser of parameters that are held in the type `weights`.
    ///
    /// # Errors
    /// Fails if no parameter is trained, or if a trained one has a type that `weights` does not allow.
    pub(super) fn holding(
        config: AdamWConfig,
        weights: WeightType,
        seed: u64,
        params: &Params,
    ) -> Result<Self> {
        let slot = |(name, param): (&str, &Tensor)| {
            let held = Held::new(name, param, weights, seed)?;
            let zeros = HostTensor::f32(param.shape(), vec![0.0; param.size()])?;
            let slot = Slot { held, mean: param.constant(&zeros)?, variance: param.constant(&zeros)? };
            Ok((name.to_owned(), slot))
        };
        let slots: BTreeMap<String, Slot> = params.iter_trained().map(slot).collect::<Result<_>>()?;
        match slots.is_empty() {
            true => Err(Error::invalid("optimiser", "the model has no parameter to train: all are frozen")),
            false => Ok(Self { config, slots, step: 0 }),
        }
    }

    /// Updates every parameter of the optimiser; gradients are first multiplied by `grad_scale`.
    ///
    /// # Errors
    /// Fails if a gradient belongs to a parameter that the optimiser does not have, or if a parameter has no
    /// gradient. No parameter changes in that case.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, grad_scale: f64) -> Result<()> {
        check(self.names(), gradients)?;
        self.step += 1;
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        let mut updates = Vec::with_capacity(self.slots.len());
        for (name, Slot { held, mean, variance }) in &self.slots {
            let weight_decay = decay(held.param(), weight_decay);
            let step = AdamWStep { lr, beta1, beta2, eps, weight_decay, step: self.step, grad_scale };
            let gradient = gradients.get(name)?;
            if held.is_rounded() {
                plain(&step, held, [mean, variance], gradient)?;
                continue;
            }
            let slots = Slots { param: held.value()?, mean: mean.clone(), variance: variance.clone() };
            updates.push(AdamWUpdate { step, slots, gradient: gradient.cast(DType::F32)? });
        }
        match updates.first() {
            Some(first) => first.gradient.kernels().adamw_all(&updates),
            None => Ok(()),
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.slots.keys()
    }

    /// Returns the number of steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Returns the moments, as `mean.NAME` and `variance.NAME`.
    pub fn state(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut states = States::default();
        for (name, slot) in &self.slots {
            states.add_rest(name, &slot.held)?;
            states.add("mean", name, slot.mean.read()?);
            states.add("variance", name, slot.variance.read()?);
        }
        Ok(states.0)
    }

    /// Restores the state of [`AdamW::state`] after `step` steps.
    ///
    /// # Errors
    /// Fails if a moment is missing or has another shape than its parameter.
    pub fn restore(&mut self, states: &BTreeMap<String, HostTensor>, step: u64) -> Result<()> {
        for (name, slot) in &self.slots {
            put_rest(states, name, &slot.held)?;
            put(states, "mean", name, &slot.mean)?;
            put(states, "variance", name, &slot.variance)?;
        }
        self.step = step;
        Ok(())
    }
}
