//! Objectives: mean losses over items; each item is a part of a packed batch.
//!
//! An [`Objective`] runs the model over a few items and returns, for every output of the model that it uses,
//! d loss / d output. Micro-batches, backward passes and their accumulation are implemented once, here.

mod bounds;
pub mod dpo;
mod head;
pub mod kto;
pub mod reward;
mod routers;
pub mod sft;

use pcrm_core::{Backend, Gradients, HostTensor, Params, Ready, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::learner::Trainable;
use crate::metrics::Metrics;
use pcrm_core::tree::within_budget;

/// A loss over items of data, computed from outputs of a model.
pub trait Objective {
    /// Model that is trained.
    type Model: Trainable;
    /// Training data, a list of items.
    type Data;
    /// Options of the loss. Options missing from an older run have their `Default` values.
    type Config: Serialize + Default;

    /// Returns the number of tokens of each item in a packed batch, for cutting batches and micro-batches.
    fn sizes<'d>(&self, data: &'d Self::Data) -> &'d [usize];

    /// Returns the weight of an item in the mean of a batch: 1, or its number of target tokens.
    fn weight(&self, _data: &Self::Data, _item: usize) -> f64 {
        1.0
    }

    /// Returns the file and line of an item.
    fn origin(&self, data: &Self::Data, item: usize) -> String;

    /// Refuses data with an undefined loss, or that the model cannot read.
    ///
    /// # Errors
    /// Fails for such data, naming file and line.
    fn check(&self, data: &Self::Data, model: &Self::Model) -> Result<()>;

    /// Runs the model over items and records metrics. The loss is Σ weight·share·(loss of the item).
    ///
    /// # Errors
    /// Fails if the model fails or the loss is undefined.
    fn forward(
        &self,
        model: &Self::Model,
        data: &Self::Data,
        items: &[usize],
        pass: &Pass<'_>,
        metrics: &mut Metrics,
    ) -> Result<Forward>;

    /// Returns numbers for comparing a saved model with the trained one: of a few items, with their
    /// locations.
    ///
    /// # Errors
    /// Fails if the model fails.
    fn probe(&self, model: &Self::Model, data: &Self::Data) -> Result<Vec<(String, f32)>>;

    /// Returns a note to save with the trained model, with its name; `None` for none.
    ///
    /// # Errors
    /// Fails if the model fails.
    fn note(
        &self,
        _model: &Self::Model,
        _data: &Self::Data,
    ) -> Result<Option<(&'static str, serde_json::Value)>> {
        Ok(None)
    }

    /// Returns true if [`Objective::statistics`] has numbers.
    fn has_statistics(&self) -> bool {
        false
    }

    /// Returns a number per item, without gradients, that the loss of every item of the step may depend on:
    /// KTO's estimate of the divergence. [`Pass::statistics`] has the numbers of the whole batch.
    ///
    /// # Errors
    /// Fails if the model fails.
    fn statistics(&self, _model: &Self::Model, _data: &Self::Data, _items: &[usize]) -> Result<Vec<f64>> {
        Ok(Vec::new())
    }

    /// Returns true if the loss couples the items of a step in another way, for example by sorting them. They
    /// are then computed at once, regardless of the limit on tokens. Evaluations are still split: there each
    /// part is its own batch.
    fn at_once(&self) -> bool {
        false
    }

    /// Returns the reason why a step's loss depends on the total number of steps; `None` if it does not.
    fn depends_on_length(&self) -> Option<&'static str> {
        None
    }
}

/// The context of one pass over items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass<'a> {
    /// All items of the batch; a pass may cover a part of them.
    pub batch: &'a [usize],
    /// [`Objective::statistics`] of these items, in their order; empty if the objective has none.
    pub statistics: &'a [f64],
    /// Factor of an item's weight: 1 / Σ weights of the whole batch.
    pub share: f64,
    /// Completed share of all steps; `None` in an evaluation.
    pub progress: Option<f64>,
}

/// The outputs of a model that an objective used, with the gradient of the loss by them.
#[derive(Debug)]
pub struct Forward {
    /// Outputs of the model, f32 `[n]`, each with d loss / d output.
    pub outputs: Vec<(Tensor, Vec<f64>)>,
    /// Token counts.
    pub tokens: TokenCounts,
}

/// Counts of tokens of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Tokens with a separate prompt per sequence, without padding.
    pub separate: usize,
    /// Tokens with every shared prompt once, as computed.
    pub unique: usize,
    /// Length of the longest sequence.
    pub longest: usize,
    /// Number of sequences.
    pub sequences: usize,
}

impl TokenCounts {
    /// Returns the number of tokens with a separate prompt per sequence, padded to the longest of the batch.
    pub fn padded(&self) -> usize {
        self.sequences * self.longest
    }

    pub(crate) fn merge(&mut self, more: Self) {
        self.separate += more.separate;
        self.unique += more.unique;
        self.longest = self.longest.max(more.longest);
        self.sequences += more.sequences;
    }
}

/// The gradients of a batch's loss, with its metrics.
#[derive(Debug)]
pub struct Gradient {
    /// Gradients by parameter.
    pub gradients: Gradients,
    /// Metrics of the batch.
    pub metrics: Metrics,
    /// Token counts.
    pub tokens: TokenCounts,
}

/// Computes the weighted mean loss of these items and the gradient of every trained parameter, at most
/// `micro_tokens` tokens at once; `progress` is the completed share of all steps.
///
/// # Errors
/// Fails if the objective or the backend fails, or if a parameter gets no gradient.
pub fn gradient<O: Objective>(
    backend: &dyn Backend,
    objective: &O,
    model: &O::Model,
    batch: &Batch<'_, O>,
    progress: f64,
) -> Result<Gradient> {
    let statistics = batch.statistics(objective, model)?;
    let pass = batch.pass(objective, &statistics, Some(progress));
    let mut gradients = Gradients::default();
    let (metrics, tokens) = gradient_of(backend, objective, model, batch, &pass, &mut |name, gradient| {
        gradients.insert(name, gradient);
        Ok(())
    })?;
    Ok(Gradient { gradients, metrics, tokens })
}

/// Computes the gradient of a part of a batch, and calls `ready` with every parameter's gradient as soon as
/// it is complete, in the last backward pass; `pass` describes the whole batch.
pub(crate) fn gradient_of<O: Objective>(
    backend: &dyn Backend,
    objective: &O,
    model: &O::Model,
    batch: &Batch<'_, O>,
    pass: &Pass<'_>,
    ready: Ready<'_>,
) -> Result<(Metrics, TokenCounts)> {
    let (mut metrics, mut tokens) = (Metrics::default(), TokenCounts::default());
    let mut sums = Gradients::default();
    let parts = if objective.at_once() { vec![batch.items] } else { batch.parts(objective) };
    let last = parts.len().saturating_sub(1);
    for (at, items) in parts.into_iter().enumerate() {
        let found = objective.forward(model, batch.data, items, pass, &mut metrics)?;
        tokens.merge(found.tokens);
        backward(backend, &found.outputs, model.params(), &mut |name, gradient| {
            let sum = sums.take_sum(name, gradient)?;
            if at == last {
                return ready(name, sum);
            }
            sums.insert(name, sum);
            Ok(())
        })?;
    }
    Ok((metrics, tokens))
}

/// Backpropagates the derivatives by the outputs to the trained parameters.
fn backward(
    backend: &dyn Backend,
    outputs: &[(Tensor, Vec<f64>)],
    params: &Params,
    ready: Ready<'_>,
) -> Result<()> {
    if outputs.is_empty() {
        return Err(pcrm_core::Error::invalid("objective", "asked nothing of the model").into());
    }
    let slopes = |(numbers, slopes): &(Tensor, Vec<f64>)| {
        let slopes = slopes.iter().map(|slope| *slope as f32).collect();
        numbers.constant(&HostTensor::f32(numbers.shape(), slopes)?)
    };
    let slopes = outputs.iter().map(slopes).collect::<pcrm_core::Result<Vec<_>>>()?;
    let pairs: Vec<_> = outputs.iter().map(|(numbers, _)| numbers).zip(&slopes).collect();
    Ok(backend.backward_each(&pairs, params, ready)?)
}

/// Computes the metrics of a model on all items of some data, without gradients.
///
/// # Errors
/// Fails if the objective fails.
pub fn evaluate<O: Objective>(
    objective: &O,
    model: &O::Model,
    data: &O::Data,
    micro_tokens: usize,
) -> Result<Metrics> {
    let model = model.detached();
    let items: Vec<usize> = (0..objective.sizes(data).len()).collect();
    let batch = Batch { data, items: &items, micro_tokens };
    let statistics = batch.statistics(objective, &model)?;
    let pass = batch.pass(objective, &statistics, None);
    let mut metrics = Metrics::default();
    for part in batch.parts(objective) {
        objective.forward(&model, data, part, &pass, &mut metrics)?;
    }
    Ok(metrics)
}

/// A batch of items whose mean loss is computed.
pub struct Batch<'a, O: Objective> {
    /// Data.
    pub data: &'a O::Data,
    /// Items, by their index.
    pub items: &'a [usize],
    /// Maximum number of tokens computed at once.
    pub micro_tokens: usize,
}

impl<O: Objective> Batch<'_, O> {
    /// Returns the context of a pass over parts of this batch.
    pub(crate) fn pass<'a>(
        &'a self,
        objective: &O,
        statistics: &'a [f64],
        progress: Option<f64>,
    ) -> Pass<'a> {
        let weights = self.items.iter().map(|item| objective.weight(self.data, *item));
        Pass { batch: self.items, statistics, share: 1.0 / weights.sum::<f64>(), progress }
    }

    /// Returns the statistics of all items, at most `micro_tokens` tokens at once.
    pub(crate) fn statistics(&self, objective: &O, model: &O::Model) -> Result<Vec<f64>> {
        if !objective.has_statistics() {
            return Ok(Vec::new());
        }
        let of_parts = self.parts(objective).into_iter();
        let of_parts = of_parts.map(|part| objective.statistics(model, self.data, part));
        Ok(of_parts.collect::<Result<Vec<_>>>()?.concat())
    }

    pub(crate) fn parts(&self, objective: &O) -> Vec<&[usize]> {
        let sizes = objective.sizes(self.data);
        within_budget(self.items, self.micro_tokens, |item| sizes[*item])
    }
}
