//! The binary tree over lanes: the order of its leaves, and the sums of its nodes.

use std::ops::Range;

use pcrm_core::optim::halves;
use pcrm_core::{Gradients, Ready};

use crate::error::Result;

/// Returns the order of dealing items to the lanes of a node, which alternates between its halves.
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

/// Computes the sum over a node of the tree, which is the sum of its halves, and calls `ready` with every
/// parameter's sum as soon as it is complete, while the node's last lane is computed.
pub(super) fn subtree(
    node: &Range<usize>,
    of_lane: &mut dyn FnMut(usize, Ready<'_>) -> Result<()>,
    ready: Ready<'_>,
) -> Result<()> {
    let Some([left, right]) = halves(node) else { return of_lane(node.start, ready) };
    let mut sums = Gradients::default();
    subtree(&left, of_lane, &mut |name, gradient| {
        sums.insert(name, gradient);
        Ok(())
    })?;
    subtree(&right, of_lane, &mut |name, gradient| ready(name, sums.take_sum(name, gradient)?))
}
