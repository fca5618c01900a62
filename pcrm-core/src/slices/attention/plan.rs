//! The work of an attention call: trees, querying rows and tiles, with the gathering of a tile's rows.

use std::convert::Infallible;
use std::sync::Arc;

use crate::kernels::{Attention, Mask, PlannedTree};
use crate::tree::{Asking, SequenceTree};

/// The number of positions in a tile.
pub const TILE: usize = crate::kernels::BLOCK;

/// The head counts and the head size of the operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The number of heads of queries.
    pub heads: usize,
    /// The number of heads of keys and values.
    pub kv_heads: usize,
    /// The number of elements of a head.
    pub dim: usize,
}

/// The work of an attention call, which its backward reuses.
#[derive(Debug)]
pub struct AttentionPlan {
    trees: Vec<Vec<Part>>,
    /// The number of rows of q.
    pub(super) queries: usize,
    pub(super) sizes: Sizes,
    pub(super) scale: f32,
    pub(super) cap: Option<f32>,
    pub(super) mask: Mask,
}

/// The work of one segment: the rows it sees and its own querying rows.
#[derive(Debug)]
pub(super) struct Part {
    /// The rows of the stream seen by the segment's last row, the segment's own last.
    pub(super) chain: Vec<std::ops::Range<usize>>,
    /// (row of q, position) of every querying row, by position.
    pub(super) asking: Vec<(usize, usize)>,
}

impl AttentionPlan {
    /// Returns the plan that all layers of a pass share.
    pub fn shared(tree: &PlannedTree, how: &Attention<'_>, sizes: Sizes) -> Arc<Self> {
        let key = (how.queries.map(<[usize]>::to_vec), how.mask, [Some(how.scale), how.cap], sizes);
        let Ok(plan) = tree.plan(key, || Ok::<_, Infallible>(Self::new(tree, how, sizes)));
        plan
    }

    /// Plans the work for a tree.
    pub fn new(tree: &SequenceTree, how: &Attention<'_>, sizes: Sizes) -> Self {
        let part = |asking: Asking| Part {
            chain: tree.chain(asking.segment),
            asking: asking.rows.zip(asking.positions).collect(),
        };
        let trees = tree.asking_by_tree(how.queries).into_iter();
        Self {
            trees: trees.map(|asking| asking.into_iter().map(part).collect()).collect(),
            queries: how.queries.map_or(tree.rows(), <[usize]>::len),
            sizes,
            scale: how.scale as f32,
            cap: how.cap.map(|cap| cap as f32),
            mask: how.mask,
        }
    }

    /// Returns (tree, kv head) of every task.
    pub(super) fn tasks(&self) -> Vec<(&[Part], usize)> {
        let heads = self.sizes.kv_heads;
        self.trees.iter().flat_map(|parts| (0..heads).map(move |head| (parts.as_slice(), head))).collect()
    }

    pub(super) fn group(&self) -> usize {
        self.sizes.heads / self.sizes.kv_heads
    }
}

impl Part {
    /// Returns the number of rows of the chain.
    fn keys(&self) -> usize {
        length(&self.chain)
    }

    /// Returns the keys that a row at `position` sees.
    pub(super) fn visible(&self, position: usize, mask: Mask) -> std::ops::Range<usize> {
        match mask {
            Mask::Causal { window } => {
                window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1
            }
            Mask::Full => 0..self.keys(),
            Mask::Around { reach } => {
                position.saturating_sub(reach)..position.saturating_add(reach + 1).min(self.keys())
            }
        }
    }
}

/// Returns the querying rows of each tile with their positions, and the number of their keys, rounded up to
/// whole tiles.
pub(super) fn tiles(part: &Part, mask: Mask) -> impl Iterator<Item = (&[(usize, usize)], usize)> {
    let chunks = part.asking.chunk_by(|a, b| a.1 / TILE == b.1 / TILE);
    chunks.map(move |asking| match mask {
        Mask::Causal { .. } => (asking, (asking[0].1 / TILE + 1) * TILE),
        Mask::Full => (asking, part.keys().next_multiple_of(TILE)),
        Mask::Around { reach } => {
            let last = asking[asking.len() - 1].1.saturating_add(reach + 1).min(part.keys());
            (asking, last.next_multiple_of(TILE))
        }
    })
}

/// Gathers one head's rows of a chain `[keys, dim]`, padded with zeros to whole tiles.
pub(super) fn along(
    chain: &[std::ops::Range<usize>],
    x: &[f32],
    head: usize,
    [heads, dim]: [usize; 2],
) -> Vec<f32> {
    let keys = length(chain);
    let mut rows = Vec::with_capacity(keys.next_multiple_of(TILE) * dim);
    for row in chain.iter().cloned().flatten() {
        rows.extend_from_slice(&x[(row * heads + head) * dim..][..dim]);
    }
    rows.resize(keys.next_multiple_of(TILE) * dim, 0.0);
    rows
}

/// Gathers the tile's rows of a tensor `[queries, heads, dim]`, padded with zeros to `least` rows.
pub(super) fn gather(
    asking: &[(usize, usize)],
    x: &[f32],
    kv_head: usize,
    group: usize,
    [heads, dim]: [usize; 2],
    least: usize,
) -> Vec<f32> {
    let rows = asking.len() * group;
    let mut gathered = Vec::with_capacity(rows.max(least) * dim);
    for (row, _) in asking {
        gathered.extend_from_slice(&x[(row * heads + kv_head * group) * dim..][..group * dim]);
    }
    gathered.resize(rows.max(least) * dim, 0.0);
    gathered
}

fn length(chain: &[std::ops::Range<usize>]) -> usize {
    chain.iter().map(ExactSizeIterator::len).sum()
}
