//! Attention over a sequence tree by the kernels of [`pcrm_core::cuda::ATTENTION`]: one launch for the values,
//! four for the gradients, whatever the number of segments.

#![allow(unsafe_code, reason = "a kernel gets bare addresses")]

use std::sync::Arc;

use candle_core as ct;
use ct::cuda_backend::CudaDevice;
use pcrm_core::cuda::{ATTENTION, Argument, TILE, Tiles};
use pcrm_core::{Attention, PlannedTree};

use super::module::{Grid, Module, address, device_of, room};
use crate::device_ops::attention::plan::Sizes;

const THREADS: usize = 128;
/// Rows of a gradient that one block of the last kernel adds up.
const ROWS: usize = 8;

/// The compiled kernels for one head size.
pub(crate) struct Kernels {
    module: Module,
    dim: usize,
}

/// The tiles of a batch on the device.
pub(crate) struct Plan {
    sizes: Sizes,
    scale: f32,
    back: i32,
    ahead: i32,
    queries: usize,
    rows: usize,
    blocks: usize,
    items: usize,
    keys: usize,
    slots: usize,
    /// All index arrays, one after the other, and the start of each.
    indices: ct::Tensor,
    starts: [usize; 6],
}

/// The arrays in the order of [`Plan::starts`].
#[derive(Clone, Copy)]
enum Array {
    Blocks,
    Chain,
    Positions,
    Items,
    Visits,
    Keys,
}

impl Kernels {
    /// Returns whether the kernels serve operands of this type and head size. Other batches are computed in
    /// groups.
    pub(crate) fn serve(q: &ct::Tensor, how: &Attention<'_>) -> bool {
        let dim = q.dims().last().copied().unwrap_or(0);
        let served = q.dtype() == ct::DType::BF16 && q.elem_count() > 0 && [64, 128].contains(&dim);
        served && how.cap.is_none() && how.scale > 0.0
    }

    /// Compiles the kernels for a head size.
    pub(crate) fn compile(dim: usize, device: &CudaDevice) -> Result<Self, String> {
        let kernels = [
            ("attention_forward", forward_shared(dim)),
            ("attention_levels", 0),
            ("attention_backward_queries", queries_shared(dim)),
            ("attention_backward_keys", keys_shared(dim)),
            ("attention_sum_keys", 0),
        ];
        Ok(Self { module: Module::compile(ATTENTION, &[format!("-DDIM={dim}")], &kernels, device)?, dim })
    }

    /// Computes q `[queries, heads, dim]`, k and v `[rows, kv_heads, dim]` → `[queries, heads, dim]`, and
    /// log2 Σ 2^(s·log2 e), f32 `[heads, queries]`.
    pub(crate) fn forward(&self, plan: &Plan, [q, k, v]: [&ct::Tensor; 3]) -> ct::Result<[ct::Tensor; 2]> {
        let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
        plan.check([&q, &k, &v], self.dim)?;
        let out = room(q.shape(), q.dtype(), q.device())?;
        let totals = room((plan.heads(), plan.queries), ct::DType::F32, q.device())?;
        let mut arguments = vec![address(&q)?, address(&k)?, address(&v)?, address(&out)?, address(&totals)?];
        for array in [Array::Blocks, Array::Chain, Array::Positions] {
            arguments.push(plan.array(array)?);
        }
        arguments.extend(plan.numbers());
        let grid = Grid::line(plan.blocks * plan.heads(), THREADS, forward_shared(self.dim));
        self.launch(&q, "attention_forward", grid, &arguments)?;
        Ok([out, totals])
    }

    /// Computes the gradients of q, k and v.
    pub(crate) fn backward(
        &self,
        plan: &Plan,
        [q, k, v]: [&ct::Tensor; 3],
        [attended, gradient]: [&ct::Tensor; 2],
        totals: &ct::Tensor,
    ) -> ct::Result<[ct::Tensor; 3]> {
        let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
        let gradient = gradient.contiguous()?;
        plan.check([&q, &k, &v], self.dim)?;
        if gradient.dims() != q.dims() || gradient.dtype() != q.dtype() {
            ct::bail!("the gradient of attention differs from its value in shape or type");
        }
        let levels = room(totals.shape(), ct::DType::F32, q.device())?;
        let each = [address(attended)?, address(&gradient)?, address(&levels)?];
        let sizes = [plan.heads(), plan.queries].map(|size| Argument::I32(size as i32));
        let arguments: Vec<Argument> = each.into_iter().chain(sizes).collect();
        let grid = Grid::line((plan.queries * plan.heads()).div_ceil(THREADS / 32), THREADS, 0);
        self.launch(&q, "attention_levels", grid, &arguments)?;

        let operands = || -> ct::Result<Vec<Argument>> {
            [&q, &k, &v, &gradient, totals, &levels].into_iter().map(address).collect()
        };
        let d_q = room(q.shape(), q.dtype(), q.device())?;
        let mut arguments = operands()?;
        arguments.push(address(&d_q)?);
        for array in [Array::Blocks, Array::Chain, Array::Positions] {
            arguments.push(plan.array(array)?);
        }
        arguments.extend(plan.numbers());
        let grid = Grid::line(plan.blocks * plan.heads(), THREADS, queries_shared(self.dim));
        self.launch(&q, "attention_backward_queries", grid, &arguments)?;

        let kv_heads = plan.sizes.kv_heads;
        let parts = room((plan.slots, 2, TILE, kv_heads, self.dim), ct::DType::F32, q.device())?;
        let mut arguments = operands()?;
        arguments.push(address(&parts)?);
        for array in [Array::Blocks, Array::Items, Array::Visits, Array::Positions] {
            arguments.push(plan.array(array)?);
        }
        arguments.extend(plan.numbers());
        let grid = Grid::line(plan.items * kv_heads, THREADS, keys_shared(self.dim));
        self.launch(&q, "attention_backward_keys", grid, &arguments)?;

        let (d_k, d_v) = (room(k.shape(), k.dtype(), k.device())?, room(v.shape(), v.dtype(), v.device())?);
        let arguments = [
            address(&parts)?,
            address(&d_k)?,
            address(&d_v)?,
            plan.array(Array::Keys)?,
            Argument::I32(kv_heads as i32),
        ];
        let grid = Grid { blocks: [plan.keys, TILE / ROWS, 2], threads: THREADS, shared: 0 };
        self.launch(&q, "attention_sum_keys", grid, &arguments)?;
        Ok([d_q, d_k, d_v])
    }

    fn launch(&self, q: &ct::Tensor, name: &str, grid: Grid, arguments: &[Argument]) -> ct::Result<()> {
        let Some(device) = device_of(q) else { ct::bail!("{name} needs a GPU") };
        // SAFETY: the arguments are the kernel's parameters, and `Plan::check` has compared the operands with
        // the tiles, whose indices stay within the batch.
        unsafe { self.module.launch(device, name, grid, arguments) }
    }
}

impl Plan {
    /// Returns the plan that all layers of a pass share.
    pub(crate) fn shared(
        tree: &PlannedTree,
        how: &Attention<'_>,
        sizes: Sizes,
        device: &ct::Device,
    ) -> ct::Result<Arc<Self>> {
        let queries = how.queries.map(<[usize]>::to_vec);
        let key = ("tiles", queries, how.mask, how.scale, sizes, device.location());
        tree.plan(key, || Self::new(tree, how, sizes, device))
    }

    fn new(tree: &PlannedTree, how: &Attention<'_>, sizes: Sizes, device: &ct::Device) -> ct::Result<Self> {
        let tiles = Tiles::new(tree, how, sizes.group);
        let arrays = [
            tiles.blocks.as_flattened(),
            &tiles.chain,
            &tiles.positions,
            tiles.items.as_flattened(),
            &tiles.visits,
            tiles.keys.as_flattened(),
        ];
        let mut next = 0;
        let starts = arrays.map(|array| {
            next += array.len();
            next - array.len()
        });
        let indices = arrays.concat();
        let length = indices.len();
        Ok(Self {
            sizes,
            scale: how.scale as f32,
            back: tiles.back,
            ahead: tiles.ahead,
            queries: tiles.positions.len(),
            rows: tree.rows(),
            blocks: tiles.blocks.len(),
            items: tiles.items.len(),
            keys: tiles.keys.len(),
            slots: tiles.slots,
            indices: ct::Tensor::from_vec(indices, length, device)?,
            starts,
        })
    }

    fn heads(&self) -> usize {
        self.sizes.kv_heads * self.sizes.group
    }

    /// Fails if the operands do not match the batch that the plan was made for.
    fn check(&self, [q, k, v]: [&ct::Tensor; 3], dim: usize) -> ct::Result<()> {
        let keys = [self.rows, self.sizes.kv_heads, dim];
        let fits = q.dims() == [self.queries, self.heads(), dim] && k.dims() == keys && v.dims() == keys;
        if !fits || [q, k, v].iter().any(|x| x.dtype() != ct::DType::BF16) {
            ct::bail!("attention got other operands than it was planned for");
        }
        Ok(())
    }

    /// Returns the address of an index array.
    fn array(&self, array: Array) -> ct::Result<Argument> {
        address(&self.indices.narrow(0, self.starts[array as usize], 0)?)
    }

    /// Returns the last six parameters, which three of the kernels share.
    fn numbers(&self) -> [Argument; 6] {
        let sizes = [self.heads(), self.sizes.kv_heads, self.queries].map(|size| size as i32);
        let [heads, kv_heads, queries] = sizes.map(Argument::I32);
        let [back, ahead] = [self.back, self.ahead].map(Argument::I32);
        [heads, kv_heads, queries, back, ahead, Argument::F32(self.scale)]
    }
}

/// Returns the number of rows that a step of the backward kernels processes.
fn step(dim: usize) -> usize {
    if dim == 64 { 64 } else { 32 }
}

/// Returns the bytes of a tile of rows in shared memory.
fn tile(rows: usize, dim: usize) -> usize {
    rows * (dim + 8) * 2
}

fn forward_shared(dim: usize) -> usize {
    5 * tile(TILE, dim)
}

fn queries_shared(dim: usize) -> usize {
    2 * tile(TILE, dim) + 4 * tile(step(dim), dim)
}

fn keys_shared(dim: usize) -> usize {
    queries_shared(dim) + 6 * step(dim) * 4
}
