//! Optimisers over named parameters, with states to resume from.

mod adafactor;
mod adamw;
mod adamw8;
pub mod dynamic;
mod held;
mod layout;
mod moments;
mod offloaded;
mod place;
mod sending;
mod sliced;
mod states;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::adafactor::Adafactor;
pub use self::adamw::AdamW;
pub use self::adamw8::{AdamW8bit, SMALLEST};
pub use self::held::WeightType;
pub use self::layout::slice_of;
pub use self::offloaded::passing_bytes;
pub use self::place::StatePlace;
pub use self::sending::{BUCKET_BYTES, Sending, Sent, halves};
pub use self::sliced::{SliceGradient, SlicedAdamW};
pub use self::states::StoredStates;

use self::held::Held;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::{AdamWStep, AdamWUpdate, Slots};
use crate::params::{Gradients, Params};
use crate::tensor::Tensor;

/// The constants of AdamW; the defaults follow `transformers.TrainingArguments`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// ε in the denominator.
    pub eps: f64,
    /// Decoupled decay, applied to matrices and not to biases and norms, as in `transformers`.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// The update rule of an optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Rule {
    /// AdamW with f32 moments.
    #[default]
    #[serde(rename = "adamw")]
    AdamW,
    /// AdamW with block-wise 8-bit moments.
    #[serde(rename = "adamw-8bit")]
    AdamW8bit,
    /// Adafactor, which factors the second moment of a matrix into a row and a column.
    #[serde(rename = "adafactor")]
    Adafactor,
}

impl Rule {
    /// Returns the bytes of moments per element of a large matrix.
    pub fn bytes(self) -> f64 {
        match self {
            Self::AdamW => 8.0,
            Self::AdamW8bit => 2.0 + 8.0 / dynamic::BLOCK as f64,
            Self::Adafactor => 0.0,
        }
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "adamw" => Ok(Self::AdamW),
            "adamw-8bit" => Ok(Self::AdamW8bit),
            "adafactor" => Ok(Self::Adafactor),
            _ => {
                let message = format!("{text:?} is unknown; expected adamw, adamw-8bit or adafactor");
                Err(Error::invalid("optimizer", message))
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AdamW => "adamw",
            Self::AdamW8bit => "adamw-8bit",
            Self::Adafactor => "adafactor",
        })
    }
}

/// Returns the factor that scales gradients of this global norm to at most `max_norm`
/// (`torch.nn.utils.clip_grad_norm_`).
pub fn clip_scale(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

/// An optimiser of the trained parameters of a model, with one of the rules.
#[derive(Debug)]
pub enum Optimiser {
    /// The optimiser of [`Rule::AdamW`].
    AdamW(AdamW),
    /// The optimiser of [`Rule::AdamW8bit`].
    AdamW8bit(AdamW8bit),
    /// The optimiser of [`Rule::Adafactor`].
    Adafactor(Adafactor),
}

impl Optimiser {
    /// Creates an optimiser of the trained parameters among these, which are held in the type `weights`. The
    /// seed determines stochastic rounding.
    ///
    /// # Errors
    /// Fails if no parameter is trained, or if a trained one has a type that `weights` does not allow.
    pub fn new(
        rule: Rule,
        config: AdamWConfig,
        weights: WeightType,
        seed: u64,
        params: &Params,
    ) -> Result<Self> {
        Self::keeping(StatePlace::Device, rule, config, weights, seed, params)
    }

    /// Creates an optimiser like [`Optimiser::new`], whose moments are in `place`. The moments of
    /// [`Rule::Adafactor`], and those of small parameters of [`Rule::AdamW8bit`], stay on the device.
    ///
    /// # Errors
    /// Fails as [`Optimiser::new`] does, or if the host has too little memory.
    pub fn keeping(
        place: StatePlace,
        rule: Rule,
        config: AdamWConfig,
        weights: WeightType,
        seed: u64,
        params: &Params,
    ) -> Result<Self> {
        if params.iter_trained().next().is_none() {
            return Err(Error::invalid("optimiser", "the model has no parameter to train: all are frozen"));
        }
        Ok(match rule {
            Rule::AdamW => Self::AdamW(AdamW::holding(config, weights, seed, params, place)?),
            Rule::AdamW8bit => Self::AdamW8bit(AdamW8bit::new(config, weights, seed, params, place)?),
            Rule::Adafactor => Self::Adafactor(Adafactor::new(config, weights, seed, params)?),
        })
    }

    /// Updates every parameter; gradients are first multiplied by `grad_scale`.
    ///
    /// # Errors
    /// Fails if a gradient belongs to a parameter that the optimiser does not have, or if a parameter has no
    /// gradient. No parameter changes in that case.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, grad_scale: f64) -> Result<()> {
        match self {
            Self::AdamW(optimiser) => optimiser.step(gradients, lr, grad_scale),
            Self::AdamW8bit(optimiser) => {
                check(optimiser.names(), gradients)?;
                optimiser.step(gradients, lr, grad_scale)
            }
            Self::Adafactor(optimiser) => {
                check(optimiser.names(), gradients)?;
                optimiser.step(gradients, lr, grad_scale)
            }
        }
    }

    /// Returns the number of steps taken.
    pub fn steps(&self) -> u64 {
        match self {
            Self::AdamW(optimiser) => optimiser.steps(),
            Self::AdamW8bit(optimiser) => optimiser.steps(),
            Self::Adafactor(optimiser) => optimiser.steps(),
        }
    }

    /// Returns the states, named `PART.PARAMETER`.
    ///
    /// # Errors
    /// Fails if the backend fails.
    pub fn state(&self) -> Result<BTreeMap<String, HostTensor>> {
        match self {
            Self::AdamW(optimiser) => optimiser.state(),
            Self::AdamW8bit(optimiser) => optimiser.state(),
            Self::Adafactor(optimiser) => optimiser.state(),
        }
    }

    /// Restores the states of [`Optimiser::state`] after `step` steps.
    ///
    /// # Errors
    /// Fails if a state is missing or does not fit, as with a state of another optimiser.
    pub fn restore(&mut self, states: &dyn StoredStates, step: u64) -> Result<()> {
        match self {
            Self::AdamW(optimiser) => optimiser.restore(states, step),
            Self::AdamW8bit(optimiser) => optimiser.restore(states, step),
            Self::Adafactor(optimiser) => optimiser.restore(states, step),
        }
    }
}

/// Returns an error unless there is a gradient of each of these parameters and no other.
fn check<'a>(names: impl Iterator<Item = &'a String>, gradients: &Gradients) -> Result<()> {
    let names: Vec<&String> = names.collect();
    let is_own = |name: &str| names.binary_search_by(|own| own.as_str().cmp(name)).is_ok();
    if let Some((name, _)) = gradients.iter().find(|(name, _)| !is_own(name)) {
        return Err(Error::invalid(name, "has a gradient, but the optimiser does not train it"));
    }
    let missing: Vec<String> =
        names.into_iter().filter(|name| gradients.get(name).is_err()).cloned().collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::MissingGradient { names: missing }),
    }
}

/// Returns the weight decay of a parameter.
fn decay(param: &Tensor, weight_decay: f64) -> f64 {
    if decays(&param.shape()) { weight_decay } else { 0.0 }
}

/// Returns true if parameters of this shape decay. Biases and norms are vectors, which do not decay in
/// transformers.
fn decays(shape: &[usize]) -> bool {
    shape.len() >= 2
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

/// Returns a moment of a parameter from an optimiser's state, which must have this shape.
fn moment<'a>(
    state: &'a dyn StoredStates,
    moment: &str,
    name: &str,
    shape: &[usize],
) -> Result<Cow<'a, HostTensor>> {
    states::stored(state, moment, name, shape, DType::F32)
}

/// Takes one step of AdamW with f32 moments.
fn plain(step: &AdamWStep, held: &Held, [mean, variance]: [&Tensor; 2], gradient: &Tensor) -> Result<()> {
    let slots = Slots { param: held.value()?, mean: mean.clone(), variance: variance.clone() };
    let update = AdamWUpdate { step: *step, slots, gradient: gradient.cast(DType::F32)? };
    update.gradient.kernels().adamw_all(std::slice::from_ref(&update))?;
    match held.is_rounded() {
        true => held.set(&update.slots.param, step.step),
        false => Ok(()),
    }
}
