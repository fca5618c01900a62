//! A model in training; the only code that applies gradients to weights.

mod trainable;

use std::collections::BTreeMap;

use pcrm_core::optim::{self, Rule, SlicedAdamW, StoredStates, WeightType, clip_scale};
use pcrm_core::schedule::Schedule;
use pcrm_core::{Backend, HostTensor};

pub use self::trainable::Trainable;
use crate::error::{Error, Result};
use crate::lanes::{LaneGradient, Lanes};
use crate::objective::{self, Batch, Objective};
use crate::options::TrainerConfig;

/// A model with its optimiser and its learning rate.
#[derive(Debug)]
pub struct Learner<M> {
    /// Model, with its trained parameters as leaves.
    pub model: M,
    optimiser: Optimiser,
    lanes: Lanes,
    schedule: Schedule,
    max_grad_norm: Option<f64>,
}

/// The moments of a model's trained parameters.
#[derive(Debug)]
enum Optimiser {
    /// All moments by parameter, in a run with one lane.
    Whole(optim::Optimiser),
    /// This process's slice, in a run with several lanes.
    Sliced(Box<SlicedAdamW>),
}

impl Optimiser {
    fn steps(&self) -> u64 {
        match self {
            Self::Whole(optimiser) => optimiser.steps(),
            Self::Sliced(optimiser) => optimiser.steps(),
        }
    }
}

/// The figures of an update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// √Σ g², before clipping.
    pub grad_norm: f64,
    /// The learning rate.
    pub learning_rate: f64,
}

impl<M: Trainable> Learner<M> {
    /// Creates a learner of this model's parameters for `total` updates.
    ///
    /// # Errors
    /// Fails as the backend does.
    pub fn new(backend: &dyn Backend, model: &M, config: &TrainerConfig, total: u64) -> Result<Self> {
        let model = model.trainable();
        let lanes = Lanes::new(backend, config.lanes)?;
        let optimiser = match lanes.are_several() {
            false => {
                let TrainerConfig { optimizer, adamw, weights, seed, .. } = *config;
                let (place, params) = (config.optimizer_states, model.params());
                Optimiser::Whole(optim::Optimiser::keeping(place, optimizer, adamw, weights, seed, params)?)
            }
            true if (config.optimizer, config.weights) != (Rule::AdamW, WeightType::F32) => {
                let message = "with several lanes, only adamw with f32 weights is supported";
                return Err(pcrm_core::Error::invalid("optimizer", message).into());
            }
            true => {
                let collective = std::sync::Arc::clone(lanes.collective());
                let TrainerConfig { optimizer_states: place, adamw, bucket_bytes, .. } = *config;
                let made = SlicedAdamW::keeping(place, adamw, model.params(), collective, bucket_bytes)?;
                Optimiser::Sliced(Box::new(made))
            }
        };
        let schedule = Schedule {
            peak: config.learning_rate,
            shape: config.schedule,
            warmup: config.warmup.steps(total),
            total,
        };
        Ok(Self { model, optimiser, lanes, schedule, max_grad_norm: config.max_grad_norm })
    }

    /// Returns the lanes that compute steps.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Returns the moments of all trained parameters, as `mean.NAME` and `variance.NAME`. Every other process of
    /// the run must call this or [`Learner::contribute_moments`].
    ///
    /// # Errors
    /// Fails as the backend does, or if a process is gone.
    pub fn moments(&self) -> Result<BTreeMap<String, HostTensor>> {
        Ok(match &self.optimiser {
            Optimiser::Whole(optimiser) => optimiser.state()?,
            Optimiser::Sliced(optimiser) => optimiser.state()?,
        })
    }

    /// Sends this process's slice to the process that calls [`Learner::moments`], and receives none.
    ///
    /// # Errors
    /// Fails as [`Learner::moments`] does.
    pub fn contribute_moments(&self) -> Result<()> {
        match &self.optimiser {
            Optimiser::Whole(_) => Ok(()),
            Optimiser::Sliced(optimiser) => Ok(optimiser.contribute()?),
        }
    }

    /// Restores the moments after `step` steps. Of several processes, each reads those of its slice.
    ///
    /// # Errors
    /// Fails if a moment is missing or its shape differs from its parameter's.
    pub fn restore_moments(&mut self, moments: &dyn StoredStates, step: u64) -> Result<()> {
        match &mut self.optimiser {
            Optimiser::Whole(optimiser) => optimiser.restore(moments, step)?,
            Optimiser::Sliced(optimiser) => optimiser.restore(moments, step)?,
        }
        Ok(())
    }

    /// Makes one step on a batch: computes its gradient and updates the weights.
    ///
    /// # Errors
    /// Fails if the gradient norm is not finite, or if the objective or the backend fails. The weights are
    /// then unchanged.
    pub fn step<O: Objective<Model = M>>(
        &mut self,
        backend: &dyn Backend,
        objective: &O,
        batch: &Batch<'_, O>,
        progress: f64,
    ) -> Result<(LaneGradient, Update)> {
        let mut made = self.gradient(backend, objective, batch, progress)?;
        let rows = || batch.items.iter().map(|item| objective.origin(batch.data, *item)).collect();
        let update = self.update(&mut made, rows)?;
        Ok((made, update))
    }

    /// Computes the gradient of a batch at the current step.
    ///
    /// # Errors
    /// Fails if the loss is not finite, or if the objective or the backend fails.
    pub fn gradient<O: Objective<Model = M>>(
        &self,
        backend: &dyn Backend,
        objective: &O,
        batch: &Batch<'_, O>,
        progress: f64,
    ) -> Result<LaneGradient> {
        let model = self.model.at_step(self.optimiser.steps());
        let made = match &self.optimiser {
            Optimiser::Whole(_) => objective::gradient(backend, objective, &model, batch, progress)?.into(),
            Optimiser::Sliced(optimiser) => {
                let sending = optimiser.sending(self.lanes.count(), &self.lanes.subtrees())?;
                self.lanes.gradient(backend, objective, &model, batch, progress, sending)?
            }
        };
        let rows = || batch.items.iter().map(|item| objective.origin(batch.data, *item)).collect();
        let value = made.metrics.summary().loss();
        if !value.is_finite() {
            let step = self.optimiser.steps() + 1;
            let of = made.diverged.iter().map(|rank| format!(" of rank {rank}"));
            let what = format!("loss{}", of.collect::<Vec<_>>().join(" and"));
            return Err(Error::NotFinite { step, what, value, rows: rows() });
        }
        Ok(made)
    }

    /// Clips a gradient by its global norm and updates the weights at the learning rate of this step. Takes the
    /// exchanged gradients out of `made`.
    ///
    /// # Errors
    /// Fails if the norm is not finite, naming the `rows` of the batch, or if the backend fails. The weights are
    /// then unchanged.
    pub fn update(&mut self, made: &mut LaneGradient, rows: impl FnOnce() -> Vec<String>) -> Result<Update> {
        let steps = self.optimiser.steps();
        let learning_rate = self.schedule.rate(steps);
        let most = self.max_grad_norm;
        let scale = |grad_norm: f64| match grad_norm.is_finite() {
            true => Ok(most.map_or(1.0, |most| clip_scale(grad_norm, most))),
            false => {
                let (step, what) = (steps + 1, "gradient norm".to_owned());
                Err(Error::NotFinite { step, what, value: grad_norm, rows: rows() })
            }
        };
        let grad_norm = match &mut self.optimiser {
            Optimiser::Whole(optimiser) => {
                let norm = made.gradients.global_norm()?;
                optimiser.step(&made.gradients, learning_rate, scale(norm)?)?;
                norm
            }
            Optimiser::Sliced(optimiser) => {
                let none = || pcrm_core::Error::invalid("lanes", "there is no gradient");
                let mut sent = std::mem::take(&mut made.sent).into_iter();
                let mut total = sent.next().ok_or_else(none)?.total()?;
                for more in sent {
                    total = total.add(&more.total()?)?;
                }
                let norm = optimiser.norm(&total)?;
                optimiser.step(&total, learning_rate, scale(norm)?)?;
                norm
            }
        };
        Ok(Update { grad_norm, learning_rate })
    }
}
