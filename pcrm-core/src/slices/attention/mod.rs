//! Attention over a sequence tree, one task per tree and kv head, in tiles of [`TILE`] positions.
//!
//! A tile is the rows of one segment whose positions share a multiple of [`TILE`], times the heads that read
//! one kv head. It is multiplied with all keys of its chain up to the tile's end (without a causal mask: with
//! all of them), padded with zeros to whole tiles. So the sums of a row depend on its position alone, and a
//! row has the same bits whether its prompt is shared or not, and whether its keys come from a pass or from a
//! cache. Only ln Σ eˣ of every row is kept; the backward recomputes the probabilities.

mod backward;
mod blocks;
mod forward;
mod plan;

use multiversion::multiversion;

pub use self::backward::backward;
pub use self::blocks::{Blocks, Step};
pub use self::forward::forward;
pub use self::plan::{AttentionPlan, Sizes, TILE};
use super::lanes::{exp, fold, largest, tanh};

/// The minimum number of rows in a product of a forward pass, so that gemm adds up every element in the order
/// of the keys.
const STEADY: usize = 8;

/// The results of one tile: rows ordered by (querying row, head of the group).
struct Tile {
    rows: Vec<usize>,
    values: Vec<f32>,
    totals: Vec<f32>,
}

impl Tile {
    /// Returns (row of q, head) of every row of the tile.
    fn members(&self, group: usize, kv_head: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.rows.iter().flat_map(move |row| (0..group).map(move |head| (*row, kv_head * group + head)))
    }
}

/// Caps scores element by element: s ← cap·tanh(s / cap).
#[multiversion(targets = "simd")]
fn bound(scores: &mut [f32], cap: f32) {
    for score in scores.iter_mut() {
        *score = cap * tanh(*score / cap);
    }
}

/// Turns scores into probabilities, zero where not visible, and returns ln Σ eˣ.
#[multiversion(targets = "simd")]
fn softmax(scores: &mut [f32], visible: std::ops::Range<usize>) -> f32 {
    // The sums run over the whole row, so that their lanes do not depend on the visible range.
    scores[..visible.start].fill(f32::NEG_INFINITY);
    scores[visible.end..].fill(f32::NEG_INFINITY);
    let top = largest(scores);
    for score in scores.iter_mut() {
        *score = exp(*score - top);
    }
    let sum = fold(scores, |x| x);
    for score in scores.iter_mut() {
        *score /= sum;
    }
    top + sum.ln()
}
