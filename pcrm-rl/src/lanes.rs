//! The parts into which several processes split a step, so that the bits of the result do not depend on their
//! number.
//!
//! A fixed rule deals the items of a step to lanes: round-robin, alternating between the halves of the tree
//! of lanes, so that a step with few items is spread over processes. A process computes an equal range of
//! lanes, one gradient each, and gradients are summed in a balanced binary tree over lanes
//! ([`pcrm_core::optim::Sent::total`]). They are sent to other processes while they are computed. Metrics
//! merge in the order of lanes. A run with one lane has one process and computes a step as a whole.

mod stopped;
mod tree;

use std::ops::Range;
use std::sync::Arc;

use pcrm_core::optim::{Sending, Sent};
use pcrm_core::{Backend, Collective, Error, Gradients, HostTensor, Params, Ready};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::stopped::Stopped;
pub(crate) use self::tree::subtrees;
use self::tree::{dealing, subtree};
use crate::error::Result;
use crate::learner::Trainable;
use crate::metrics::Metrics;
use crate::objective::{Batch, Gradient, Objective, TokenCounts, evaluate, gradient_of};
use crate::options::refuse;

/// The lanes of a run, and the processes that compute them.
#[derive(Debug, Clone)]
pub struct Lanes {
    count: usize,
    collective: Arc<dyn Collective>,
}

/// The gradient of a step, as the sum of one or more gradients, with the metrics of all lanes.
#[derive(Debug)]
pub struct LaneGradient {
    /// The gradient of a run with one lane; empty with several.
    pub gradients: Gradients,
    /// The gradients of a run with several lanes. Each is summed over all lanes before they are added up, so
    /// that the order of summation is the same with any number of processes.
    pub sent: Vec<Sent>,
    /// The metrics of the whole step.
    pub metrics: Metrics,
    /// Counts of the tokens of the whole step.
    pub tokens: TokenCounts,
    /// The ranks whose part of the loss is not finite.
    pub diverged: Vec<usize>,
}

impl From<Gradient> for LaneGradient {
    fn from(whole: Gradient) -> Self {
        let Gradient { gradients, metrics, tokens } = whole;
        Self { gradients, sent: Vec::new(), metrics, tokens, diverged: Vec::new() }
    }
}

impl Lanes {
    /// Creates this many lanes, computed by the processes that train together with this one.
    ///
    /// # Errors
    /// Fails if the processes cannot share the lanes equally.
    pub fn new(backend: &dyn Backend, count: usize) -> Result<Self> {
        let collective = backend.collective();
        let world = collective.world();
        match count.is_multiple_of(world) {
            true => Ok(Self { count, collective }),
            false => refuse(
                "lanes",
                format!("{count}: {world} processes cannot share them; expected a multiple of {world}"),
            ),
        }
    }

    /// Creates one lane per process, for work that is dealt and not summed.
    pub fn of_processes(backend: &dyn Backend) -> Self {
        let collective = backend.collective();
        Self { count: collective.world(), collective }
    }

    /// Returns the processes of the run.
    pub fn collective(&self) -> &Arc<dyn Collective> {
        &self.collective
    }

    /// Returns true for the process that writes files and reports.
    pub fn is_first(&self) -> bool {
        self.collective.is_first()
    }

    /// Returns true if steps are computed in parts.
    pub fn are_several(&self) -> bool {
        self.count > 1
    }

    /// Returns the number of lanes.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the largest nodes of the tree within each process's lanes, by rank.
    pub fn subtrees(&self) -> Vec<Vec<Range<usize>>> {
        subtrees(self.count, self.collective.world())
    }

    /// Computes the gradient of a batch, one lane after the other, and sends it while it is computed.
    ///
    /// # Errors
    /// Fails if the loss couples the items of a step, if a process is gone, or as the objective and the
    /// backend do.
    pub fn gradient<O: Objective>(
        &self,
        backend: &dyn Backend,
        objective: &O,
        model: &O::Model,
        batch: &Batch<'_, O>,
        progress: f64,
        mut sending: Sending<'_>,
    ) -> Result<LaneGradient> {
        if objective.at_once() {
            let message = format!(
                "{}: the loss couples the items of a step, which one process computes at once; expected 1",
                self.count
            );
            refuse("lanes", message)?;
        }
        let statistics = self.statistics(objective, model, batch)?;
        let pass = batch.pass(objective, &statistics, Some(progress));
        let mut shown: Vec<(Metrics, TokenCounts)> = Vec::new();
        let dealing = dealing(&(0..self.count));
        let mut of_lane = |lane: usize, ready: Ready<'_>| -> Result<()> {
            let place = dealing.iter().position(|of| *of == lane).unwrap_or(lane);
            let items: Vec<usize> = batch.items.iter().skip(place).step_by(self.count).copied().collect();
            if items.is_empty() {
                shown.push(Default::default());
                return zeros(model.params(), ready);
            }
            let part = Batch { data: batch.data, items: &items, micro_tokens: batch.micro_tokens };
            shown.push(gradient_of(backend, objective, model, &part, &pass, ready)?);
            Ok(())
        };
        for node in &self.subtrees()[self.collective.rank()] {
            subtree(node, &mut of_lane, &mut |name, gradient| sending.add(name, &gradient))?;
            sending.end_node()?;
        }
        let mut made = LaneGradient {
            gradients: Gradients::default(),
            sent: vec![sending.end()?],
            metrics: Metrics::default(),
            tokens: TokenCounts::default(),
            diverged: Vec::new(),
        };
        for (rank, shown) in self.gathered::<_, Vec<(Metrics, TokenCounts)>>(&shown)?.into_iter().enumerate()
        {
            for (metrics, tokens) in shown {
                if metrics.summary().get("loss").is_some_and(|loss| !loss.is_finite()) {
                    made.diverged.push(rank);
                }
                made.metrics.merge(metrics);
                made.tokens.merge(tokens);
            }
        }
        made.diverged.dedup();
        Ok(made)
    }

    /// Returns the metrics of a model on all items of a data set; each process computes a part of them.
    ///
    /// # Errors
    /// Fails as the objective does, or if a process is gone.
    pub fn evaluate<O: Objective>(
        &self,
        objective: &O,
        model: &O::Model,
        data: &O::Data,
        micro_tokens: usize,
    ) -> Result<Metrics> {
        if !self.are_several() {
            return evaluate(objective, model, data, micro_tokens);
        }
        let model = model.detached();
        let items: Vec<usize> = (0..objective.sizes(data).len()).collect();
        let batch = Batch { data, items: &items, micro_tokens };
        let statistics = self.statistics(objective, &model, &batch)?;
        let pass = batch.pass(objective, &statistics, None);
        let parts = batch.parts(objective);
        let of_parts = self.dealt(parts.len(), |own| {
            let of_part = |part: &&[usize]| {
                let mut metrics = Metrics::default();
                objective.forward(&model, data, part, &pass, &mut metrics)?;
                Ok(metrics)
            };
            parts[own].iter().map(of_part).collect()
        })?;
        let mut metrics = Metrics::default();
        of_parts.into_iter().for_each(|of_part| metrics.merge(of_part));
        Ok(metrics)
    }

    /// Returns the statistics of a batch's items; each process computes a part of them.
    fn statistics<O: Objective>(
        &self,
        objective: &O,
        model: &O::Model,
        batch: &Batch<'_, O>,
    ) -> Result<Vec<f64>> {
        if !objective.has_statistics() {
            return Ok(Vec::new());
        }
        self.dealt(batch.items.len(), |own| {
            Batch { items: &batch.items[own], ..*batch }.statistics(objective, model)
        })
    }

    /// Returns this process's range of `count` pieces of work.
    pub fn share_of(&self, count: usize) -> Range<usize> {
        let (rank, world) = (self.collective.rank(), self.collective.world());
        rank * count / world..(rank + 1) * count / world
    }

    /// Deals `count` pieces of work to the processes, a range to each, and returns all results in order.
    ///
    /// # Errors
    /// Fails as the work does, or if a process is gone. If the work of any process is interrupted, or fails
    /// for its rollouts or rewards, all processes fail together and with an error of the same kind.
    pub fn dealt<T: Serialize + DeserializeOwned>(
        &self,
        count: usize,
        work: impl FnOnce(Range<usize>) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        Ok(self.shares(count, work)?.into_iter().flatten().collect())
    }

    /// Deals `count` pieces of work like [`Lanes::dealt`], with one result per process, by rank.
    ///
    /// # Errors
    /// Fails as [`Lanes::dealt`] does.
    pub fn shares<T: Serialize + DeserializeOwned>(
        &self,
        count: usize,
        work: impl FnOnce(Range<usize>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let world = self.collective.world();
        let found = work(self.share_of(count));
        if world == 1 {
            return Ok(vec![found?]);
        }
        let own = match found {
            Ok(found) => Ok(found),
            Err(error) => Err(Stopped::of(error)?),
        };
        let all: Vec<Result<T, Stopped>> = self.gathered(&own)?;
        Stopped::joined(all, self.collective.rank())
    }

    /// Returns the values of all processes by rank, after serialisation.
    ///
    /// # Errors
    /// Fails if a process is gone.
    pub fn gathered<A: Serialize, T: DeserializeOwned>(&self, own: &A) -> Result<Vec<T>> {
        let unreadable = |error: postcard::Error| Error::invalid("collective", error.to_string());
        let bytes = postcard::to_stdvec(own).map_err(unreadable)?;
        let all = self.collective.gather(&bytes)?;
        Ok(all
            .iter()
            .map(|bytes| postcard::from_bytes(bytes).map_err(unreadable))
            .collect::<Result<_, _>>()?)
    }
}

/// Calls `ready` with zeros for every trained parameter: the gradient of an empty lane.
fn zeros(params: &Params, ready: Ready<'_>) -> Result<()> {
    for (name, param) in params.iter_trained() {
        let zeros = HostTensor::f32(param.shape(), vec![0.0; param.size()])?;
        ready(name, param.constant(&zeros)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
