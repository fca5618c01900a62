//! A cache of keys and values in host memory, for tensors on a CPU.

use std::fmt::{self, Debug};

use super::Spread;
use super::attention::{Blocks, Step};
use crate::error::Result;
use crate::host::HostTensor;
use crate::kernels::{Attention, CacheShape, CachedRows, LayerCache, Mask};
use crate::tensor::Tensor;

/// Keys and values in f32, whatever the type of the tensors, read in place.
pub struct HostCache<S> {
    blocks: Blocks,
    spread: S,
}

impl<S> Debug for HostCache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostCache {:?}", self.blocks.shape())
    }
}

impl<S: Spread> HostCache<S> {
    /// Allocates a cache.
    pub fn new(shape: CacheShape, spread: S) -> Self {
        Self { blocks: Blocks::new(shape), spread }
    }
}

impl<S: Spread> LayerCache for HostCache<S> {
    fn write(&mut self, slots: &[u32], k: &Tensor, v: &Tensor) -> Result<()> {
        self.blocks.shape().check_write(slots, k, v)?;
        self.blocks.write(slots, &k.read()?.into_f32(), &v.read()?.into_f32());
        Ok(())
    }

    fn attend(&self, q: &Tensor, rows: &CachedRows, how: &Attention<'_>) -> Result<Tensor> {
        let heads = self.blocks.shape().check_attend(q, rows, how.mask)?;
        let window = match how.mask {
            Mask::Causal { window } => window,
            Mask::Full | Mask::Around { .. } => None, // refused by the check
        };
        let cap = how.cap.map(|cap| cap as f32);
        let step = Step { rows, heads, scale: how.scale as f32, cap, window };
        let values = self.blocks.attend(&self.spread, &q.read()?.into_f32(), step)?;
        q.constant(&HostTensor::f32(q.shape(), values)?)?.cast(q.dtype())
    }
}
