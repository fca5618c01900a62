//! Decoding on CUDA: a cache whose blocks are read in place, and sampling on the device.

#![allow(unsafe_code, reason = "a kernel gets bare addresses")]

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

use pcrm_core::composed::TensorCache;
use pcrm_core::cuda::{Argument, HEADS, SPAN};
use pcrm_core::kernels::{Attention, BLOCK, CacheShape, CachedRow, CachedRows, Draw, Drawn, LayerCache};
use pcrm_core::{Mask, Result, Tensor};
use tch::{Device, Kind, TchError, Tensor as Torch};

use super::fused::{Fused, bytes, named};
use super::module::{Grid, address};
use crate::ops::{Torched, linear};
use crate::tensor::{TchTensor, to_device};
use crate::{NAME, failed};

// The kernels are compiled for this size.
const _: () = assert!(BLOCK == 64);

/// The largest head that the kernels serve.
const WIDEST: usize = 256;

/// Keys and values of one layer, `[slots, kv_heads, dim]`.
pub(crate) struct BlockCache {
    shape: CacheShape,
    keys: Torch,
    values: Torch,
    fused: Arc<Fused>,
}

impl Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockCache {:?}", self.shape)
    }
}

/// The rows of a step on the device, shared by all layers.
struct Table(Mutex<OnDevice>);

struct OnDevice {
    /// The slot of every row's own position, int32 `[rows]`.
    slots: Torch,
    /// The number of positions that every row sees, int32 `[rows]`.
    lengths: Torch,
    /// The blocks of every row, int32 `[rows, blocks]`.
    blocks: Torch,
}

impl Table {
    fn new(rows: &[CachedRow], device: Device) -> Torched<Self> {
        let count = rows.len();
        let most = rows.iter().map(|row| row.seen().len()).max().unwrap_or(0);
        let mut all: Vec<i32> = rows.iter().map(|row| row.slot() as i32).collect();
        all.extend(rows.iter().map(|row| row.position as i32 + 1));
        for row in rows {
            all.extend(row.seen().iter().map(|block| *block as i32));
            all.resize(all.len() + most - row.seen().len(), 0);
        }
        let all = to_device(&Torch::f_from_slice(&all)?, device)?;
        let (count, most) = (count as i64, most as i64);
        let blocks = all.f_narrow(0, 2 * count, count * most)?.f_reshape([count, most])?;
        let (slots, lengths) = (all.f_narrow(0, 0, count)?, all.f_narrow(0, count, count)?);
        Ok(Self(Mutex::new(OnDevice { slots, lengths, blocks })))
    }

    /// Returns the table of a step that all layers share.
    fn shared(rows: &CachedRows, device: Device) -> Torched<Arc<Self>> {
        rows.plan("table", || Self::new(rows, device))
    }
}

impl BlockCache {
    /// Allocates a cache in the type of `like`.
    pub(crate) fn new(like: &Torch, shape: CacheShape, fused: Arc<Fused>) -> Torched<Self> {
        let size = [shape.slots() as i64, shape.kv_heads as i64, shape.dim as i64];
        let zeros = || Torch::f_zeros(size, (like.kind(), like.device()));
        Ok(Self { shape, keys: zeros()?, values: zeros()?, fused })
    }

    /// Returns whether the kernels serve a cache of this shape in the type of `like`.
    pub(crate) fn serves(like: &Torch, shape: CacheShape) -> bool {
        let is_float = matches!(like.kind(), Kind::Float | Kind::BFloat16);
        is_float && shape.dim <= WIDEST && (shape.dim as i64 * bytes(like.kind())) % 16 == 0
    }

    /// Writes rows of k and v to slots, int32 `[rows]`.
    fn put(&self, slots: &Torch, k: &Torch, v: &Torch) -> Torched<()> {
        alike(&self.keys, [("keys", k), ("values", v)])?;
        let (k, v) = (k.f_contiguous()?, v.f_contiguous()?);
        let width = self.shape.kv_heads * self.shape.dim;
        let packs = width * bytes(k.kind()) as usize / 16;
        // SAFETY: the arguments match the kernel's parameters; `serves` holds, the types and shapes were checked, slots
        // exist.
        unsafe {
            self.fused.0.launch(
                &named("write_slots", &k),
                Grid::new(slots.numel(), packs.clamp(32, 256)),
                &[
                    address(&k),
                    address(&v),
                    address(slots),
                    address(&self.keys),
                    address(&self.values),
                    Argument::I32(width as i32),
                ],
            )
        }
    }

    fn read(&self, q: &Torch, table: &Table, how: &Attention<'_>, heads: usize) -> Torched {
        alike(&self.keys, [("queries", q)])?;
        let q = q.f_contiguous()?;
        let y = q.f_empty_like()?;
        let CacheShape { kv_heads, dim, .. } = self.shape;
        let lanes = [2, 4, 8].into_iter().find(|lanes| dim <= 32 * lanes).unwrap_or(8);
        let window = match how.mask {
            Mask::Causal { window } => window.unwrap_or(0),
            Mask::Full | Mask::Around { .. } => 0, // refused by the check
        };
        let table = table.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = table.lengths.numel();
        let parts = (heads / kv_heads).div_ceil(HEADS);
        // SAFETY: the arguments match the kernel's parameters; `serves` holds, types and shapes were checked, rows see
        // blocks that exist.
        unsafe {
            self.fused.0.launch(
                &named(&format!("attend_blocks_{lanes}"), &q),
                Grid { parts, ..Grid::new(rows * kv_heads, 128) },
                &[
                    address(&q),
                    address(&self.keys),
                    address(&self.values),
                    address(&table.blocks),
                    address(&table.lengths),
                    address(&y),
                    Argument::I32(heads as i32),
                    Argument::I32(kv_heads as i32),
                    Argument::I32(dim as i32),
                    Argument::I32(table.blocks.size()[1] as i32),
                    Argument::I32(window as i32),
                    Argument::F32(how.scale as f32),
                    Argument::F32(how.cap.unwrap_or(0.0) as f32),
                ],
            )?;
        }
        Ok(y)
    }
}

impl LayerCache for BlockCache {
    fn write(&mut self, slots: &[u32], k: &Tensor, v: &Tensor) -> Result<()> {
        const OP: &str = "cache write";
        self.shape.check_write(slots, k, v)?;
        let slots: Vec<i32> = slots.iter().map(|slot| *slot as i32).collect();
        if slots.is_empty() {
            return Ok(());
        }
        let [k, v] = [k.downcast::<TchTensor>(OP, NAME)?, v.downcast::<TchTensor>(OP, NAME)?];
        let put = || {
            let slots = to_device(&Torch::f_from_slice(&slots)?, self.keys.device())?;
            self.put(&slots, &k.value, &v.value)
        };
        put().map_err(failed(OP))
    }

    fn attend(&self, q: &Tensor, rows: &CachedRows, how: &Attention<'_>) -> Result<Tensor> {
        const OP: &str = "cache attend";
        let heads = self.shape.check_attend(q, rows, how.mask)?;
        let q = &q.downcast::<TchTensor>(OP, NAME)?.value;
        if rows.is_empty() {
            return Ok(Tensor::new(TchTensor::constant(q.shallow_clone())));
        }
        let read = || self.read(q, &*Table::shared(rows, q.device())?, how, heads);
        Ok(Tensor::new(TchTensor::constant(read().map_err(failed(OP))?)))
    }

    fn step(&mut self, [q, k, v]: [&Tensor; 3], rows: &CachedRows, how: &Attention<'_>) -> Result<Tensor> {
        const OP: &str = "cache step";
        let wanted = [rows.len(), self.shape.kv_heads, self.shape.dim];
        if k.shape() != wanted || v.shape() != wanted {
            let message = format!("k and v must be {wanted:?}");
            return Err(pcrm_core::Error::shape(OP, message, &[&k.shape(), &v.shape()]));
        }
        let heads = self.shape.check_attend(q, rows, how.mask)?;
        let [q, k, v] = [q, k, v].map(|x| x.downcast::<TchTensor>(OP, NAME));
        let [q, k, v] = [&q?.value, &k?.value, &v?.value];
        if rows.is_empty() {
            return Ok(Tensor::new(TchTensor::constant(q.shallow_clone())));
        }
        let run = || {
            let table = Table::shared(rows, q.device())?;
            let slots = table.0.lock().unwrap_or_else(PoisonError::into_inner).slots.shallow_clone();
            self.put(&slots, k, v)?;
            self.read(q, &table, how, heads)
        };
        Ok(Tensor::new(TchTensor::constant(run().map_err(failed(OP))?)))
    }
}

/// Refuses tensors that have another type than the cache or are elsewhere: a kernel gets only their addresses.
fn alike<const N: usize>(cache: &Torch, given: [(&str, &Torch); N]) -> Torched<()> {
    let of = |x: &Torch| (x.kind(), x.device());
    match given.into_iter().find(|(_, x)| of(x) != of(cache)) {
        None => Ok(()),
        Some((name, x)) => {
            let (found, wanted) = (of(x), of(cache));
            Err(TchError::Torch(format!("the {name} are {found:?}; expected {wanted:?}, as the cache")))
        }
    }
}

/// Allocates a cache: blocks that are read in place where the kernels serve, else tensors that are gathered.
pub(crate) fn cache(like: &Tensor, shape: CacheShape) -> Result<Box<dyn LayerCache>> {
    let own = &like.downcast::<TchTensor>("cache", NAME)?.value;
    match super::shared(own) {
        Some(fused) if BlockCache::serves(own, shape) => {
            Ok(Box::new(BlockCache::new(own, shape, fused).map_err(failed("cache"))?))
        }
        _ => Ok(Box::new(TensorCache::of_backend(like, shape)?)),
    }
}

/// Samples a token for every row of hidden `[rows, width]`, unfiltered; head `[vocabulary, width]`.
pub(crate) fn sample(fused: &Fused, hidden: &Torch, head: &Torch, how: &Draw<'_>) -> Result<Vec<Drawn>> {
    let rows = how.uniforms.len();
    let vocabulary = head.size()[0];
    let uniforms: Vec<f32> = how.uniforms.iter().map(|uniform| *uniform as f32).collect();
    let run = || -> Torched<Vec<i32>> {
        let logits = linear::forward(hidden, head, None)?;
        let device = logits.device();
        let uniforms = to_device(&Torch::f_from_slice(&uniforms)?, device)?;
        let results = Torch::f_empty([2 * rows as i64], (Kind::Int, device))?;
        let spans = (vocabulary as usize).div_ceil(SPAN);
        // SAFETY: the arguments match the kernel's parameters; logits are contiguous, as a product's result is.
        unsafe {
            fused.0.launch(
                &named("sample", &logits),
                Grid { shared: 4 * spans, ..Grid::new(rows, 512) },
                &[
                    address(&logits),
                    address(&uniforms),
                    address(&results),
                    Argument::I32(rows as i32),
                    Argument::I32(vocabulary as i32),
                    Argument::F32(how.soft_cap.unwrap_or(0.0) as f32),
                    Argument::F32((1.0 / how.filters.stated_temperature()) as f32),
                    Argument::I32(i32::from(how.filters.is_greedy())),
                ],
            )?;
        }
        let mut host = vec![0_i32; 2 * rows];
        results.f_to_device(Device::Cpu)?.f_copy_data(&mut host, 2 * rows)?;
        Ok(host)
    };
    let host = run().map_err(failed("sample"))?;
    let (ids, bits) = host.split_at(rows);
    let drawn = |(id, bits): (&i32, &i32)| {
        let log_prob = f32::from_bits(*bits as u32);
        Drawn { id: *id as u32, log_prob, filtered: log_prob }
    };
    Ok(ids.iter().zip(bits).map(drawn).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a kernel never reads a tensor of another type as one of the cache's type.
    #[test]
    fn tensors_of_another_type_are_refused() {
        let [cache, wide] =
            [Kind::BFloat16, Kind::Float].map(|kind| Torch::zeros([2, 2], (kind, Device::Cpu)));
        assert!(alike(&cache, [("keys", &cache), ("values", &cache)]).is_ok());
        let refused = alike(&cache, [("keys", &cache), ("values", &wide)]);
        let message = refused.expect_err("values in f32").to_string();
        let named = ["the values are", "Float", "expected", "BFloat16"];
        assert!(named.iter().all(|part| message.contains(part)), "{message}");
    }
}
