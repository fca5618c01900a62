//! Cached keys and values that outlive a pass, for generation: blocks of slots, and the rows that read them.
//!
//! A block holds [`BLOCK`] consecutive positions of a sequence, starting at a multiple of [`BLOCK`]: position
//! p of a sequence is slot `blocks[p / BLOCK] · BLOCK + p % BLOCK` of a cache, where `blocks` is the
//! sequence's own list. Sequences with a common beginning share its blocks, so a prompt's keys are stored
//! once for all its samples. A block is a tile of attention, so that a row adds up its keys in the same order
//! as in training.

use std::fmt::{self, Debug};
use std::ops::Deref;
use std::sync::Arc;

use super::plans::Plans;
use super::{Attention, Mask};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The number of positions in a block.
pub const BLOCK: usize = 64;

/// The size of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheShape {
    /// The number of blocks.
    pub blocks: usize,
    /// The number of heads of keys and values.
    pub kv_heads: usize,
    /// The number of elements of a head.
    pub dim: usize,
}

impl CacheShape {
    /// Returns the number of slots.
    pub fn slots(&self) -> usize {
        self.blocks * BLOCK
    }

    /// Checks the operands of [`LayerCache::write`].
    ///
    /// # Errors
    /// Fails if shapes are not `[slots, kv_heads, dim]`, or if a slot does not exist.
    pub fn check_write(&self, slots: &[u32], k: &Tensor, v: &Tensor) -> Result<()> {
        let wanted = [slots.len(), self.kv_heads, self.dim];
        let inside = slots.iter().all(|slot| (*slot as usize) < self.slots());
        match inside && k.shape() == wanted && v.shape() == wanted {
            true => Ok(()),
            false => {
                let message = format!("k and v must be {wanted:?}, slots below {}", self.slots());
                Err(Error::shape("cache write", message, &[&k.shape(), &v.shape()]))
            }
        }
    }

    /// Checks the operands of [`LayerCache::attend`] and returns the number of heads.
    ///
    /// # Errors
    /// Fails if the queries are not `[rows, heads, dim]`, if a row's blocks do not reach its position, or if
    /// the mask is not causal.
    pub fn check_attend(&self, q: &Tensor, rows: &CachedRows, mask: Mask) -> Result<usize> {
        let shape = q.shape();
        let reaches = |row: &CachedRow| {
            row.blocks.len() > row.position / BLOCK
                && row.blocks.iter().all(|block| (*block as usize) < self.blocks)
        };
        match shape.as_slice() {
            [count, heads, dim]
                if *count == rows.len()
                    && heads % self.kv_heads == 0
                    && *dim == self.dim
                    && rows.iter().all(reaches)
                    && matches!(mask, Mask::Causal { .. }) =>
            {
                Ok(*heads)
            }
            _ => {
                let message =
                    format!("q must be [{}, heads, {}], rows inside their blocks", rows.len(), self.dim);
                Err(Error::shape("cache attend", message, &[&shape]))
            }
        }
    }
}

/// A row that reads a cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CachedRow {
    /// Its position: the row sees this position and all before it, which must have been written.
    pub position: usize,
    /// The blocks of its sequence, in order, at least up to its position.
    pub blocks: Vec<u32>,
}

impl CachedRow {
    /// Returns the slot of its own position.
    pub fn slot(&self) -> u32 {
        self.blocks[self.position / BLOCK] * BLOCK as u32 + (self.position % BLOCK) as u32
    }

    /// Returns the blocks that it sees, the last one partially.
    pub fn seen(&self) -> &[u32] {
        &self.blocks[..=self.position / BLOCK]
    }
}

/// The rows of a step, with the plans that backends derive from them. Rows that share their first blocks should
/// be neighbours: backends read shared blocks once.
#[derive(Default)]
pub struct CachedRows {
    rows: Vec<CachedRow>,
    plans: Plans,
}

impl CachedRows {
    /// Returns the plan of this key, made by `make` if there is none: see
    /// [`PlannedTree::plan`](super::PlannedTree::plan).
    ///
    /// # Errors
    /// Fails as `make` does.
    pub fn plan<K, P, E>(&self, key: K, make: impl FnOnce() -> Result<P, E>) -> Result<Arc<P>, E>
    where
        K: PartialEq + Send + 'static,
        P: Send + Sync + 'static,
    {
        self.plans.plan(key, make)
    }
}

impl From<Vec<CachedRow>> for CachedRows {
    fn from(rows: Vec<CachedRow>) -> Self {
        Self { rows, plans: Plans::default() }
    }
}

impl Deref for CachedRows {
    type Target = [CachedRow];

    fn deref(&self) -> &[CachedRow] {
        &self.rows
    }
}

impl Debug for CachedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.fmt(f)
    }
}

/// The keys and values of one layer.
pub trait LayerCache: Debug + Send {
    /// Writes keys and values `[slots, kv_heads, dim]` to these slots, each named once.
    ///
    /// # Errors
    /// Fails as [`CacheShape::check_write`] does, and for a tensor of another backend.
    fn write(&mut self, slots: &[u32], k: &Tensor, v: &Tensor) -> Result<()>;

    /// Computes softmax attention of one row of every sequence over its keys, its own included: q
    /// `[rows, heads, dim]` → `[rows, heads, dim]`, equal to
    /// [`Kernels::attention`](super::Kernels::attention) over the whole sequence. `how.queries` is `None`:
    /// all rows query.
    ///
    /// # Errors
    /// Fails as [`CacheShape::check_attend`] does, and for a tensor of another backend.
    fn attend(&self, q: &Tensor, rows: &CachedRows, how: &Attention<'_>) -> Result<Tensor>;

    /// Writes the keys and values of the rows' own positions, `[rows, kv_heads, dim]`, then computes
    /// [`LayerCache::attend`].
    ///
    /// # Errors
    /// Fails as [`LayerCache::write`] and [`LayerCache::attend`] do.
    fn step(&mut self, [q, k, v]: [&Tensor; 3], rows: &CachedRows, how: &Attention<'_>) -> Result<Tensor> {
        let slots: Vec<u32> = rows.iter().map(CachedRow::slot).collect();
        self.write(&slots, k, v)?;
        self.attend(q, rows, how)
    }
}
