//! AdamW and sums of squares over many tensors, each in one launch.

#![allow(unsafe_code, reason = "a kernel gets bare addresses")]

use pcrm_core::cuda::{Argument, chunks};
use pcrm_core::kernels::AdamWStep;
use tch::{Kind, Tensor as Torch};

use super::fused::{Fused, named};
use super::module::{Grid, address};
use crate::ops::Torched;
use crate::tensor::to_device;

/// The addresses and the decay of a tensor in [`Fused::adamw`].
pub(crate) struct Update<'a> {
    pub(crate) step: &'a AdamWStep,
    /// θ, m, v and the gradient, f32 and contiguous.
    pub(crate) slots: [&'a Torch; 4],
}

impl Fused {
    /// Takes a step of AdamW for all tensors in one launch. The steps differ in weight decay alone.
    pub(crate) fn adamw(&self, updates: &[Update<'_>]) -> Torched<()> {
        let Some(first) = updates.first() else { return Ok(()) };
        let (step, device) = (first.step, first.slots[0].device());
        let addresses = updates.iter().flat_map(|update| update.slots.map(|x| x.data_ptr() as i64));
        let chunks = chunks(updates.iter().map(|update| update.slots[0].numel()));
        let blocks = chunks.len() / 2;
        let table = to_device(&Torch::f_from_slice(&[chunks, addresses.collect()].concat())?, device)?;
        let decay = |update: &Update<'_>| (1.0 - update.step.lr * update.step.weight_decay) as f32;
        let decays =
            to_device(&Torch::f_from_slice(&updates.iter().map(decay).collect::<Vec<_>>())?, device)?;
        let bias = |beta: f64| 1.0 - beta.powf(step.step as f64);
        // SAFETY: the kernel's parameters; addresses and lengths are those of the tensors.
        unsafe {
            self.0.launch(
                "adamw",
                Grid::new(blocks, 512),
                &[
                    address(&table),
                    Argument::Address(table.data_ptr() as u64 + 16 * blocks as u64),
                    address(&decays),
                    Argument::F32(step.grad_scale as f32),
                    Argument::F32(step.beta1 as f32),
                    Argument::F32(step.beta2 as f32),
                    Argument::F32((step.lr / bias(step.beta1)) as f32),
                    Argument::F32(bias(step.beta2).sqrt() as f32),
                    Argument::F32(step.eps as f32),
                ],
            )
        }
    }

    /// Computes Σ x² of contiguous tensors of one type: f64 `[1]` on the device.
    pub(crate) fn sum_of_squares(&self, tensors: &[&Torch]) -> Torched {
        let device = tensors[0].device();
        let addresses = tensors.iter().map(|x| x.data_ptr() as i64);
        let chunks = chunks(tensors.iter().map(|x| x.numel()));
        let blocks = chunks.len() / 2;
        let table = to_device(&Torch::f_from_slice(&[chunks, addresses.collect()].concat())?, device)?;
        let sums = Torch::f_empty([blocks as i64], (Kind::Double, device))?;
        // SAFETY: the kernel's parameters; addresses and lengths are those of the tensors.
        unsafe {
            self.0.launch(
                &named("sum_of_squares", tensors[0]),
                Grid::new(blocks, 256),
                &[
                    address(&table),
                    Argument::Address(table.data_ptr() as u64 + 16 * blocks as u64),
                    address(&sums),
                ],
            )?;
        }
        sums.f_sum_dim_intlist(0i64, true, None)
    }
}
