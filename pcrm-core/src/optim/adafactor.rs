//! Adafactor (Shazeer & Stern, arXiv 1804.04235) with an external learning rate, as in transformers.
//!
//! The second moment of a matrix is factored into the means of its rows and of its columns; there is no first
//! moment. This corresponds to `scale_parameter=False, relative_step=False`, the settings of the transformers
//! trainer.

use std::collections::BTreeMap;

use super::held::Held;
use super::states::{States, StoredStates, put, put_rest};
use super::{AdamWConfig, WeightType, decay};
use crate::dtype::DType;
use crate::error::Result;
use crate::host::HostTensor;
use crate::params::{Gradients, Params};
use crate::tensor::{Tensor, Unary};

/// The constant added to squared gradients.
const EPS: f64 = 1e-30;
/// The largest root mean square of an update; larger updates are scaled down to it.
const CLIP: f64 = 1.0;
/// The exponent c of the moments' decay 1 − t^c at step t.
const POWER: f64 = -0.8;

/// The optimiser of the trained parameters of a model.
#[derive(Debug)]
pub struct Adafactor {
    weight_decay: f64,
    slots: BTreeMap<String, Slot>,
    step: u64,
}

#[derive(Debug)]
struct Slot {
    held: Held,
    second: Second,
}

/// The second moment of a parameter.
#[derive(Debug)]
enum Second {
    Whole(Tensor),
    /// The means of rows `[.., rows, 1]` and of columns `[.., 1, columns]`.
    Factored(Tensor, Tensor),
}

impl Adafactor {
    /// Creates an optimiser with zero moments; `config` supplies only the weight decay.
    ///
    /// # Errors
    /// Fails if a trained parameter has a type that the optimiser cannot update.
    pub(super) fn new(config: AdamWConfig, weights: WeightType, seed: u64, params: &Params) -> Result<Self> {
        let slot = |(name, param): (&str, &Tensor)| {
            let zeros = |shape: Vec<usize>| {
                let size = shape.iter().product();
                param.constant(&HostTensor::f32(shape, vec![0.0; size])?)
            };
            let shape = param.shape();
            let second = match shape.len() {
                0 | 1 => Second::Whole(zeros(shape)?),
                rank => {
                    let (mut rows, mut columns) = (shape.clone(), shape);
                    rows[rank - 1] = 1;
                    columns[rank - 2] = 1;
                    Second::Factored(zeros(rows)?, zeros(columns)?)
                }
            };
            Ok((name.to_owned(), Slot { held: Held::new(name, param, weights, seed)?, second }))
        };
        let slots = params.iter_trained().map(slot).collect::<Result<_>>()?;
        Ok(Self { weight_decay: config.weight_decay, slots, step: 0 })
    }

    pub(super) fn step(&mut self, gradients: &Gradients, lr: f64, grad_scale: f64) -> Result<()> {
        self.step += 1;
        let beta = 1.0 - (self.step as f64).powf(POWER);
        for (name, slot) in &self.slots {
            let grad = gradients.get(name)?.detach().cast(DType::F32)?.affine(grad_scale, 0.0)?;
            let update = slot.second.scaled(&grad, beta)?;
            let squares = update.kernels().sum_of_squares(&[&update])?;
            let rms = (squares / update.size() as f64).sqrt();
            let update = update.affine(lr / (rms / CLIP).max(1.0), 0.0)?;
            let value = slot.held.value()?;
            let kept = 1.0 - lr * decay(slot.held.param(), self.weight_decay);
            slot.held.set(&value.detach().affine(kept, 0.0)?.sub(&update)?, self.step)?;
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
            for (part, tensor) in slot.second.parts() {
                states.add(part, name, tensor.read()?);
            }
        }
        Ok(states.0)
    }

    pub(super) fn restore(&mut self, states: &dyn StoredStates, step: u64) -> Result<()> {
        for (name, slot) in &self.slots {
            put_rest(states, name, &slot.held)?;
            for (part, tensor) in slot.second.parts() {
                put(states, part, name, tensor)?;
            }
        }
        self.step = step;
        Ok(())
    }
}

impl Second {
    /// Updates the moment with a gradient, and returns the gradient divided by the root of the moment.
    fn scaled(&self, grad: &Tensor, beta: f64) -> Result<Tensor> {
        let squares = grad.square()?.affine(1.0, EPS)?;
        let fold = |moment: &Tensor, new: &Tensor| -> Result<Tensor> {
            let next = moment.affine(beta, 0.0)?.add(&new.affine(1.0 - beta, 0.0)?)?;
            moment.assign(&next)?;
            Ok(next)
        };
        match self {
            Self::Whole(moment) => grad.div(&fold(moment, &squares)?.unary(Unary::Sqrt)?),
            Self::Factored(rows, columns) => {
                let last = squares.shape().len() - 1;
                let rows = fold(rows, &squares.mean(last)?)?;
                let columns = fold(columns, &squares.mean(last - 1)?)?;
                let shares = rows.div(&rows.mean(last - 1)?)?.unary(Unary::Sqrt)?;
                grad.div(&shares)?.div(&columns.unary(Unary::Sqrt)?)
            }
        }
    }

    fn parts(&self) -> Vec<(&'static str, &Tensor)> {
        match self {
            Self::Whole(moment) => vec![("variance", moment)],
            Self::Factored(rows, columns) => vec![("rows", rows), ("columns", columns)],
        }
    }
}
