//! AdamW with moments and masters in slices, one per process of a run (ZeRO stage 1, arXiv 1910.02054).
//!
//! A step sums gradients by slice ([`Sending`]), computes the norm, updates this process's slice, and gathers
//! all slices. No order of summation depends on the number of processes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::layout::{CHUNK, Layout};
use super::moments::{Moments, NAMES};
use super::offloaded::incomplete;
use super::{AdamWConfig, BUCKET_BYTES, Sending, StatePlace, StoredStates, check_trainable};
use crate::collective::Collective;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::{AdamWStep, AdamWUpdate, Slots};
use crate::ops;
use crate::params::Params;
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
    /// The moments of the runs.
    moments: Moments,
    step: u64,
}

/// A part of this process's slice whose parameters all decay, or do not.
#[derive(Debug)]
struct Run {
    range: Range<usize>,
    decays: bool,
    /// The masters.
    param: Tensor,
}

/// The gradient of this process's slice, summed over all lanes.
#[derive(Debug, Clone)]
pub struct SliceGradient(pub(super) Tensor);

impl SliceGradient {
    /// Returns the sum of two gradients.
    ///
    /// # Errors
    /// Fails if the backend fails.
    pub fn add(&self, more: &Self) -> Result<Self> {
        self.0.add(&more.0).map(Self)
    }
}

impl SlicedAdamW {
    /// Creates an optimiser of the trained parameters among these; its moments are zero.
    ///
    /// # Errors
    /// Fails if no parameter is trained, or if a trained one is not f32.
    pub fn new(config: AdamWConfig, params: &Params, collective: Arc<dyn Collective>) -> Result<Self> {
        Self::with_buckets(config, params, collective, BUCKET_BYTES)
    }

    /// Creates an optimiser like [`SlicedAdamW::new`], whose gradients are exchanged in buckets of at most
    /// this many bytes, but at least of a chunk of every slice.
    ///
    /// # Errors
    /// Fails as [`SlicedAdamW::new`] does.
    pub fn with_buckets(
        config: AdamWConfig,
        params: &Params,
        collective: Arc<dyn Collective>,
        bytes: usize,
    ) -> Result<Self> {
        Self::keeping(StatePlace::Device, config, params, collective, bytes)
    }

    /// Creates an optimiser like [`SlicedAdamW::with_buckets`], whose moments are in `place`; the masters are on the
    /// device.
    ///
    /// # Errors
    /// Fails as [`SlicedAdamW::new`] does, or if the host has too little memory.
    pub fn keeping(
        place: StatePlace,
        config: AdamWConfig,
        params: &Params,
        collective: Arc<dyn Collective>,
        bytes: usize,
    ) -> Result<Self> {
        check_trainable(params)?;
        let params = params.trained().detached();
        let layout = Layout::new(&params, collective.world(), bytes);
        let ranges = layout.runs(collective.rank());
        let (_, like) =
            params.iter().next().ok_or_else(|| Error::invalid("optimiser", "has no parameter"))?;
        let lengths = ranges.iter().map(|(range, _)| vec![range.len()]).collect();
        let moments = Moments::zeros(like, lengths, place)?;
        let mut made = Self { config, collective, layout, params, runs: Vec::new(), moments, step: 0 };
        let own = made.own(|name| made.params.get(name).cloned())?;
        let run = |(range, decays): (Range<usize>, bool)| {
            let part = own.narrow(0, range.start, range.len())?;
            Ok(Run { param: part.copied(part.dtype())?, range, decays })
        };
        made.runs = ranges.into_iter().map(run).collect::<Result<_>>()?;
        Ok(made)
    }

    /// Returns this process's slice of the vector of the tensors that `of` returns by name.
    fn own(&self, of: impl Fn(&str) -> Result<Tensor>) -> Result<Tensor> {
        self.layout.slice(self.collective.rank(), self.like()?, of)
    }

    /// Returns any of the parameters.
    fn like(&self) -> Result<&Tensor> {
        let (_, param) = self.params.iter().next().ok_or_else(|| Error::invalid("optimiser", "is empty"))?;
        Ok(param)
    }

    /// Returns the sender of the gradient of a step over `0..lanes`; every process has an equal range of
    /// lanes. `nodes` holds the largest nodes of the tree of lanes within each process's range, by rank.
    ///
    /// # Errors
    /// Fails if there is no parameter.
    pub fn sending(&self, lanes: usize, nodes: &[Vec<Range<usize>>]) -> Result<Sending<'_>> {
        Ok(Sending::new(&self.layout, self.collective.as_ref(), self.like()?, lanes, nodes))
    }

    /// Returns √Σ g² over all slices; it is not finite if any element is not.
    ///
    /// # Errors
    /// Fails if a process is gone.
    pub fn norm(&self, gradient: &SliceGradient) -> Result<f64> {
        let chunks = gradient.0.reshape([self.layout.size() / CHUNK, CHUNK])?;
        let sums = chunks.square()?.reduce(ops::Reduce::Sum, 1)?.read()?.into_f32();
        let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        let all = self.collective.gather(&bytes)?.concat();
        let (all, _) = all.as_chunks::<4>();
        if all.len() != self.layout.gathered().len() {
            let message = "the processes have slices of different sizes".to_owned();
            return Err(Error::Collective { message });
        }
        // In the order of the vector, which does not depend on the slices.
        let sums = self.layout.gathered().iter().map(|at| f64::from(f32::from_le_bytes(all[*at])));
        Ok(sums.sum::<f64>().sqrt())
    }

    /// Updates this process's slice and writes the weights of all slices to the model. The gradient is first
    /// multiplied by `grad_scale`.
    ///
    /// # Errors
    /// Fails if a process is gone.
    pub fn step(&mut self, gradient: &SliceGradient, lr: f64, grad_scale: f64) -> Result<()> {
        self.step += 1;
        let (AdamWConfig { beta1, beta2, eps, weight_decay }, step) = (self.config, self.step);
        let step = |run: &Run| {
            let weight_decay = if run.decays { weight_decay } else { 0.0 };
            AdamWStep { lr, beta1, beta2, eps, weight_decay, step, grad_scale }
        };
        let of = |run: &Run, range: Range<usize>, [mean, variance]: [&Tensor; 2]| -> Result<AdamWUpdate> {
            let param = run.param.narrow(0, range.start, range.len())?;
            let gradient = gradient.0.narrow(0, run.range.start + range.start, range.len())?;
            let slots = Slots { param, mean: mean.clone(), variance: variance.clone() };
            Ok(AdamWUpdate { step: step(run), slots, gradient })
        };
        let (runs, kernels) = (&self.runs, gradient.0.kernels());
        match self.moments.on_host() {
            Some(moments) => moments.each(|at, range, vectors| {
                let [mean, variance] = vectors else { return Err(incomplete()) };
                kernels.adamw_all(&[of(&runs[at], range, [mean, variance])?])
            })?,
            None => {
                let moments = self.moments.on_device().unwrap_or(&[]);
                let each = runs.iter().zip(moments);
                let update = |(run, [mean, variance]): (&Run, &[Tensor; 2])| {
                    of(run, 0..run.range.len(), [mean, variance])
                };
                kernels.adamw_all(&each.map(update).collect::<Result<Vec<_>>>()?)?;
            }
        }
        let whole = self.gathered(|run| Ok(self.runs[run].param.clone()))?;
        self.layout.each(&whole, |name, value| self.params.get(name)?.assign(&value))
    }

    /// Gathers the whole vector; `part` returns the elements of this process's runs.
    fn gathered(&self, part: impl Fn(usize) -> Result<Tensor>) -> Result<Tensor> {
        let parts = (0..self.runs.len()).map(part).collect::<Result<Vec<_>>>()?;
        self.collective.all_gather(&Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?)
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
        for (moment, part) in NAMES.into_iter().enumerate() {
            keep(part, &self.moment(moment)?)?;
        }
        Ok(state)
    }

    /// Takes part in the [`SlicedAdamW::state`] of another process without reading the moments of all slices.
    ///
    /// # Errors
    /// Fails if a process is gone.
    pub fn contribute(&self) -> Result<()> {
        (0..NAMES.len()).try_for_each(|moment| self.moment(moment).map(drop))
    }

    /// Gathers a moment of all slices.
    fn moment(&self, moment: usize) -> Result<Tensor> {
        let like = self.like()?;
        self.gathered(|run| self.moments.tensor(run, moment, like))
    }

    /// Restores the state of [`SlicedAdamW::state`] after `step` steps, saved with any number of processes,
    /// and adopts the model's current weights. Only moments of this process's slice are read, one at a time.
    ///
    /// # Errors
    /// Fails if such a moment is missing or has another shape than its parameter.
    pub fn restore(&mut self, state: &dyn StoredStates, step: u64) -> Result<()> {
        for (moment, part) in NAMES.into_iter().enumerate() {
            let own = self.layout.stored_slice(self.collective.rank(), self.like()?, |name, shape| {
                Ok(super::moment(state, part, name, shape)?.into_owned())
            })?;
            for (at, Run { range, .. }) in self.runs.iter().enumerate() {
                self.moments.assign(at, moment, &own.narrow(0, range.start, range.len())?)?;
            }
        }
        let own = self.own(|name| self.params.get(name).cloned())?;
        for Run { range, param, .. } in &self.runs {
            param.assign(&own.narrow(0, range.start, range.len())?)?;
        }
        self.step = step;
        Ok(())
    }
}
