//! AdamW and sums of squares over many tensors, each in one launch; AdamW with 8-bit moments, and stochastic rounding.

#![allow(unsafe_code, reason = "a kernel gets bare addresses")]

use candle_core as ct;
use pcrm_core::cuda::{Argument, chunks};
use pcrm_core::kernels::{AdamWStep, RandomBits};
use pcrm_core::optim::dynamic::BLOCK;
use pcrm_core::slices::adamw8::Factors;

use super::fused::Fused;
use super::module::{Grid, address, device_of, room};

/// A tensor in [`Fused::adamw`].
pub(crate) struct Update<'a> {
    pub(crate) step: &'a AdamWStep,
    /// θ, m, v and the gradient, f32 and contiguous.
    pub(crate) slots: [&'a ct::Tensor; 4],
}

impl Fused {
    /// Takes a step of AdamW for all tensors in one launch. The steps differ in weight decay alone.
    pub(crate) fn adamw(&self, updates: &[Update<'_>]) -> ct::Result<()> {
        let Some(first) = updates.first() else { return Ok(()) };
        let (step, like) = (first.step, first.slots[0]);
        let slots: Vec<&ct::Tensor> = updates.iter().flat_map(|update| update.slots).collect();
        let table = Table::new(updates.iter().map(|update| update.slots[0].elem_count()), &slots)?;
        let (table, addresses) = table.upload(like.device())?;
        let decay = |update: &Update<'_>| (1.0 - update.step.lr * update.step.weight_decay) as f32;
        let decays: Vec<f32> = updates.iter().map(decay).collect();
        let decays = ct::Tensor::from_vec(decays, updates.len(), like.device())?;
        let bias = |beta: f64| 1.0 - beta.powf(step.step as f64);
        let numbers = [
            step.grad_scale,
            step.beta1,
            step.beta2,
            step.lr / bias(step.beta1),
            bias(step.beta2).sqrt(),
            step.eps,
        ];
        let mut arguments = vec![address(&table)?, address(&table.narrow(0, addresses, slots.len())?)?];
        arguments.push(address(&decays)?);
        arguments.extend(numbers.map(|number| Argument::F32(number as f32)));
        let Some(device) = device_of(like) else { ct::bail!("adamw needs a GPU") };
        // SAFETY: the arguments match the kernel's parameters; addresses and lengths come from the tensors.
        unsafe { self.0.launch(device, "adamw", Grid::line(addresses / 2, 512, 0), &arguments) }
    }

    /// Takes a step of AdamW with 8-bit moments: θ, the codes and magnitudes of m and of v, the maps of the codes, and
    /// the gradient, all contiguous.
    pub(crate) fn adamw_8bit(&self, step: &AdamWStep, slots: [&ct::Tensor; 7]) -> ct::Result<()> {
        self.adamw_8bit_by(16 * self.0.processors(), step, slots)
    }

    /// Takes this step with at most `most` thread blocks.
    pub(super) fn adamw_8bit_by(
        &self,
        most: usize,
        step: &AdamWStep,
        slots: [&ct::Tensor; 7],
    ) -> ct::Result<()> {
        let [param, mean, mean_largest, variance, variance_largest, maps, gradient] = slots;
        let count = param.elem_count();
        let mut arguments = Vec::new();
        for operand in [param, gradient, mean, mean_largest, variance, variance_largest, maps] {
            arguments.push(address(operand)?);
        }
        arguments.push(Argument::I64(count as i64));
        arguments.extend(Factors::new(step).arguments());
        // Each of the eight warps of a thread block processes a block of the moments at a time.
        let blocks = count.div_ceil(8 * BLOCK).clamp(1, most);
        let Some(device) = device_of(param) else { ct::bail!("adamw_8bit needs a GPU") };
        // SAFETY: the arguments match the kernel's parameters; `operands::adamw_8bit` has checked types and sizes.
        unsafe { self.0.launch(device, "adamw_8bit", Grid::line(blocks, 256, 0), &arguments) }
    }

    /// Rounds f32 values to bf16 at random, both contiguous.
    pub(crate) fn round_at_random(
        &self,
        value: &ct::Tensor,
        into: &ct::Tensor,
        bits: &RandomBits,
    ) -> ct::Result<()> {
        let count = value.elem_count();
        let numbers = [count as i64, bits.key() as i64, bits.first as i64].map(Argument::I64);
        let arguments = [[address(value)?, address(into)?].as_slice(), &numbers].concat();
        let Some(device) = device_of(value) else { ct::bail!("round_at_random needs a GPU") };
        // SAFETY: the arguments match the kernel's parameters; `operands::round_at_random` has checked types and sizes.
        unsafe { self.0.launch(device, "round_at_random", self.spread(count), &arguments) }
    }

    /// Computes Σ x² of contiguous f32 tensors: f64 `[1]` on the device.
    pub(crate) fn sum_of_squares(&self, tensors: &[&ct::Tensor]) -> ct::Result<ct::Tensor> {
        let like = tensors[0];
        let table = Table::new(tensors.iter().map(|x| x.elem_count()), tensors)?;
        let (table, addresses) = table.upload(like.device())?;
        let sums = room(addresses / 2, ct::DType::F64, like.device())?;
        let arguments =
            [address(&table)?, address(&table.narrow(0, addresses, tensors.len())?)?, address(&sums)?];
        // SAFETY: the arguments match the kernel's parameters; addresses and lengths come from the tensors.
        unsafe { self.launch(like, "sum_of_squares", Grid::line(addresses / 2, 256, 0), &arguments) }?;
        sums.sum_keepdim(0)
    }
}

/// The chunks of many tensors, two numbers for each, and the tensors' addresses.
struct Table {
    chunks: Vec<i64>,
    addresses: Vec<i64>,
}

impl Table {
    /// Divides tensors of these lengths into chunks.
    fn new(lengths: impl Iterator<Item = usize>, tensors: &[&ct::Tensor]) -> ct::Result<Self> {
        let mut addresses = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            if let Argument::Address(at) = address(tensor)? {
                addresses.push(at as i64);
            }
        }
        Ok(Self { chunks: chunks(lengths), addresses })
    }

    /// Uploads both, and returns where the addresses begin.
    fn upload(mut self, device: &ct::Device) -> ct::Result<(ct::Tensor, usize)> {
        let first = self.chunks.len();
        self.chunks.append(&mut self.addresses);
        let length = self.chunks.len();
        Ok((ct::Tensor::from_vec(self.chunks, length, device)?, first))
    }
}
