//! AdamW with 8-bit moments, as in bitsandbytes' AdamW8bit: parameters of fewer than 4096 elements have f32
//! moments.
//!
//! A backend whose kernels compute [`crate::Kernels::adamw_8bit`] reads nothing back. Elsewhere the host computes
//! the update, so that every step moves moments, gradients and weights between a GPU and the host.

use std::collections::BTreeMap;
use std::ops::Range;

use super::dynamic::{BLOCK, Moment, maps};
use super::held::Held;
use super::moments::NAMES;
use super::offloaded::{FlatGradient, OffloadedMoments, incomplete, pieces};
use super::states::{States, StoredStates, put, put_rest, stored};
use super::{AdamWConfig, StatePlace, WeightType, decay, plain};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::{HostData, HostTensor};
use crate::kernels::{AdamWStep, QuantisedMoment, QuantisedSlots};
use crate::params::{Gradients, Params};
use crate::tensor::Tensor;

/// The smallest number of elements with 8-bit moments; smaller parameters have f32 moments.
pub const SMALLEST: usize = 4096;

/// The names of the largest magnitudes of the moments' blocks.
const LARGEST: [&str; 2] = ["mean_absmax", "variance_absmax"];

/// The optimiser of the trained parameters of a model.
#[derive(Debug)]
pub struct AdamW8bit {
    config: AdamWConfig,
    slots: BTreeMap<String, Slot>,
    /// The maps of the codes on the device.
    maps: Tensor,
    /// The moments in host memory, numbered in the order of their slots.
    offloaded: Option<OffloadedMoments>,
    step: u64,
}

#[derive(Debug)]
struct Slot {
    held: Held,
    moments: Moments,
}

#[derive(Debug)]
enum Moments {
    /// The first and second moment, f32.
    Whole([Tensor; 2]),
    /// Both in 8 bits, on the device.
    Quantised([QuantisedMoment; 2]),
    /// Both in 8 bits, in host memory under this number.
    Offloaded(usize),
}

impl AdamW8bit {
    /// Creates an optimiser with zero moments in `place`.
    ///
    /// # Errors
    /// Fails if no parameter is trained, if a trained one has a type that the optimiser cannot update, or if there
    /// is too little memory.
    pub(super) fn new(
        config: AdamWConfig,
        weights: WeightType,
        seed: u64,
        params: &Params,
        place: StatePlace,
    ) -> Result<Self> {
        let (mut slots, mut offloaded) = (BTreeMap::new(), Vec::new());
        for (name, param) in params.iter_trained() {
            let (held, size) = (Held::new(name, param, weights, seed)?, param.size());
            let moments = match place {
                _ if size < SMALLEST => {
                    let zeros = HostTensor::f32(param.shape(), vec![0.0; size])?;
                    Moments::Whole([param.constant(&zeros)?, param.constant(&zeros)?])
                }
                StatePlace::Device => {
                    let zeros = || QuantisedMoment::upload(Moment::zeros(size), param);
                    Moments::Quantised([zeros()?, zeros()?])
                }
                StatePlace::Host => {
                    offloaded.push(size);
                    Moments::Offloaded(offloaded.len() - 1)
                }
            };
            slots.insert(name.to_owned(), Slot { held, moments });
        }
        let (_, like) =
            params.iter_trained().next().ok_or_else(|| Error::invalid("optimiser", "has no parameter"))?;
        let vectors = |size: usize| [(DType::U8, size), (DType::F32, size.div_ceil(BLOCK))].repeat(2);
        let offloaded = match offloaded.is_empty() {
            true => None,
            false => Some(OffloadedMoments::new(like, offloaded.into_iter(), vectors)?),
        };
        Ok(Self { config, slots, maps: like.constant(&maps()?)?, offloaded, step: 0 })
    }

    pub(super) fn step(&mut self, gradients: &Gradients, lr: f64, grad_scale: f64) -> Result<()> {
        self.step += 1;
        let (AdamWConfig { beta1, beta2, eps, weight_decay }, step) = (self.config, self.step);
        let step = |held: &Held| {
            let weight_decay = decay(held.param(), weight_decay);
            AdamWStep { lr, beta1, beta2, eps, weight_decay, step, grad_scale }
        };
        let (maps, mut flat) = (&self.maps, FlatGradient::default());
        let mut away = Vec::new();
        for (at, (name, Slot { held, moments })) in self.slots.iter().enumerate() {
            match moments {
                Moments::Whole([mean, variance]) => {
                    plain(&step(held), held, [mean, variance], gradients.get(name)?)?;
                }
                // A piece at a time, because the f32 value of a large bf16 weight takes twice its memory.
                Moments::Quantised([mean, variance]) => {
                    for range in pieces(held.param().size()) {
                        let gradient = flat.part(at, range.clone(), || gradients.get(name))?;
                        let moments = [mean.part(range.clone())?, variance.part(range.clone())?];
                        update(&step(held), &held.part(range)?, moments, maps, &gradient)?;
                    }
                }
                Moments::Offloaded(_) => away.push((name, held)),
            }
        }
        let Some(offloaded) = &mut self.offloaded else { return Ok(()) };
        let mut flat = FlatGradient::default();
        offloaded.each(|at, range: Range<usize>, vectors| {
            let (name, held) = away[at];
            let gradient = flat.part(at, range.clone(), || gradients.get(name))?;
            let [mean, mean_largest, variance, variance_largest] = vectors else { return Err(incomplete()) };
            let moment = |codes: &Tensor, largest: &Tensor| QuantisedMoment {
                codes: codes.clone(),
                largest: largest.clone(),
            };
            let moments = [moment(mean, mean_largest), moment(variance, variance_largest)];
            update(&step(held), &held.part(range)?, moments, maps, &gradient)
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.slots.keys()
    }

    pub(super) fn steps(&self) -> u64 {
        self.step
    }

    pub(super) fn state(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut states = States::default();
        for (name, slot) in &self.slots {
            states.add_rest(name, &slot.held)?;
            for (at, (codes, largest)) in NAMES.into_iter().zip(LARGEST).enumerate() {
                let moment = match (&slot.moments, &self.offloaded) {
                    (Moments::Whole(moments), _) => {
                        states.add(codes, name, moments[at].read()?);
                        continue;
                    }
                    (Moments::Quantised(moments), _) => moments[at].read()?,
                    (Moments::Offloaded(slot), Some(all)) => {
                        Moment { codes: all.codes(*slot, 2 * at)?, largest: all.floats(*slot, 2 * at + 1)? }
                    }
                    (Moments::Offloaded(_), None) => continue,
                };
                states.add(codes, name, HostTensor::indices(moment.packed()));
                states.add(largest, name, HostTensor::vector(moment.largest));
            }
        }
        Ok(states.0)
    }

    pub(super) fn restore(&mut self, states: &dyn StoredStates, step: u64) -> Result<()> {
        for (name, slot) in &self.slots {
            put_rest(states, name, &slot.held)?;
            let size = slot.held.param().size();
            for (at, (codes, largest)) in NAMES.into_iter().zip(LARGEST).enumerate() {
                let kept = || -> Result<Moment> {
                    let mut moment = Moment::zeros(size);
                    if let HostData::U32(numbers) =
                        stored(states, codes, name, &[size.div_ceil(4)], DType::U32)?.data()
                    {
                        moment.unpack(numbers);
                    }
                    let blocks = [size.div_ceil(BLOCK)];
                    moment.largest = stored(states, largest, name, &blocks, DType::F32)?.to_f32();
                    Ok(moment)
                };
                match (&slot.moments, &mut self.offloaded) {
                    (Moments::Whole(moments), _) => put(states, codes, name, &moments[at])?,
                    (Moments::Quantised(moments), _) => moments[at].assign(kept()?)?,
                    (Moments::Offloaded(slot), Some(all)) => {
                        let Moment { codes, largest } = kept()?;
                        all.put(*slot, 2 * at, &HostData::U8(codes))?;
                        all.put(*slot, 2 * at + 1, &HostData::F32(largest))?;
                    }
                    (Moments::Offloaded(_), None) => {}
                }
            }
        }
        self.step = step;
        Ok(())
    }
}

/// Updates a piece of a parameter.
fn update(
    step: &AdamWStep,
    held: &Held,
    [mean, variance]: [QuantisedMoment; 2],
    maps: &Tensor,
    gradient: &Tensor,
) -> Result<()> {
    let slots = QuantisedSlots { param: held.value()?, mean, variance, maps: maps.clone() };
    gradient.kernels().adamw_8bit(step, &slots, gradient)?;
    match held.is_rounded() {
        true => held.set(&slots.param, step.step),
        false => Ok(()),
    }
}
