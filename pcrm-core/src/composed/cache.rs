//! A cache of keys and values in two tensors; every step gathers the rows it needs into a tree.

use crate::error::Result;
use crate::host::HostTensor;
use crate::kernels::{Attention, BLOCK, CacheShape, CachedRow, CachedRows, LayerCache, PlannedTree};
use crate::tensor::Tensor;
use crate::tree::SequenceTree;

/// An attention function over a tree.
pub type Attend = fn([&Tensor; 3], &PlannedTree, &Attention<'_>) -> Result<Tensor>;

/// Keys and values `[slots, kv_heads, dim]`.
#[derive(Debug)]
pub struct TensorCache {
    shape: CacheShape,
    keys: Tensor,
    values: Tensor,
    attend: Attend,
}

impl TensorCache {
    /// Allocates a cache on the device and in the type of `like`; `attend` computes attention over gathered
    /// rows.
    ///
    /// # Errors
    /// Fails if there is not enough memory.
    pub fn new(like: &Tensor, shape: CacheShape, attend: Attend) -> Result<Self> {
        let sizes = [shape.slots(), shape.kv_heads, shape.dim];
        let zeros = || {
            let host = HostTensor::f32(sizes, vec![0.0; sizes.iter().product()])?;
            like.constant(&host)?.copied(like.dtype())
        };
        Ok(Self { shape, keys: zeros()?, values: zeros()?, attend })
    }
}

impl TensorCache {
    /// Allocates a cache that uses the backend's own attention over gathered rows.
    ///
    /// # Errors
    /// Fails if there is not enough memory.
    pub fn of_backend(like: &Tensor, shape: CacheShape) -> Result<Self> {
        Self::new(like, shape, |qkv, tree, how| qkv[0].kernels().attention(qkv, tree, how))
    }
}

impl LayerCache for TensorCache {
    fn write(&mut self, slots: &[u32], k: &Tensor, v: &Tensor) -> Result<()> {
        self.shape.check_write(slots, k, v)?;
        self.keys.write_rows(slots, k)?;
        self.values.write_rows(slots, v)
    }

    fn attend(&self, q: &Tensor, rows: &CachedRows, how: &Attention<'_>) -> Result<Tensor> {
        self.shape.check_attend(q, rows, how.mask)?;
        let gathered = Gathered::new(rows)?;
        let slots = q.constant(&HostTensor::indices(gathered.slots))?;
        let (k, v) = (self.keys.index_select(0, &slots)?, self.values.index_select(0, &slots)?);
        let how = Attention { queries: Some(&gathered.queries), ..*how };
        (self.attend)([q, &k, &v], &PlannedTree::new(gathered.tree), &how)
    }
}

/// The slots visible to the rows of a step, as a tree.
struct Gathered {
    slots: Vec<u32>,
    tree: SequenceTree,
    /// The tree's row of each querying row, ascending.
    queries: Vec<usize>,
}

impl Gathered {
    /// Gathers the slots; neighbours with equal first blocks share them.
    fn new(rows: &[CachedRow]) -> Result<Self> {
        let mut gathered = Self { slots: Vec::new(), tree: SequenceTree::default(), queries: Vec::new() };
        for group in rows.chunk_by(|a, b| a.blocks[0] == b.blocks[0] && a.position.min(b.position) >= BLOCK) {
            let shared = match group {
                [_] => 0,
                // A row's own block is never shared.
                _ => (0..group.iter().map(|row| row.position / BLOCK).min().unwrap_or(0))
                    .take_while(|at| group.iter().all(|row| row.blocks[*at] == group[0].blocks[*at]))
                    .count(),
            };
            let parent = match shared {
                0 => None,
                _ => Some(gathered.push(&group[0], 0..shared * BLOCK, None)?),
            };
            for row in group {
                gathered.push(row, shared * BLOCK..row.position + 1, parent)?;
                gathered.queries.push(gathered.tree.rows() - 1);
            }
        }
        Ok(gathered)
    }

    fn push(
        &mut self,
        row: &CachedRow,
        positions: std::ops::Range<usize>,
        parent: Option<usize>,
    ) -> Result<usize> {
        let segment = self.tree.push(positions.len(), parent)?;
        self.slots.extend(
            positions.map(|position| row.blocks[position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32),
        );
        Ok(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: neighbours share their common beginning, and no row loses a key.
    #[test]
    fn what_rows_share_is_gathered_once() -> Result<()> {
        let row = |position, blocks: &[u32]| CachedRow { position, blocks: blocks.into() };
        let rows = [row(70, &[3, 1]), row(130, &[3, 4, 0]), row(5, &[2]), row(64, &[6, 5]), row(9, &[6])];
        let gathered = Gathered::new(&rows)?;
        // The first two share block 3; a row inside its first block shares nothing.
        assert_eq!(gathered.tree.rows(), 64 + 7 + 67 + 6 + 65 + 10);
        assert_eq!(gathered.queries, [70, 137, 143, 208, 218]);
        let positions = gathered.tree.positions();
        let ends: Vec<u32> = gathered.queries.iter().map(|query| positions[*query]).collect();
        assert_eq!(ends, [70, 130, 5, 64, 9]);
        assert_eq!(gathered.slots[..2], [192, 193]);
        assert_eq!(gathered.slots[70], 64 + 6);
        Ok(())
    }
}
