//! AdamW with decoupled decay and f32 moments.

use std::collections::BTreeMap;

use super::held::Held;
use super::moments::{Moments, NAMES};
use super::offloaded::{FlatGradient, incomplete};
use super::states::{States, StoredStates, put_rest, stored};
use super::{AdamWConfig, StatePlace, WeightType, check, decay, plain};
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
    held: BTreeMap<String, Held>,
    /// The moments of the parameters, in their order.
    moments: Moments,
    step: u64,
}

impl AdamW {
    /// Creates an optimiser of the trained f32 parameters among these; its moments are zero.
    ///
    /// # Errors
    /// Fails if no parameter is trained, or if a trained one is not f32.
    pub fn new(config: AdamWConfig, params: &Params) -> Result<Self> {
        Self::holding(config, WeightType::F32, 0, params, StatePlace::Device)
    }

    /// Creates an optimiser of parameters that are held in the type `weights`, with its moments in `place`.
    ///
    /// # Errors
    /// Fails if no parameter is trained, or if a trained one has a type that `weights` does not allow.
    pub(super) fn holding(
        config: AdamWConfig,
        weights: WeightType,
        seed: u64,
        params: &Params,
        place: StatePlace,
    ) -> Result<Self> {
        let hold =
            |(name, param): (&str, &Tensor)| Ok((name.to_owned(), Held::new(name, param, weights, seed)?));
        let held: BTreeMap<String, Held> = params.iter_trained().map(hold).collect::<Result<_>>()?;
        let Some(first) = held.values().next() else {
            return Err(Error::invalid("optimiser", "the model has no parameter to train: all are frozen"));
        };
        let shapes = held.values().map(|held| held.param().shape()).collect();
        let moments = Moments::zeros(first.param(), shapes, place)?;
        Ok(Self { config, held, moments, step: 0 })
    }

    /// Updates every parameter of the optimiser; gradients are first multiplied by `grad_scale`.
    ///
    /// # Errors
    /// Fails if a gradient belongs to a parameter that the optimiser does not have, or if a parameter has no
    /// gradient. No parameter changes in that case.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, grad_scale: f64) -> Result<()> {
        check(self.names(), gradients)?;
        self.step += 1;
        let (AdamWConfig { beta1, beta2, eps, weight_decay }, step) = (self.config, self.step);
        let step = |held: &Held| {
            let weight_decay = decay(held.param(), weight_decay);
            AdamWStep { lr, beta1, beta2, eps, weight_decay, step, grad_scale }
        };
        if let Some(moments) = self.moments.on_host() {
            let all: Vec<(&String, &Held)> = self.held.iter().collect();
            let mut gradient = FlatGradient::default();
            return moments.each(|at, range, vectors| {
                let (name, held) = all[at];
                let [mean, variance] = vectors else { return Err(incomplete()) };
                let gradient = gradient.part(at, range.clone(), || gradients.get(name))?;
                plain(&step(held), &held.part(range)?, [mean, variance], &gradient)
            });
        }
        let mut updates = Vec::with_capacity(self.held.len());
        for ((name, held), [mean, variance]) in self.held.iter().zip(self.moments.on_device().unwrap_or(&[]))
        {
            let (step, gradient) = (step(held), gradients.get(name)?);
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
        self.held.keys()
    }

    /// Returns the number of steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Returns the moments, as `mean.NAME` and `variance.NAME`, and the rounding errors of bf16 weights, as
    /// `rest.NAME`.
    pub fn state(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut states = States::default();
        for (at, (name, held)) in self.held.iter().enumerate() {
            states.add_rest(name, held)?;
            for (moment, part) in NAMES.into_iter().enumerate() {
                states.add(part, name, self.moments.read(at, moment)?);
            }
        }
        Ok(states.0)
    }

    /// Restores the state of [`AdamW::state`] after `step` steps.
    ///
    /// # Errors
    /// Fails if a state is missing or has another shape than its parameter.
    pub fn restore(&mut self, states: &dyn StoredStates, step: u64) -> Result<()> {
        for (at, (name, held)) in self.held.iter().enumerate() {
            put_rest(states, name, held)?;
            for (moment, part) in NAMES.into_iter().enumerate() {
                let host = stored(states, part, name, &held.param().shape(), DType::F32)?;
                self.moments.write(at, moment, &host)?;
            }
        }
        self.step = step;
        Ok(())
    }
}
