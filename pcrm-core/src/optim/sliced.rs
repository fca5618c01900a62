//! AdamW with moments and masters in slices, one per process of a run (ZeRO stage 1, arXiv 1910.02054).
//!
//! A step sums gradients by slice, computes the norm, updates this process's slice, and gathers all slices.
//! The order of summation does not depend on the number of processes: see [`SlicedAdamW::total`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::layout::{CHUNK, Layout, zeros};
use super::{AdamWConfig, check_trainable};
use crate::collective::Collective;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::{AdamWStep, Slots};
use crate::ops;
use crate::params::{Gradients, Params};
use crate::tensor::Tensor;

/// The optimiser of a model trained by several processes, or by one process in several lanes.
#[derive(Debug)]
pub struct SlicedAdamW {
    config: AdamWConfig,
    collective: Arc<dyn Collective>,
    layout: Layout,
    /// The parameters, which share the storage of the model's leaves.
    params: Params,
    runs: Vec<Run>,
    step: u64,
}

/// A part of this process's slice in which all or no parameters decay.
#[derive(Debug)]
struct Run {
    range: Range<usize>,
    decays: bool,
    slots: Slots,
}

/// The gradient of this process's slice, summed over all lanes.
#[derive(Debug, Clone)]
pub struct SliceGradient(Tensor);

impl SliceGradient {
    /// Returns the sum of two gradients.
    ///
    /// # Errors
    /// Fails if the backend fails.
    pub fn add(&self, more: &Self) -> Result<Self> {
        self.0.add(&more.0).map(Self)
    }
}

/// Sums of gradients over ranges of lanes; each range is a node of the tree that halves `0..lanes`
/// recursively.
pub type LaneSums = Vec<(Range<usize>, Gradients)>;

impl SlicedAdamW {
    /// Creates an optimiser of the trained parameters among these; its moments are zero.
    ///
    /// # Errors
    /// Fails if no parameter is trained, or if a trained one is not f32.
    pub fn new(config: AdamWConfig, params: &Params, collective: Arc<dyn Collective>) -> Result<Self> {
        check_trainable(params)?;
        let params = params.trained().detached();
        let layout = Layout::new(&params, collective.world());
        let mut made = Self { config, collective, layout, params, runs: Vec::new(), step: 0 };
        let own = made.own(&made.layout.flat(|name| made.params.get(name).cloned())?)?;
        let run = |(range, decays): (Range<usize>, bool)| {
            let part = own.narrow(0, range.start, range.len())?;
            let (mean, variance) = (zeros(&part, range.len())?, zeros(&part, range.len())?);
            Ok(Run { slots: Slots { param: part.copied(part.dtype())?, mean, variance }, range, decays })
        };
        let runs = made.layout.runs(made.collective.rank()).into_iter().map(run).collect::<Result<_>>()?;
        made.runs = runs;
        Ok(made)
    }

    /// Returns this process's slice of a whole vector.
    fn own(&self, flat: &Tensor) -> Result<Tensor> {
        flat.narrow(0, self.collective.rank() * self.layout.slice(), self.layout.slice())
    }

    /// Sums gradients over all lanes and returns this process's slice of the total. Every process has an
    /// equal range of lanes. `subtrees` holds the largest nodes within each process's range, by rank; `own`
    /// holds the sums over the nodes of this process.
    ///
    /// The sum follows a balanced binary tree over lanes. Each process sends the others their slices of its
    /// complete nodes, and adds the nodes above in tree order. The bits of the total therefore do not depend
    /// on the number of processes.
    ///
    /// # Errors
    /// Fails if a gradient belongs to a parameter that the optimiser does not have, if a parameter has no
    /// gradient, or if a process is gone.
    pub fn total(
        &self,
        lanes: usize,
        subtrees: &[Vec<Range<usize>>],
        own: &LaneSums,
    ) -> Result<SliceGradient> {
        let (slice, world) = (self.layout.slice(), self.collective.world());
        let mut flat = Vec::with_capacity(own.len());
        for (_, gradients) in own {
            self.check(gradients)?;
            flat.push(self.layout.flat(|name| gradients.get(name).cloned())?);
        }
        let mut nodes: BTreeMap<(usize, usize), Tensor> = BTreeMap::new();
        let most = subtrees.iter().map(Vec::len).max().unwrap_or(0);
        for at in 0..most {
            // A process with fewer nodes than others sends zeros, which are ignored.
            let sent = match flat.get(at) {
                Some(flat) => flat.clone(),
                None => {
                    let none = || Error::invalid("lanes", "there is no gradient");
                    zeros(flat.first().ok_or_else(none)?, slice * world)?
                }
            };
            let received = self.collective.all_to_all(&sent)?;
            for (rank, nodes_of) in subtrees.iter().enumerate() {
                if let Some(node) = nodes_of.get(at) {
                    nodes.insert((node.start, node.end), received.narrow(0, rank * slice, slice)?);
                }
            }
        }
        tree_sum(&(0..lanes), &nodes).map(SliceGradient)
    }

    fn check(&self, gradients: &Gradients) -> Result<()> {
        if let Some((name, _)) = gradients.iter().find(|(name, _)| !self.params.contains(name)) {
            return Err(Error::invalid(name, "has a gradient, but the optimiser does not train it"));
        }
        let missing = self.layout.names().filter(|name| gradients.get(name).is_err());
        let names: Vec<String> = missing.map(str::to_owned).collect();
        if names.is_empty() { Ok(()) } else { Err(Error::MissingGradient { names }) }
    }

    /// Returns √Σ g² over all slices; it is not finite if any element is not.
    ///
    /// # Errors
    /// Fails if a process is gone.
    pub fn norm(&self, gradient: &SliceGradient) -> Result<f64> {
        let chunks = gradient.0.reshape([self.layout.slice() / CHUNK, CHUNK])?;
        let sums = chunks.square()?.reduce(ops::Reduce::Sum, 1)?.read()?.into_f32();
        let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        let mut total = 0.0;
        for of_rank in self.collective.gather(&bytes)? {
            for sum in of_rank.as_chunks::<4>().0 {
                total += f64::from(f32::from_le_bytes(*sum));
            }
        }
        Ok(total.sqrt())
    }

    /// Updates this process's slice and writes the weights of all slices to the model. The gradient is first
    /// multiplied by `grad_scale`.
    ///
    /// # Errors
    /// Fails if a process is gone.
    pub fn step(&mut self, gradient: &SliceGradient, lr: f64, grad_scale: f64) -> Result<()> {
        self.step += 1;
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        for Run { range, decays, slots } in &self.runs {
            let weight_decay = if *decays { weight_decay } else { 0.0 };
            let step = AdamWStep { lr, beta1, beta2, eps, weight_decay, step: self.step, grad_scale };
            let gradient = gradient.0.narrow(0, range.start, range.len())?;
            gradient.kernels().adamw(&step, slots, &gradient)?;
        }
        let whole = self.gathered(|slots| &slots.param)?;
        self.layout.each(&whole, |name, value| self.params.get(name)?.assign(&value))
    }

    /// Gathers the whole vector of one slot.
    fn gathered(&self, slot: impl Fn(&Slots) -> &Tensor) -> Result<Tensor> {
        let parts: Vec<&Tensor> = self.runs.iter().map(|run| slot(&run.slots)).collect();
        self.collective.all_gather(&Tensor::concat(&parts, 0)?)
    }

    /// Returns the number of steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Returns the moments of all slices, as `mean.NAME` and `variance.NAME`; every process returns the same.
    ///
    /// # Errors
    /// Fails if a process is gone.
    pub fn state(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut state = BTreeMap::new();
        let mut keep = |moment: &str, whole: &Tensor| {
            self.layout.each(whole, |name, value| {
                state.insert(format!("{moment}.{name}"), value.read()?);
                Ok(())
            })
        };
        keep("mean", &self.gathered(|slots| &slots.mean)?)?;
        keep("variance", &self.gathered(|slots| &slots.variance)?)?;
        Ok(state)
    }

    /// Restores the state of [`SlicedAdamW::state`] after `step` steps, saved with any number of processes,
    /// and adopts the model's current weights.
    ///
    /// # Errors
    /// Fails if a moment is missing or has another shape than its parameter.
    pub fn restore(&mut self, state: &BTreeMap<String, HostTensor>, step: u64) -> Result<()> {
        for (moment, slot) in [("mean", 1), ("variance", 2)] {
            let flat = self.layout.flat(|name| {
                let param = self.params.get(name)?;
                param.constant(super::moment(state, moment, name, &param.shape())?)
            })?;
            self.put(slot, &self.own(&flat)?)?;
        }
        self.put(0, &self.own(&self.layout.flat(|name| self.params.get(name).cloned())?)?)?;
        self.step = step;
        Ok(())
    }

    /// Replaces this process's slice of the parameters (0), the means (1) or the variances (2).
    fn put(&self, slot: usize, own: &Tensor) -> Result<()> {
        self.runs.iter().try_for_each(|Run { range, slots, .. }| {
            let [param, mean, variance] = [&slots.param, &slots.mean, &slots.variance];
            [param, mean, variance][slot].assign(&own.narrow(0, range.start, range.len())?)
        })
    }
}

/// Returns the sum over a node of the tree of lanes: the received one, or the sum of its halves.
fn tree_sum(node: &Range<usize>, nodes: &BTreeMap<(usize, usize), Tensor>) -> Result<Tensor> {
    if let Some(sum) = nodes.get(&(node.start, node.end)) {
        return Ok(sum.clone());
    }
    let [left, right] = halves(node).ok_or_else(|| Error::invalid("lanes", "a lane has no gradient"))?;
    tree_sum(&left, nodes)?.add(&tree_sum(&right, nodes)?)
}

/// Returns the two halves of a node of the tree of lanes; `None` for a single lane.
pub fn halves(node: &Range<usize>) -> Option<[Range<usize>; 2]> {
    let middle = node.start + node.len() / 2;
    (node.len() > 1).then_some([node.start..middle, middle..node.end])
}
