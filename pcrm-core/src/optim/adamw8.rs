//! AdamW with 8-bit moments, as in bitsandbytes' AdamW8bit: parameters of fewer than 4096 elements have f32
//! moments.
//!
//! The moments of larger parameters are in host memory, and updates are computed there: every step reads
//! gradients from the device and writes weights back. These moments take no GPU memory.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::dynamic::{BLOCK, Moment, SIGNED, UNSIGNED};
use super::held::Held;
use super::states::{States, put, put_rest, stored};
use super::{AdamWConfig, WeightType, decay, plain};
use crate::dtype::DType;
use crate::error::Result;
use crate::host::{HostData, HostTensor};
use crate::kernels::AdamWStep;
use crate::params::{Gradients, Params};
use crate::tensor::Tensor;

/// The smallest number of elements with 8-bit moments; smaller parameters have f32 moments.
pub const SMALLEST: usize = 4096;

/// The optimiser of the trained parameters of a model.
#[derive(Debug)]
pub struct AdamW8bit {
    config: AdamWConfig,
    slots: BTreeMap<String, Slot>,
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
    Whole(Tensor, Tensor),
    Quantised(Moment, Moment),
}

impl AdamW8bit {
    /// Creates an optimiser with zero moments.
    ///
    /// # Errors
    /// Fails if a trained parameter has a type that the optimiser cannot update.
    pub(super) fn new(config: AdamWConfig, weights: WeightType, seed: u64, params: &Params) -> Result<Self> {
        let slot = |(name, param): (&str, &Tensor)| {
            let moments = match param.size() < SMALLEST {
                true => {
                    let zeros = HostTensor::f32(param.shape(), vec![0.0; param.size()])?;
                    Moments::Whole(param.constant(&zeros)?, param.constant(&zeros)?)
                }
                false => Moments::Quantised(Moment::zeros(param.size()), Moment::zeros(param.size())),
            };
            Ok((name.to_owned(), Slot { held: Held::new(name, param, weights, seed)?, moments }))
        };
        let slots = params.iter_trained().map(slot).collect::<Result<_>>()?;
        Ok(Self { config, slots, step: 0 })
    }

    pub(super) fn step(&mut self, gradients: &Gradients, lr: f64, grad_scale: f64) -> Result<()> {
        self.step += 1;
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        for (name, slot) in &mut self.slots {
            let weight_decay = decay(slot.held.param(), weight_decay);
            let step = AdamWStep { lr, beta1, beta2, eps, weight_decay, step: self.step, grad_scale };
            let gradient = gradients.get(name)?;
            match &mut slot.moments {
                Moments::Whole(mean, variance) => plain(&step, &slot.held, [mean, variance], gradient)?,
                Moments::Quantised(mean, variance) => {
                    let gradient = gradient.cast(DType::F32)?.read()?.into_f32();
                    let shape = slot.held.param().shape();
                    let mut weights = slot.held.value()?.read()?.into_f32();
                    update(&step, &mut weights, &gradient, [mean, variance]);
                    let host = HostTensor::f32(shape, weights)?;
                    slot.held.set(&slot.held.param().constant(&host)?.cast(DType::F32)?, self.step)?;
                }
            }
        }
        Ok(())
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
            match &slot.moments {
                Moments::Whole(mean, variance) => {
                    states.add("mean", name, mean.read()?);
                    states.add("variance", name, variance.read()?);
                }
                Moments::Quantised(mean, variance) => {
                    for (codes, largest, moment) in
                        [("mean", "mean_absmax", mean), ("variance", "variance_absmax", variance)]
                    {
                        states.add(codes, name, HostTensor::indices(moment.packed()));
                        states.add(largest, name, HostTensor::vector(moment.largest.clone()));
                    }
                }
            }
        }
        Ok(states.0)
    }

    pub(super) fn restore(&mut self, states: &BTreeMap<String, HostTensor>, step: u64) -> Result<()> {
        for (name, slot) in &mut self.slots {
            put_rest(states, name, &slot.held)?;
            match &mut slot.moments {
                Moments::Whole(mean, variance) => {
                    put(states, "mean", name, mean)?;
                    put(states, "variance", name, variance)?;
                }
                Moments::Quantised(mean, variance) => {
                    for (codes, largest, moment) in
                        [("mean", "mean_absmax", mean), ("variance", "variance_absmax", variance)]
                    {
                        let numbers =
                            stored(states, codes, name, &[moment.codes.len().div_ceil(4)], DType::U32)?;
                        if let HostData::U32(numbers) = numbers.data() {
                            moment.unpack(numbers);
                        }
                        let blocks = [moment.largest.len()];
                        moment.largest = stored(states, largest, name, &blocks, DType::F32)?.to_f32();
                    }
                }
            }
        }
        self.step = step;
        Ok(())
    }
}

/// Updates one parameter, block by block; blocks are independent of each other.
fn update(step: &AdamWStep, weights: &mut [f32], gradient: &[f32], [mean, variance]: [&mut Moment; 2]) {
    let (beta1, beta2, eps) = (step.beta1 as f32, step.beta2 as f32, step.eps as f32);
    let (new1, new2) = ((1.0 - step.beta1) as f32, (1.0 - step.beta2) as f32);
    let root = (1.0 - step.beta2.powf(step.step as f64)).sqrt() as f32;
    let rate = (step.lr / (1.0 - step.beta1.powf(step.step as f64))) as f32;
    let (kept, scale) = ((1.0 - step.lr * step.weight_decay) as f32, step.grad_scale as f32);
    let block = |weights: &mut [f32],
                 gradient: &[f32],
                 first: (&mut [u8], &mut f32),
                 second: (&mut [u8], &mut f32)| {
        let size = weights.len();
        let (mut means, mut variances) = ([0.0; BLOCK], [0.0; BLOCK]);
        let (means, variances) = (&mut means[..size], &mut variances[..size]);
        SIGNED.unpack(first.0, *first.1, means);
        UNSIGNED.unpack(second.0, *second.1, variances);
        for at in 0..size {
            let grad = gradient[at] * scale;
            means[at] = means[at] * beta1 + grad * new1;
            variances[at] = variances[at] * beta2 + grad * grad * new2;
            weights[at] = weights[at] * kept - rate * means[at] / (variances[at].sqrt() / root + eps);
        }
        *first.1 = SIGNED.pack(means, first.0);
        *second.1 = UNSIGNED.pack(variances, second.0);
    };
    let firsts = mean.codes.par_chunks_mut(BLOCK).zip(mean.largest.par_iter_mut());
    let seconds = variance.codes.par_chunks_mut(BLOCK).zip(variance.largest.par_iter_mut());
    let values = weights.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
    values.zip(firsts.zip(seconds)).for_each(|((weights, gradient), (first, second))| {
        block(weights, gradient, first, second);
    });
}
