//! The binary tree over lanes: the order of its leaves, and the sums of its nodes.

use std::ops::Range;

use pcrm_core::Gradients;
use pcrm_core::optim::halves;

use crate::error::Result;

/// Returns the order in which items are dealt to the lanes of a node, alternating between its halves.
pub(super) fn dealing(node: &Range<usize>) -> Vec<usize> {
    let Some(halves) = halves(node) else { return node.clone().collect() };
    let [left, right] = halves.map(|half| dealing(&half));
    let most = left.len().max(right.len());
    (0..most).flat_map(|at| [left.get(at), right.get(at)]).flatten().copied().collect()
}

/// Returns the largest nodes of the tree of lanes within each process's equal range.
pub(crate) fn subtrees(lanes: usize, processes: usize) -> Vec<Vec<Range<usize>>> {
    let each = lanes / processes;
    let of = |rank: usize| {
        let mut found = Vec::new();
        within(&(0..lanes), &(rank * each..(rank + 1) * each), &mut found);
        found
    };
    (0..processes).map(of).collect()
}

/// Collects the largest nodes of the tree at or below `node` that are within `own`.
fn within(node: &Range<usize>, own: &Range<usize>, found: &mut Vec<Range<usize>>) {
    if own.start <= node.start && node.end <= own.end {
        found.push(node.clone());
    } else if own.start < node.end && node.start < own.end {
        halves(node).iter().flatten().for_each(|half| within(half, own, found));
    }
}

/// Returns the sum over a node of the tree, which is the sum of its halves.
pub(super) fn subtree(
    node: &Range<usize>,
    of_lane: &mut impl FnMut(usize) -> Result<Gradients>,
) -> Result<Gradients> {
    let Some([left, right]) = halves(node) else { return of_lane(node.start) };
    let mut sum = subtree(&left, of_lane)?;
    sum.accumulate(subtree(&right, of_lane)?)?;
    Ok(sum)
}
