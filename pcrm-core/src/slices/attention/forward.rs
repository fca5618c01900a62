//! The forward pass of attention, tile by tile.

use super::plan::{Part, TILE, along, gather, tiles};
use super::{AttentionPlan, STEADY, Sizes, Tile, bound, softmax};
use crate::error::Result;
use crate::slices::Spread;
use crate::slices::product::{Cores, Into, Matrix, multiply};

/// Computes attention: q `[queries, heads, dim]`, k and v `[rows, kv_heads, dim]`. Returns the attended
/// values `[queries, heads, dim]` and ln Σ eˣ of every row's scores, `[queries, heads]`.
///
/// # Errors
/// Fails if a work item panicked.
pub fn forward(
    plan: &AttentionPlan,
    spread: &impl Spread,
    [q, k, v]: [&[f32]; 3],
) -> Result<(Vec<f32>, Vec<f32>)> {
    let Sizes { heads, dim, .. } = plan.sizes;
    let mut values = vec![0.0; plan.queries * heads * dim];
    let mut totals = vec![0.0; plan.queries * heads];
    let done = spread.each(plan.tasks(), |(parts, head)| attend(plan, parts, head, [q, k, v]))?;
    for ((_, kv_head), tiles) in plan.tasks().into_iter().zip(done) {
        for tile in tiles {
            for (at, (row, head)) in tile.members(plan.group(), kv_head).enumerate() {
                values[(row * heads + head) * dim..][..dim].copy_from_slice(&tile.values[at * dim..][..dim]);
                totals[row * heads + head] = tile.totals[at];
            }
        }
    }
    Ok((values, totals))
}

/// Computes attention for the rows of one tree and the heads that read one kv head.
fn attend(plan: &AttentionPlan, parts: &[Part], kv_head: usize, [q, k, v]: [&[f32]; 3]) -> Vec<Tile> {
    let Sizes { heads, kv_heads, dim } = plan.sizes;
    let group = plan.group();
    let mut done = Vec::new();
    for part in parts {
        let keys = along(&part.chain, k, kv_head, [kv_heads, dim]);
        let values = along(&part.chain, v, kv_head, [kv_heads, dim]);
        for (asking, seen) in tiles(part, plan.mask) {
            let queries = gather(asking, q, kv_head, group, [heads, dim], STEADY);
            let rows = queries.len() / dim;
            let mut scores = vec![0.0; rows * seen];
            let keys = Matrix::new(&keys[..seen * dim], seen, dim).transposed();
            let query_rows = Matrix::new(&queries, rows, dim);
            multiply(&mut scores, Into::Replace, plan.scale, query_rows, keys, Cores::One);
            if let Some(cap) = plan.cap {
                bound(&mut scores, cap);
            }
            let mut totals = Vec::with_capacity(rows);
            for (at, scores) in scores.chunks_exact_mut(seen).enumerate() {
                // Padding rows have no position; they attend to the first key.
                let position = asking.get(at / group).map_or(0, |(_, position)| *position);
                totals.push(softmax(scores, part.visible(position, plan.mask)));
            }
            let mut attended = vec![0.0; rows * dim];
            // Tile by tile, so that the order of a sum is the same as with keys in blocks.
            for start in (0..seen).step_by(TILE) {
                let into = if start == 0 { Into::Replace } else { Into::Add };
                let shares = Matrix::new(&scores, rows, seen).columns(start, TILE);
                let values = Matrix::new(&values[start * dim..][..TILE * dim], TILE, dim);
                multiply(&mut attended, into, 1.0, shares, values, Cores::One);
            }
            done.push(Tile { rows: asking.iter().map(|(row, _)| *row).collect(), values: attended, totals });
        }
    }
    done
}
