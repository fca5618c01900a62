//! A model in training; the only code that applies gradients to weights.

use std::collections::BTreeMap;
use std::path::Path;

use pcrm_core::model::{LanguageModel, Loading, RewardModel};
use pcrm_core::optim::{self, Rule, SlicedAdamW, WeightType, clip_scale};
use pcrm_core::schedule::Schedule;
use pcrm_core::{Backend, DType, HostTensor, Params};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::lanes::{LaneGradient, Lanes};
use crate::objective::{self, Batch, Objective};
use crate::options::TrainerConfig;

/// A model that can be trained, saved and loaded again.
pub trait Trainable: Sized {
    /// Returns all parameters, including frozen ones; the trained ones are leaves ([`Params::trained`]).
    fn params(&self) -> &Params;

    /// Returns the same model with its trained parameters as leaves.
    fn trainable(&self) -> Self;

    /// Returns a model on the same storage without history; updates change it too.
    fn detached(&self) -> Self;

    /// Returns the same model with the dropout of a training step, a function of the seed and the step.
    fn at_step(&self, step: u64) -> Self;

    /// Returns the element type of its computation.
    fn compute(&self) -> DType;

    /// Returns the model with a note, saved in its `config.json` under `pcrm`.
    fn noted(self, name: &str, note: Value) -> Self;

    /// Writes a folder that `transformers` or `peft` can load.
    ///
    /// # Errors
    /// Fails if the disk or the backend fails.
    fn save(&self, dir: &Path) -> Result<()>;

    /// Overwrites the weights with those of a folder that [`Trainable::save`] wrote.
    ///
    /// # Errors
    /// Fails if a weight is missing or has another shape.
    fn restore(&self, dir: &Path) -> Result<()>;

    /// Loads the folder that this model was saved to, stored as this model is.
    ///
    /// # Errors
    /// Fails if the folder cannot be loaded.
    fn reloaded(&self, backend: &dyn Backend, dir: &Path) -> Result<Self>;
}

/// Implements [`Trainable`] for both models of core, which have these methods under the same names.
macro_rules! trainable {
    ($model:ty) => {
        impl Trainable for $model {
            fn params(&self) -> &Params {
                self.params()
            }

            fn trainable(&self) -> Self {
                self.trainable()
            }

            fn detached(&self) -> Self {
                self.detached()
            }

            fn at_step(&self, step: u64) -> Self {
                self.at_step(step)
            }

            fn compute(&self) -> DType {
                self.decoder().compute()
            }

            fn noted(self, name: &str, note: Value) -> Self {
                self.with_config(|config| {
                    let notes = config.raw.entry("pcrm").or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(notes) = notes {
                        notes.insert(name.to_owned(), note);
                    }
                })
            }

            fn save(&self, dir: &Path) -> Result<()> {
                Ok(self.save(dir)?)
            }

            fn restore(&self, dir: &Path) -> Result<()> {
                Ok(self.restore_from(dir)?)
            }

            fn reloaded(&self, backend: &dyn Backend, dir: &Path) -> Result<Self> {
                let decoder = self.decoder();
                let how = Loading::masters(backend, decoder.compute()).quantised(decoder.quantisation());
                Ok(Self::load_as(dir, how)?)
            }
        }
    };
}

trainable!(RewardModel);
trainable!(LanguageModel);

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
                Optimiser::Whole(optim::Optimiser::new(optimizer, adamw, weights, seed, model.params())?)
            }
            true if (config.optimizer, config.weights) != (Rule::AdamW, WeightType::F32) => {
                let message = "with several lanes, only adamw with f32 weights is supported";
                return Err(pcrm_core::Error::invalid("optimizer", message).into());
            }
            true => {
                let collective = std::sync::Arc::clone(lanes.collective());
                let (adamw, bytes) = (config.adamw, config.bucket_bytes);
                let made = SlicedAdamW::with_buckets(adamw, model.params(), collective, bytes)?;
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

    /// Returns the lanes in which steps are computed.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Returns the moments of all trained parameters, as `mean.NAME` and `variance.NAME`. Every process of
    /// the run must call this.
    ///
    /// # Errors
    /// Fails as the backend does, or if a process is gone.
    pub fn moments(&self) -> Result<BTreeMap<String, HostTensor>> {
        Ok(match &self.optimiser {
            Optimiser::Whole(optimiser) => optimiser.state()?,
            Optimiser::Sliced(optimiser) => optimiser.state()?,
        })
    }

    /// Restores the moments after `step` steps.
    ///
    /// # Errors
    /// Fails if a moment is missing or its shape differs from its parameter's.
    pub fn restore_moments(&mut self, moments: &BTreeMap<String, HostTensor>, step: u64) -> Result<()> {
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

    /// Clips a gradient by its global norm and updates the weights at the learning rate of this step. What was
    /// sent of the gradient is taken out.
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
