//! Objectives: the mean loss that a run minimises, over items that are each a part of a packed batch.
//!
//! An [`Objective`] runs the model over a few items and gives, for every number that it asked of the model, d loss / d
//! number. Micro-batches, backward passes and their sum are written once, here.

mod bounds;
pub mod dpo;
mod head;
pub mod kto;
pub mod reward;
pub mod sft;

use pcrm_core::{Backend, Gradients, HostTensor, Params, Tensor};
use serde::Serialize;

use crate::error::Result;
use crate::learner::Trainable;
use crate::metrics::Metrics;
use pcrm_core::tree::within_budget;

/// A loss over items of some data, and the numbers it needs of a model.
pub trait Objective {
    /// The model that is trained.
    type Model: Trainable;
    /// The data that are learned from, a list of items.
    type Data;
    /// The options of the loss. Those that an older run does not know had the values of `Default`.
    type Config: Serialize + Default;

    /// The tokens that each item takes in a packed batch. Batches and micro-batches are cut by them.
    fn sizes<'d>(&self, data: &'d Self::Data) -> &'d [usize];

    /// The weight of an item in the mean of a batch: 1, or its number of target tokens.
    fn weight(&self, _data: &Self::Data, _item: usize) -> f64 {
        1.0
    }

    /// The file and line of an item.
    fn origin(&self, data: &Self::Data, item: usize) -> String;

    /// Refuses data that the loss is not defined on, or that the model cannot read.
    ///
    /// # Errors
    /// As said, naming file and line.
    fn check(&self, data: &Self::Data, model: &Self::Model) -> Result<()>;

    /// Runs the model over items and records what it sees. The loss is Σ weight·share·(loss of the item).
    ///
    /// # Errors
    /// The model's; a loss that is not defined.
    fn forward(
        &self,
        model: &Self::Model,
        data: &Self::Data,
        items: &[usize],
        pass: &Pass<'_>,
        metrics: &mut Metrics,
    ) -> Result<Forward>;

    /// Numbers by which a saved model is compared with the trained one: of a few items, with their places.
    ///
    /// # Errors
    /// The model's.
    fn probe(&self, model: &Self::Model, data: &Self::Data) -> Result<Vec<(String, f32)>>;

    /// A note about the trained model, with its name, that is saved with it; `None` for none.
    ///
    /// # Errors
    /// The model's.
    fn note(
        &self,
        _model: &Self::Model,
        _data: &Self::Data,
    ) -> Result<Option<(&'static str, serde_json::Value)>> {
        Ok(None)
    }

    /// Returns true if the loss couples the items of a step (it sorts them), which are then computed at once whatever
    /// the limit on tokens. Evaluations are cut as ever: there each part is a batch of its own.
    fn at_once(&self) -> bool {
        false
    }

    /// The reason why a step's loss depends on the number of all steps; `None` if it does not.
    fn depends_on_length(&self) -> Option<&'static str> {
        None
    }
}

/// The purpose of one pass over items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass<'a> {
    /// All items of the batch, of which a pass may have a part.
    pub batch: &'a [usize],
    /// The factor of an item's weight: 1 / Σ weights of the whole batch.
    pub share: f64,
    /// The share of all steps that is made; `None` in an evaluation.
    pub progress: Option<f64>,
}

/// The numbers that an objective asked of the model, and the gradient of the loss by them.
#[derive(Debug)]
pub struct Forward {
    /// Numbers of the model, f32 `[n]`, each with d loss / d number.
    pub outputs: Vec<(Tensor, Vec<f64>)>,
    /// Counts of tokens.
    pub tokens: Tokens,
}

/// Counts of tokens of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Every sequence with a prompt of its own, no padding.
    pub separate: usize,
    /// Every shared prompt once: what is computed.
    pub unique: usize,
    /// The longest sequence.
    pub longest: usize,
    /// The number of sequences.
    pub sequences: usize,
}

impl Tokens {
    /// Every sequence with a prompt of its own, padded to the longest of the batch.
    pub fn padded(&self) -> usize {
        self.sequences * self.longest
    }

    fn merge(&mut self, more: Self) {
        self.separate += more.separate;
        self.unique += more.unique;
        self.longest = self.longest.max(more.longest);
        self.sequences += more.sequences;
    }
}

/// The gradients of a batch's loss, with what it showed.
#[derive(Debug)]
pub struct Gradient {
    /// By parameter.
    pub gradients: Gradients,
    /// The metrics of the batch.
    pub metrics: Metrics,
    /// Counts of tokens.
    pub tokens: Tokens,
}

/// The weighted mean loss of these items and the gradient of every trained parameter, computed at most `micro_tokens`
/// tokens at once; `progress` is the share of all steps that is made.
///
/// # Errors
/// The objective's and the backend's; a parameter that no gradient reaches.
pub fn gradient<O: Objective>(
    backend: &dyn Backend,
    objective: &O,
    model: &O::Model,
    batch: &Batch<'_, O>,
    progress: f64,
) -> Result<Gradient> {
    let pass = Pass { batch: batch.items, share: batch.share(objective), progress: Some(progress) };
    let mut sum =
        Gradient { gradients: Gradients::default(), metrics: Metrics::default(), tokens: Tokens::default() };
    let parts = if objective.at_once() { vec![batch.items] } else { batch.parts(objective) };
    for items in parts {
        let Forward { outputs, tokens } =
            objective.forward(model, batch.data, items, &pass, &mut sum.metrics)?;
        sum.tokens.merge(tokens);
        sum.gradients.accumulate(backward(backend, &outputs, model.params())?)?;
    }
    Ok(sum)
}

/// Sends the slopes of the loss, which are of the outputs, back to the trained parameters.
fn backward(backend: &dyn Backend, outputs: &[(Tensor, Vec<f64>)], params: &Params) -> Result<Gradients> {
    if outputs.is_empty() {
        return Err(pcrm_core::Error::invalid("objective", "asked nothing of the model").into());
    }
    let slopes = |(numbers, slopes): &(Tensor, Vec<f64>)| {
        let slopes = slopes.iter().map(|slope| *slope as f32).collect();
        numbers.constant(&HostTensor::f32(numbers.shape(), slopes)?)
    };
    let slopes = outputs.iter().map(slopes).collect::<pcrm_core::Result<Vec<_>>>()?;
    let pairs: Vec<_> = outputs.iter().map(|(numbers, _)| numbers).zip(&slopes).collect();
    Ok(backend.backward_from(&pairs, params)?)
}

/// The metrics of a model on all items of some data, without gradients.
///
/// # Errors
/// The objective's.
pub fn evaluate<O: Objective>(
    objective: &O,
    model: &O::Model,
    data: &O::Data,
    micro_tokens: usize,
) -> Result<Metrics> {
    let model = model.detached();
    let items: Vec<usize> = (0..objective.sizes(data).len()).collect();
    let batch = Batch { data, items: &items, micro_tokens };
    let pass = Pass { batch: &items, share: batch.share(objective), progress: None };
    let mut metrics = Metrics::default();
    for part in batch.parts(objective) {
        objective.forward(&model, data, part, &pass, &mut metrics)?;
    }
    Ok(metrics)
}

/// Items of some data whose mean loss is taken.
pub struct Batch<'a, O: Objective> {
    /// The data.
    pub data: &'a O::Data,
    /// The items, by their number.
    pub items: &'a [usize],
    /// The most tokens computed at once.
    pub micro_tokens: usize,
}

impl<O: Objective> Batch<'_, O> {
    fn share(&self, objective: &O) -> f64 {
        1.0 / self.items.iter().map(|item| objective.weight(self.data, *item)).sum::<f64>()
    }

    fn parts(&self, objective: &O) -> Vec<&[usize]> {
        let sizes = objective.sizes(self.data);
        within_budget(self.items, self.micro_tokens, |item| sizes[*item])
    }
}
