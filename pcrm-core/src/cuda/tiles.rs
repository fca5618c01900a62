//! The division of a batch's attention into the thread blocks of [`super::ATTENTION`].

use std::ops::Range;

use crate::kernels::{Attention, Mask};
use crate::tree::SequenceTree;

/// The maximum number of queries or keys in a thread block.
pub const TILE: usize = 64;

/// The steps of an item, over all heads of a group: few enough to keep the GPU's processors equally busy.
const STEPS: usize = 64;

/// The maximum number of items for a piece of keys. Each item has a slot for its sum in f32, and without a
/// limit the number of slots would grow with the square of a sequence's length. Items of long sequences have
/// more steps.
const ITEMS: usize = 8;

/// A distance larger than every position.
const FAR: i32 = 1 << 29;

/// The arrays that the kernels read; the structs of the source say what their numbers mean.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tiles {
    /// The blocks of queries, largest first, as `struct Block`.
    pub blocks: Vec<[u32; 5]>,
    /// The row of every position of the chains of all segments with queries.
    pub chain: Vec<u32>,
    /// The position of every query.
    pub positions: Vec<u32>,
    /// The parts of the work on the gradients of keys and values, largest first, as `struct Item`.
    pub items: Vec<[u32; 6]>,
    /// The blocks that the items visit.
    pub visits: Vec<u32>,
    /// All rows of k and v in pieces of at most [`TILE`], as `struct Keys`.
    pub keys: Vec<[u32; 4]>,
    /// The number of slots, one for each item.
    pub slots: usize,
    /// A query at position p sees the positions p - back ..= p + ahead.
    pub back: i32,
    /// See `back`.
    pub ahead: i32,
}

/// Queries of one segment that form a block.
struct Block {
    first: usize,
    count: usize,
    chain: usize,
    seen: Range<usize>,
}

impl Tiles {
    /// Divides a batch whose operands have been checked; `group` is the number of query heads per head of keys.
    pub fn new(tree: &SequenceTree, how: &Attention<'_>, group: usize) -> Self {
        let [back, ahead] = sight(how.mask);
        let mut tiles = Self { back, ahead, ..Self::default() };
        let mut blocks = Vec::new();
        // The blocks that see any of a piece's rows.
        let mut visitors: Vec<Vec<Vec<usize>>> = tree
            .segments()
            .iter()
            .map(|segment| vec![Vec::new(); segment.rows.len().div_ceil(TILE)])
            .collect();
        for asking in tree.asking(how.queries) {
            let line = line(tree, asking.segment);
            let length = tree.start(asking.segment) + tree.segments()[asking.segment].rows.len();
            let chain = tiles.chain.len();
            let rows = line.iter().flat_map(|segment| tree.segments()[*segment].rows.clone());
            tiles.chain.extend(rows.map(|row| row as u32));
            tiles.positions.extend(asking.positions.iter().map(|position| *position as u32));
            let own = blocks.len();
            for (at, positions) in asking.positions.chunks(TILE).enumerate() {
                let [oldest, newest] = [positions[0], positions[positions.len() - 1]];
                let end = newest.saturating_add(ahead as usize + 1).min(length);
                blocks.push(Block {
                    first: asking.rows.start + at * TILE,
                    count: positions.len(),
                    chain,
                    seen: oldest.saturating_sub(back as usize)..end,
                });
            }
            for segment in line {
                for (piece, visitors) in visitors[segment].iter_mut().enumerate() {
                    let piece = positions_of(tree, segment, piece);
                    let sees =
                        |at: &usize| blocks[*at].seen.start < piece.end && piece.start < blocks[*at].seen.end;
                    visitors.extend((own..blocks.len()).filter(sees));
                }
            }
        }
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        order.sort_by_key(|at| usize::MAX - blocks[*at].seen.len());
        let mut places = vec![0; blocks.len()];
        order.iter().enumerate().for_each(|(place, at)| places[*at] = place as u32);
        let numbers = |block: &Block| {
            [block.first, block.count, block.chain, block.seen.start, block.seen.end]
                .map(|number| number as u32)
        };
        tiles.blocks = order.iter().map(|at| numbers(&blocks[*at])).collect();
        for (segment, visitors) in visitors.iter().enumerate() {
            for (piece, visitors) in visitors.iter().enumerate() {
                tiles.push_keys(tree, [segment, piece], visitors, &places, group);
            }
        }
        tiles.items.sort_by_key(|item| u32::MAX - (item[4] - item[3]));
        tiles
    }

    /// Appends a piece of a segment and the items of its gradient.
    fn push_keys(
        &mut self,
        tree: &SequenceTree,
        [segment, piece]: [usize; 2],
        visitors: &[usize],
        places: &[u32],
        group: usize,
    ) {
        let positions = positions_of(tree, segment, piece);
        let row = (tree.segments()[segment].rows.start + piece * TILE) as u32;
        let count = positions.len() as u32;
        let before = self.slots;
        for visitors in visitors.chunks(visits(visitors.len(), group)) {
            let begin = self.visits.len() as u32;
            self.visits.extend(visitors.iter().map(|at| places[*at]));
            let end = self.visits.len() as u32;
            self.items.push([row, count, positions.start as u32, begin, end, self.slots as u32]);
            self.slots += 1;
        }
        self.keys.push([row, count, before as u32, (self.slots - before) as u32]);
    }
}

/// Returns how many blocks of queries an item visits, of those that see its piece.
fn visits(visitors: usize, group: usize) -> usize {
    (STEPS / group).max(1).max(visitors.div_ceil(ITEMS))
}

/// Returns how far back and ahead a query sees.
fn sight(mask: Mask) -> [i32; 2] {
    let distance = |positions: usize| i32::try_from(positions).unwrap_or(FAR).min(FAR);
    match mask {
        Mask::Causal { window: None } => [FAR, 0],
        Mask::Causal { window: Some(window) } => [distance(window.saturating_sub(1)), 0],
        Mask::Full => [FAR, FAR],
        Mask::Around { reach } => [distance(reach), distance(reach)],
    }
}

/// Returns a segment and its ancestors, from the root down.
fn line(tree: &SequenceTree, segment: usize) -> Vec<usize> {
    let mut line: Vec<usize> =
        std::iter::successors(Some(segment), |segment| tree.segments()[*segment].parent).collect();
    line.reverse();
    line
}

/// Returns the positions of the rows of a segment's piece.
fn positions_of(tree: &SequenceTree, segment: usize, piece: usize) -> Range<usize> {
    let (start, rows) = (tree.start(segment), tree.segments()[segment].rows.len());
    start + piece * TILE..start + rows.min((piece + 1) * TILE)
}

#[cfg(test)]
mod tests;
