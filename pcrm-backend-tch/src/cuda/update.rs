//! AdamW and sums of squares over many tensors, each in one launch; AdamW with 8-bit moments, and stochastic rounding.

#![allow(unsafe_code, reason = "a kernel gets bare addresses")]

use pcrm_core::cuda::{Argument, chunks};
use pcrm_core::kernels::{AdamWStep, RandomBits};
use pcrm_core::optim::dynamic::BLOCK;
use pcrm_core::slices::adamw8::Factors;
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
        // SAFETY: the arguments match the kernel's parameters; addresses and lengths come from the tensors.
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

    /// Takes a step of AdamW with 8-bit moments: θ, the codes and magnitudes of m and of v, the maps of the codes, and
    /// the gradient, all contiguous.
    pub(crate) fn adamw_8bit(&self, step: &AdamWStep, slots: [&Torch; 7]) -> Torched<()> {
        self.adamw_8bit_by(16 * self.0.processors(), step, slots)
    }

    /// Takes this step with at most `most` thread blocks.
    pub(super) fn adamw_8bit_by(&self, most: usize, step: &AdamWStep, slots: [&Torch; 7]) -> Torched<()> {
        let [param, mean, mean_largest, variance, variance_largest, maps, gradient] = slots.map(address);
        let count = slots[0].numel();
        let operands = [param, gradient, mean, mean_largest, variance, variance_largest, maps];
        let arguments: Vec<Argument> = operands
            .into_iter()
            .chain([Argument::I64(count as i64)])
            .chain(Factors::new(step).arguments())
            .collect();
        // Each of the eight warps of a thread block processes a block of the moments at a time.
        let blocks = count.div_ceil(8 * BLOCK).clamp(1, most);
        // SAFETY: the arguments match the kernel's parameters; `operands::adamw_8bit` has checked types and sizes.
        unsafe { self.0.launch("adamw_8bit", Grid::new(blocks, 256), &arguments) }
    }

    /// Rounds f32 values to bf16 at random, both contiguous.
    pub(crate) fn round_at_random(&self, value: &Torch, into: &Torch, bits: &RandomBits) -> Torched<()> {
        let count = value.numel() as i64;
        let numbers = [count, bits.key() as i64, bits.first as i64].map(Argument::I64);
        let arguments = [[address(value), address(into)].as_slice(), &numbers].concat();
        // SAFETY: the arguments match the kernel's parameters; `operands::round_at_random` has checked types and sizes.
        unsafe { self.0.launch("round_at_random", self.spread(count), &arguments) }
    }

    /// Computes Σ x² of contiguous tensors of one type: f64 `[1]` on the device.
    pub(crate) fn sum_of_squares(&self, tensors: &[&Torch]) -> Torched {
        let device = tensors[0].device();
        let addresses = tensors.iter().map(|x| x.data_ptr() as i64);
        let chunks = chunks(tensors.iter().map(|x| x.numel()));
        let blocks = chunks.len() / 2;
        let table = to_device(&Torch::f_from_slice(&[chunks, addresses.collect()].concat())?, device)?;
        let sums = Torch::f_empty([blocks as i64], (Kind::Double, device))?;
        // SAFETY: the arguments match the kernel's parameters; addresses and lengths come from the tensors.
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
