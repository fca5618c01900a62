//! Which rows attend to which keys, in tiles of [`TILE`] positions; without a mask a segment is one tile.
//!
//! A tile is the asking rows of one segment whose positions share a multiple of [`TILE`]. It multiplies with all keys of
//! its chain up to the tile's end, rounded up to whole tiles; what it must not see is masked. So the sums of a row
//! depend on its position alone, and a row has the same bits whether its prompt is shared or not.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use pcrm_core::tree::Asking;
use pcrm_core::{Attention, Mask, PlannedTree, SequenceTree};

/// Positions of a tile.
pub(super) const TILE: usize = 64;
/// Asking rows come in multiples of this, the last ones filled up: libtorch's products have other paths for a few rows.
pub(super) const STEP: usize = 8;

/// Rows of q that attend together.
#[derive(Debug, PartialEq)]
pub(super) struct Tile {
    /// Rows of q.
    pub asking: Range<usize>,
    /// Their rows of the mask's template: position modulo [`TILE`], filled up to a multiple of [`STEP`]. None where
    /// nothing is masked.
    pub places: Vec<i64>,
    /// Keys of the chain that are multiplied with, whole tiles.
    pub keys: Range<usize>,
}

/// The asking rows of one segment.
#[derive(Debug, PartialEq)]
pub(super) struct Part {
    /// The rows of the segment's ancestors and its own, from the root down; neighbours are one range.
    pub chain: Vec<Range<usize>>,
    /// Its tiles.
    pub tiles: Vec<Tile>,
}

impl Part {
    /// The rows of the chain.
    pub(super) fn keys(&self) -> usize {
        length(&self.chain)
    }
}

/// All parts with asking rows, in the order of q, and how they attend.
#[derive(Debug)]
pub(super) struct Plan {
    /// The parts of every tree: trees share no rows.
    pub trees: Vec<Vec<Part>>,
    pub scale: f64,
    pub mask: Mask,
}

impl Plan {
    /// Returns the plan that all layers of a pass share.
    pub(super) fn shared(tree: &PlannedTree, how: &Attention<'_>) -> Arc<Self> {
        let key = (how.queries.map(<[usize]>::to_vec), how.mask, how.scale);
        let Ok(plan) = tree.plan(key, || Ok::<_, Infallible>(Self::new(tree, how)));
        plan
    }

    /// A plan for a tree.
    pub(super) fn new(tree: &SequenceTree, how: &Attention<'_>) -> Self {
        let part = |asking: Asking| {
            let chain = joined(tree.chain(asking.segment));
            let tiles = match how.mask {
                Mask::Causal { window } => {
                    let mut next = asking.rows.start;
                    let tile = |block: &[usize]| {
                        next += block.len();
                        Tile::causal(next - block.len(), block, window)
                    };
                    asking.positions.chunk_by(|a, b| a / TILE == b / TILE).map(tile).collect()
                }
                Mask::Full => vec![Tile::full(asking.rows, length(&chain))],
            };
            Part { chain, tiles }
        };
        let trees = tree.asking_by_tree(how.queries).into_iter();
        let trees = trees.map(|asking| asking.into_iter().map(part).collect()).collect();
        Self { trees, scale: how.scale, mask: how.mask }
    }

    /// The most keys that any tile multiplies with.
    pub(super) fn most_keys(&self) -> usize {
        let tiles = self.trees.iter().flatten().flat_map(|part| &part.tiles);
        tiles.map(|tile| tile.keys.len()).max().unwrap_or(0)
    }

    /// The additive mask of any tile, `[TILE + STEP, most keys]`: a tile takes its places' rows and its last columns.
    /// `None`: nothing is masked.
    pub(super) fn template(&self) -> Option<Vec<f32>> {
        let Mask::Causal { window } = self.mask else { return None };
        let keys = self.most_keys();
        let seen = |place: usize, key: usize| {
            // How far the key is behind the row; keys end at the tile's end.
            let behind = (place + keys) as i64 - (key + TILE) as i64;
            behind >= 0 && window.is_none_or(|window| behind < window as i64)
        };
        let rows = 0..TILE + STEP;
        let all = rows.flat_map(|place| (0..keys).map(move |key| (place, key)));
        Some(all.map(|(place, key)| if seen(place, key) { 0.0 } else { f32::NEG_INFINITY }).collect())
    }
}

impl Tile {
    fn causal(start: usize, positions: &[usize], window: Option<usize>) -> Self {
        let block = positions.first().map_or(0, |position| position / TILE);
        let first = window.map_or(0, |window| (block * TILE + 1).saturating_sub(window) / TILE * TILE);
        let mut places: Vec<i64> = positions.iter().map(|position| (position % TILE) as i64).collect();
        let last = places.last().copied().unwrap_or(0);
        places.resize(places.len().next_multiple_of(STEP), last);
        Self { asking: start..start + positions.len(), places, keys: first..(block + 1) * TILE }
    }

    /// All asking rows of a segment, which see all `keys` of its chain. Neither is filled up: a call computes one segment
    /// and nothing that stands beside it, so its sizes are the segment's own.
    fn full(asking: Range<usize>, keys: usize) -> Self {
        Self { asking, places: Vec::new(), keys: 0..keys }
    }

    /// The keys that are there: those of a chain of `length` rows.
    pub(super) fn real(&self, length: usize) -> usize {
        self.keys.end.min(length) - self.keys.start
    }

    /// Rows that fill up.
    pub(super) fn fill(&self) -> usize {
        self.places.len().saturating_sub(self.asking.len())
    }
}

fn length(chain: &[Range<usize>]) -> usize {
    chain.iter().map(ExactSizeIterator::len).sum()
}

fn joined(chain: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(chain.len());
    for range in chain {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcrm_core::tree::Packed;

    /// Protects: what a row is multiplied with depends on its position alone.
    #[test]
    fn tiles_follow_positions_and_not_rows() -> pcrm_core::Result<()> {
        let mut batch = Packed::default();
        let prompt = batch.push(&[0; 70], None)?;
        batch.push(&[0; 3], Some(prompt))?;
        batch.push(&[0; 60], Some(prompt))?;
        let plan = Plan::new(
            &batch.tree,
            &Attention { scale: 1.0, mask: Mask::Causal { window: None }, queries: None },
        );
        let ends = |part: &Part| part.tiles.iter().map(|tile| tile.keys.end).collect::<Vec<_>>();
        let [prompt, first, second] = &plan.trees[0][..] else { panic!("three parts of one tree") };
        assert_eq!([ends(prompt), ends(first), ends(second)], [vec![64, 128], vec![128], vec![128, 192]]);
        assert!(plan.trees[0].iter().flat_map(|part| &part.tiles).all(|tile| tile.keys.start == 0));
        assert_eq!((first.chain.len(), first.keys()), (1, 73));
        assert_eq!(second.chain, [0..70, 73..133]);
        assert_eq!(first.tiles[0].places, [6, 7, 8, 8, 8, 8, 8, 8]);
        assert_eq!(second.tiles[1].asking, 131..133);
        Ok(())
    }
}
