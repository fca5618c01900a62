use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::error::Result;

fn tree(parts: &[(usize, Option<usize>)]) -> Result<SequenceTree> {
    let mut tree = SequenceTree::default();
    for (length, parent) in parts {
        tree.push(*length, *parent)?;
    }
    Ok(tree)
}

/// Returns the rows that every query sees, from the tree.
fn wanted(tree: &SequenceTree, how: &Attention<'_>) -> Vec<BTreeSet<usize>> {
    let sees = |query: usize, key: usize| match how.mask {
        Mask::Causal { window } => key <= query && window.is_none_or(|window| key + window > query),
        Mask::Full => true,
        Mask::Around { reach } => query.abs_diff(key) <= reach,
    };
    let mut all = Vec::new();
    for asking in tree.asking(how.queries) {
        let chain: Vec<usize> = tree.chain(asking.segment).into_iter().flatten().collect();
        for query in asking.positions {
            let seen = chain.iter().enumerate().filter(|(key, _)| sees(query, *key));
            all.push(seen.map(|(_, row)| *row).collect());
        }
    }
    all
}

/// Returns the queries of a block, and the positions that each sees.
fn seen(tiles: &Tiles, block: [u32; 5]) -> impl Iterator<Item = (usize, Range<i64>)> + '_ {
    let [first, count, _, begin, end] = block.map(i64::from);
    (first..first + count).map(move |query| {
        let at = i64::from(tiles.positions[query as usize]);
        let from = begin.max(at - i64::from(tiles.back));
        (query as usize, from..end.min(at + i64::from(tiles.ahead) + 1))
    })
}

/// Protects: every query sees exactly its rows, forward by the blocks and backward by the items; every row
/// of k has a place for its gradient.
#[test]
fn blocks_and_items_hold_every_seen_pair_once() -> Result<()> {
    let trees = [
        tree(&[(1, None)])?,
        tree(&[(70, None), (130, Some(0)), (64, Some(0)), (5, None), (1, Some(3))])?,
        tree(&[(150, None), (3, Some(0)), (200, Some(1)), (64, Some(2)), (65, Some(0))])?,
    ];
    let masks = [
        Mask::Causal { window: None },
        Mask::Causal { window: Some(1) },
        Mask::Causal { window: Some(90) },
        Mask::Full,
        Mask::Around { reach: 40 },
    ];
    for tree in &trees {
        let rows = tree.rows();
        let ends: Vec<usize> = tree.segments().iter().map(|segment| segment.rows.end - 1).collect();
        let some: Vec<usize> = (0..rows).filter(|row| row % 3 == 0).collect();
        for (mask, queries, group) in masks
            .iter()
            .flat_map(|mask| [(*mask, None, 7), (*mask, Some(&ends[..]), 64), (*mask, Some(&some[..]), 1)])
        {
            let how = Attention { scale: 1.0, cap: None, mask, queries };
            let tiles = Tiles::new(tree, &how, group);
            let want = wanted(tree, &how);
            let mut forward: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
            for block in &tiles.blocks {
                assert!((1..=TILE as u32).contains(&block[1]));
                for (query, positions) in seen(&tiles, *block) {
                    let rows = positions.map(|position| tiles.chain[block[2] as usize + position as usize]);
                    let rows = rows.map(|row| row as usize).collect();
                    assert!(forward.insert(query, rows).is_none(), "query {query} is in two blocks");
                }
            }
            assert!(forward.into_values().eq(want.iter().cloned()), "{how:?}");
            let mut backward = vec![BTreeSet::new(); want.len()];
            for [row, count, position, begin, end, _] in &tiles.items {
                let of_piece = tiles.items.iter().filter(|item| item[0] == *row);
                let visitors: usize = of_piece.map(|item| (item[4] - item[3]) as usize).sum();
                assert!(end > begin && (end - begin) as usize <= visits(visitors, group));
                for visit in *begin..*end {
                    let block = tiles.blocks[tiles.visits[visit as usize] as usize];
                    for (query, positions) in seen(&tiles, block) {
                        for at in 0..*count {
                            if positions.contains(&i64::from(position + at)) {
                                assert!(backward[query].insert((row + at) as usize), "a pair comes twice");
                            }
                        }
                    }
                }
            }
            assert_eq!(backward, want, "{how:?}");
            let mut slots = BTreeMap::new();
            let mut next = 0;
            for [row, count, slot, number] in &tiles.keys {
                assert_eq!(*row, next, "pieces follow each other");
                next += count;
                slots.extend((*slot..slot + number).map(|slot| (slot, *row)));
            }
            assert_eq!(next as usize, rows);
            let of_items = tiles.items.iter().map(|item| (item[5], item[0]));
            assert_eq!(of_items.collect::<BTreeMap<_, _>>(), slots);
            assert_eq!(slots.len(), tiles.slots);
        }
    }
    Ok(())
}

/// Protects: the slots grow with the length of a sequence and not with its square, and still hold every
/// visit of a block once; pieces of short sequences are divided by their steps alone.
#[test]
fn slots_grow_with_the_length_of_a_sequence() -> Result<()> {
    let how = Attention { scale: 1.0, cap: None, mask: Mask::Causal { window: None }, queries: None };
    for group in [1, 7, 100] {
        for pieces in [20, 300] {
            let tiles = Tiles::new(&tree(&[(pieces * TILE, None)])?, &how, group);
            assert_eq!(tiles.keys.len(), pieces);
            assert!(tiles.slots <= ITEMS * pieces, "{} slots of {pieces} pieces", tiles.slots);
            let mut visited = 0;
            for (piece, [_, _, slot, slots]) in tiles.keys.iter().enumerate() {
                // The piece's own block and all later ones see it.
                let visitors = pieces - piece;
                assert_eq!(*slots as usize, visitors.div_ceil(visits(visitors, group)));
                if visitors <= ITEMS * (STEPS / group).max(1) {
                    assert_eq!(*slots as usize, visitors.div_ceil((STEPS / group).max(1)));
                }
                let own = tiles.items.iter().filter(|item| (*slot..slot + slots).contains(&item[5]));
                visited += own.map(|item| (item[4] - item[3]) as usize).sum::<usize>();
            }
            assert_eq!(visited, pieces * (pieces + 1) / 2);
        }
    }
    Ok(())
}
