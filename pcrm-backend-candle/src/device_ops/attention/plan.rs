//! The division of a batch's attention into a few batched products, with its indices on the device.
//!
//! Queries of a segment form blocks, each with the keys of its chain that its queries see. Blocks of similar
//! size form a group, padded to the largest; a group is one batched product, so the number of launches
//! depends on the number of distinct sizes, not on the number of segments.

use std::sync::Arc;

use candle_core as ct;
use pcrm_core::{Attention, Mask, PlannedTree, SequenceTree};

use crate::device_ops::row_sums::{NOTHING, RowSums, index};

/// The position of a key that no query sees: larger than any other, and exact in f32.
pub(crate) const NEVER: f32 = 1e9;

/// The head counts and the head size of the operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The number of heads of k and v.
    pub(crate) kv_heads: usize,
    /// The number of heads of q per head of k and v.
    pub(crate) group: usize,
    /// The number of elements of a head.
    pub(crate) dim: usize,
}

/// The limits of blocks and groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The most queries of a block: keys beyond a block's last query cost nothing.
    pub(crate) block: usize,
    /// The most scores of a group, over all heads; they dominate memory.
    pub(crate) scores: usize,
    /// The scores that may be wasted to save a group's launches.
    pub(crate) spare: usize,
    /// The most elements of gathered keys, of a group and of the groups whose gradients are summed together: a
    /// sequence's blocks gather its keys again and again.
    pub(crate) keys: usize,
}

/// The most elements of a tensor: candle's kernels count them in 32 bits.
const COUNTED: usize = u32::MAX as usize;

impl Limits {
    /// The limits for GPUs: 256 MB of f32 scores and 512 MB of f32 gradients of keys at once; a group's launches
    /// cost about as much as four million scores.
    pub(crate) const GPU: Self = Self { block: 256, scores: 1 << 26, spare: 1 << 22, keys: 1 << 27 };
}

/// A group of blocks that are computed together.
pub(crate) struct Group {
    /// The number of blocks.
    pub(crate) blocks: usize,
    /// The number of queries of each block.
    pub(crate) queries: usize,
    /// The number of keys of each block.
    pub(crate) keys: usize,
    /// The rows of q, `[blocks · queries]`.
    pub(crate) query_rows: ct::Tensor,
    /// The rows of k and v, `[blocks · keys]`.
    pub(crate) key_rows: ct::Tensor,
    /// Depths of the queries, f32 `[blocks, queries, 1, 1]`.
    pub(crate) query_positions: ct::Tensor,
    /// Depths of the keys, f32 `[blocks, 1, 1, keys]`.
    pub(crate) key_positions: ct::Tensor,
}

/// The groups of a batch, and the mapping back to its rows.
pub(crate) struct GroupedPlan {
    pub(crate) sizes: Sizes,
    pub(crate) scale: f64,
    pub(crate) mask: Mask,
    pub(crate) groups: Vec<Group>,
    /// The position of every query among the groups' queries.
    pub(crate) places: ct::Tensor,
    /// The sums of the groups' keys into rows, for all groups in order.
    pub(crate) key_sums: Vec<KeySums>,
}

/// The sums of the keys of a few groups into rows.
pub(crate) struct KeySums {
    /// The number of groups.
    pub(crate) groups: usize,
    /// The row of every key.
    pub(crate) sums: RowSums,
}

/// Consecutive queries of one segment.
struct Block {
    first: usize,
    positions: Vec<usize>,
    /// The position of the first key.
    start: usize,
    keys: Vec<u32>,
}

impl GroupedPlan {
    /// Returns the plan that all layers of a pass share.
    pub(crate) fn shared(
        tree: &PlannedTree,
        how: &Attention<'_>,
        sizes: Sizes,
        device: &ct::Device,
    ) -> ct::Result<Arc<Self>> {
        let key = (how.queries.map(<[usize]>::to_vec), how.mask, how.scale, sizes, device.location());
        tree.plan(key, || Self::new(tree, how, sizes, Limits::GPU, device))
    }

    /// Divides a batch; the operands of attention must have been checked.
    pub(crate) fn new(
        tree: &SequenceTree,
        how: &Attention<'_>,
        sizes: Sizes,
        limits: Limits,
        device: &ct::Device,
    ) -> ct::Result<Self> {
        let mut blocks = cut(tree, how, limits.block);
        blocks
            .sort_by_key(|block| (block.positions.len().next_power_of_two(), block.keys.len(), block.first));
        let mut places = vec![NOTHING; how.queries.map_or(tree.rows(), <[usize]>::len)];
        let (mut next_place, mut key_rows, mut groups) = (0, Vec::new(), Vec::new());
        let mut rest = blocks.as_slice();
        while !rest.is_empty() {
            let (group, others) = rest.split_at(alike(rest, sizes, limits));
            let queries = group.iter().map(|block| block.positions.len()).max().unwrap_or(0);
            let keys = group.iter().map(|block| block.keys.len()).max().unwrap_or(0);
            let scores = sizes.kv_heads * sizes.group * group.len() * queries * keys;
            if scores > COUNTED {
                ct::bail!(
                    "{queries} queries of a sequence have {scores} scores with {keys} keys; candle counts at \
                     most {COUNTED}, so expected a shorter sequence"
                );
            }
            for block in group {
                for at in 0..block.positions.len() {
                    places[block.first + at] = (next_place + at) as u32;
                }
                next_place += queries;
            }
            let (group, rows) = Group::new(group, device)?;
            groups.push(group);
            key_rows.push(rows);
            rest = others;
        }
        let mut key_sums = Vec::new();
        let mut rest = key_rows.as_slice();
        while !rest.is_empty() {
            let groups = together(rest, limits.keys / (sizes.kv_heads * sizes.dim));
            let (part, others) = rest.split_at(groups);
            key_sums.push(KeySums { groups, sums: RowSums::new(&part.concat(), tree.rows(), device)? });
            rest = others;
        }
        Ok(Self { sizes, scale: how.scale, mask: how.mask, groups, places: index(places, device)?, key_sums })
    }
}

fn cut(tree: &SequenceTree, how: &Attention<'_>, most: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    for asking in tree.asking(how.queries) {
        let mut asked = asking.rows.start;
        let chain = tree.chain(asking.segment);
        for positions in asking.positions.chunks(most) {
            let (first, last) = (positions[0], positions[positions.len() - 1]);
            let (start, end) = match how.mask {
                Mask::Causal { window } => {
                    (window.map_or(0, |window| (first + 1).saturating_sub(window)), last + 1)
                }
                Mask::Full => (0, usize::MAX),
                Mask::Around { reach } => (first.saturating_sub(reach), last.saturating_add(reach + 1)),
            };
            let rows = chain.iter().cloned().flatten().skip(start).take(end - start);
            let keys = rows.map(|row| row as u32).collect();
            blocks.push(Block { first: asked, positions: positions.to_vec(), start, keys });
            asked += positions.len();
        }
    }
    blocks
}

/// Returns the number of leading blocks to compute together.
fn alike(blocks: &[Block], sizes: Sizes, limits: Limits) -> usize {
    let heads = sizes.kv_heads * sizes.group;
    let (mut queries, mut keys, mut needed) = (0, 0, 0);
    for (at, block) in blocks.iter().enumerate() {
        queries = queries.max(block.positions.len());
        keys = keys.max(block.keys.len());
        needed += heads * block.positions.len() * block.keys.len();
        let filled = heads * queries * keys * (at + 1);
        let gathered = sizes.kv_heads * sizes.dim * keys * (at + 1);
        let too_many = filled > limits.scores || gathered > limits.keys;
        if at > 0 && (too_many || filled > needed + needed / 2 + limits.spare) {
            return at;
        }
    }
    blocks.len()
}

/// Returns the number of leading groups, at least one, that have at most this many keys.
fn together(key_rows: &[Vec<u32>], most: usize) -> usize {
    let mut keys = 0;
    let fitting = key_rows.iter().take_while(|of_group| {
        keys += of_group.len();
        keys <= most
    });
    fitting.count().max(1)
}

impl Group {
    /// Uploads the indices of blocks; also returns the row of every key.
    fn new(blocks: &[Block], device: &ct::Device) -> ct::Result<(Self, Vec<u32>)> {
        let queries = blocks.iter().map(|block| block.positions.len()).max().unwrap_or(0);
        let keys = blocks.iter().map(|block| block.keys.len()).max().unwrap_or(0);
        let (mut query_rows, mut query_positions) = (Vec::new(), Vec::new());
        let (mut key_rows, mut key_positions) = (Vec::new(), Vec::new());
        for (at, block) in blocks.iter().enumerate() {
            query_rows.extend((block.first..).take(block.positions.len()).map(|row| row as u32));
            query_rows.resize((at + 1) * queries, NOTHING);
            query_positions.extend(block.positions.iter().map(|position| *position as f32));
            query_positions.resize((at + 1) * queries, 0.0);
            key_rows.extend_from_slice(&block.keys);
            key_rows.resize((at + 1) * keys, NOTHING);
            key_positions.extend((block.start..).take(block.keys.len()).map(|position| position as f32));
            key_positions.resize((at + 1) * keys, NEVER);
        }
        let count = blocks.len();
        let group = Self {
            blocks: count,
            queries,
            keys,
            query_rows: index(query_rows, device)?,
            key_rows: index(key_rows.clone(), device)?,
            query_positions: ct::Tensor::from_vec(query_positions, (count, queries, 1, 1), device)?,
            key_positions: ct::Tensor::from_vec(key_positions, (count, 1, 1, keys), device)?,
        };
        Ok((group, key_rows))
    }
}
