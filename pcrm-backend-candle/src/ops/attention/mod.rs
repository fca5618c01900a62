//! Attention over a sequence tree, one task per tree and kv head, in tiles of [`TILE`] positions.
//!
//! A tile is the rows of one segment whose positions share a multiple of [`TILE`], times the heads that read one
//! kv head. It multiplies with all keys of its chain up to the tile's end (without a mask: with all of them), rounded up
//! to whole tiles and filled with zeros: so the sums of a row depend on its position alone, and a row has the same bits whether its prompt is
//! shared or not. Only ln Σ eˣ of every row is kept; the backward recomputes the probabilities.

mod plan;

use candle_core as ct;
use multiversion::multiversion;
use pcrm_core::Result;
use rayon::prelude::*;

use super::lanes::{exp, fold, fold2, largest};
use super::product::{Cores, Into, Matrix, multiply};
use super::slices::{dense, floats, tensor};
use plan::{Part, along, gather, tiles};
pub(crate) use plan::{Plan, Sizes};

/// The attended values `[queries, heads, dim]` and ln Σ eˣ `[queries, heads]`.
pub(crate) fn forward(plan: &Plan, qkv: [&ct::Tensor; 3]) -> Result<(ct::Tensor, Vec<f32>)> {
    const OP: &str = "attention";
    let Sizes { heads, dim, .. } = plan.sizes;
    let mut values = vec![0.0; plan.queries * heads * dim];
    let mut totals = vec![0.0; plan.queries * heads];
    {
        let (q, k, v) = (floats(OP, qkv[0])?, floats(OP, qkv[1])?, floats(OP, qkv[2])?);
        let done: Vec<Vec<Tile>> = plan
            .tasks()
            .into_par_iter()
            .map(|(parts, head)| forward_task(plan, parts, head, [&q, &k, &v]))
            .collect();
        for ((_, kv_head), tiles) in plan.tasks().into_iter().zip(done) {
            for tile in tiles {
                for (at, (row, head)) in tile.members(plan.group(), kv_head).enumerate() {
                    values[(row * heads + head) * dim..][..dim]
                        .copy_from_slice(&tile.values[at * dim..][..dim]);
                    totals[row * heads + head] = tile.totals[at];
                }
            }
        }
    }
    Ok((tensor(OP, values, &[plan.queries, heads, dim])?, totals))
}

/// The gradients of q, k and v, from the gradient of the values, the values and ln Σ eˣ.
pub(crate) fn backward(
    plan: &Plan,
    qkv: [&ct::Tensor; 3],
    [values, gradient]: [&ct::Tensor; 2],
    totals: &[f32],
) -> Result<[ct::Tensor; 3]> {
    const OP: &str = "attention backward";
    let gradient = dense(OP, gradient)?;
    let Sizes { heads, kv_heads, dim } = plan.sizes;
    let (mut d_q, mut d_k) = (vec![0.0; qkv[0].elem_count()], vec![0.0; qkv[1].elem_count()]);
    let mut d_v = vec![0.0; qkv[2].elem_count()];
    {
        let (q, k, v) = (floats(OP, qkv[0])?, floats(OP, qkv[1])?, floats(OP, qkv[2])?);
        let (values, gradient) = (floats(OP, values)?, floats(OP, &gradient)?);
        let tasks = plan.tasks();
        let done: Vec<Vec<PartGradient<'_>>> = tasks
            .par_iter()
            .map(|(parts, head)| backward_task(plan, parts, *head, [&q, &k, &v, &values, &gradient], totals))
            .collect();
        // Children of one prompt add to its keys here, in the order of the tree.
        for ((_, kv_head), parts) in tasks.iter().zip(done) {
            for part in parts {
                for tile in part.tiles {
                    for (at, (row, head)) in tile.members(plan.group(), *kv_head).enumerate() {
                        let target = &mut d_q[(row * heads + head) * dim..][..dim];
                        target.copy_from_slice(&tile.values[at * dim..][..dim]);
                    }
                }
                for (at, row) in part.chain.iter().cloned().flatten().enumerate() {
                    let place = (row * kv_heads + kv_head) * dim;
                    add(&mut d_k[place..][..dim], &part.d_keys[at * dim..][..dim]);
                    add(&mut d_v[place..][..dim], &part.d_values[at * dim..][..dim]);
                }
            }
        }
    }
    Ok([tensor(OP, d_q, qkv[0].dims())?, tensor(OP, d_k, qkv[1].dims())?, tensor(OP, d_v, qkv[2].dims())?])
}

/// The results of one tile: rows ordered by (asking row, head of the group).
struct Tile {
    rows: Vec<usize>,
    values: Vec<f32>,
    totals: Vec<f32>,
}

impl Tile {
    /// (row of q, head) of every row of the tile.
    fn members(&self, group: usize, kv_head: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.rows.iter().flat_map(move |row| (0..group).map(move |head| (*row, kv_head * group + head)))
    }
}

struct PartGradient<'a> {
    chain: &'a [std::ops::Range<usize>],
    tiles: Vec<Tile>,
    d_keys: Vec<f32>,
    d_values: Vec<f32>,
}

fn forward_task(plan: &Plan, parts: &[Part], kv_head: usize, [q, k, v]: [&[f32]; 3]) -> Vec<Tile> {
    let Sizes { heads, kv_heads, dim } = plan.sizes;
    let group = plan.group();
    let mut done = Vec::new();
    for part in parts {
        let keys = along(&part.chain, k, kv_head, [kv_heads, dim]);
        let values = along(&part.chain, v, kv_head, [kv_heads, dim]);
        for (asking, seen) in tiles(part, plan.mask) {
            let queries = gather(asking, q, kv_head, group, [heads, dim]);
            let rows = queries.len() / dim;
            let mut scores = vec![0.0; rows * seen];
            let keys = Matrix::new(&keys[..seen * dim], seen, dim).transposed();
            multiply(
                &mut scores,
                Into::Replace,
                plan.scale,
                Matrix::new(&queries, rows, dim),
                keys,
                Cores::One,
            );
            let mut totals = Vec::with_capacity(rows);
            for (at, scores) in scores.chunks_exact_mut(seen).enumerate() {
                // The rows that fill up see the first key, for want of a position.
                let position = asking.get(at / group).map_or(0, |(_, position)| *position);
                totals.push(softmax(scores, part.visible(position, plan.mask)));
            }
            let mut attended = vec![0.0; rows * dim];
            let values = Matrix::new(&values[..seen * dim], seen, dim);
            multiply(&mut attended, Into::Replace, 1.0, Matrix::new(&scores, rows, seen), values, Cores::One);
            done.push(Tile { rows: asking.iter().map(|(row, _)| *row).collect(), values: attended, totals });
        }
    }
    done
}

fn backward_task<'a>(
    plan: &Plan,
    parts: &'a [Part],
    kv_head: usize,
    [q, k, v, values, gradient]: [&[f32]; 5],
    totals: &[f32],
) -> Vec<PartGradient<'a>> {
    let Sizes { heads, kv_heads, dim } = plan.sizes;
    let group = plan.group();
    let mut done = Vec::new();
    for part in parts {
        let keys = along(&part.chain, k, kv_head, [kv_heads, dim]);
        let own_values = along(&part.chain, v, kv_head, [kv_heads, dim]);
        let (mut d_keys, mut d_values) = (vec![0.0; keys.len()], vec![0.0; keys.len()]);
        let mut done_tiles = Vec::new();
        for (asking, seen) in tiles(part, plan.mask) {
            let queries = gather(asking, q, kv_head, group, [heads, dim]);
            let outputs = gather(asking, values, kv_head, group, [heads, dim]);
            let d_outputs = gather(asking, gradient, kv_head, group, [heads, dim]);
            let rows = queries.len() / dim;
            let seen_keys = Matrix::new(&keys[..seen * dim], seen, dim);
            let seen_values = Matrix::new(&own_values[..seen * dim], seen, dim);
            let (query_rows, d_output_rows) =
                (Matrix::new(&queries, rows, dim), Matrix::new(&d_outputs, rows, dim));

            let mut scores = vec![0.0; rows * seen];
            multiply(&mut scores, Into::Replace, plan.scale, query_rows, seen_keys.transposed(), Cores::One);
            let mut d_scores = vec![0.0; rows * seen];
            multiply(&mut d_scores, Into::Replace, 1.0, d_output_rows, seen_values.transposed(), Cores::One);
            for at in 0..rows {
                let (scores, d_scores) =
                    (&mut scores[at * seen..][..seen], &mut d_scores[at * seen..][..seen]);
                match asking.get(at / group) {
                    Some((row, position)) => {
                        let total = totals[row * heads + kv_head * group + at % group];
                        let along =
                            fold2(&outputs[at * dim..][..dim], &d_outputs[at * dim..][..dim], |a, b| a * b);
                        probabilities(scores, part.visible(*position, plan.mask), total);
                        softmax_backward(d_scores, scores, along, plan.scale);
                    }
                    None => {
                        scores.fill(0.0);
                        d_scores.fill(0.0);
                    }
                }
            }
            let (probs, d_scores) = (Matrix::new(&scores, rows, seen), Matrix::new(&d_scores, rows, seen));
            let mut d_queries = vec![0.0; rows * dim];
            multiply(&mut d_queries, Into::Replace, 1.0, d_scores, seen_keys, Cores::One);
            multiply(
                &mut d_keys[..seen * dim],
                Into::Add,
                1.0,
                d_scores.transposed(),
                query_rows,
                Cores::One,
            );
            multiply(
                &mut d_values[..seen * dim],
                Into::Add,
                1.0,
                probs.transposed(),
                d_output_rows,
                Cores::One,
            );
            let rows = asking.iter().map(|(row, _)| *row).collect();
            done_tiles.push(Tile { rows, values: d_queries, totals: Vec::new() });
        }
        done.push(PartGradient { chain: &part.chain, tiles: done_tiles, d_keys, d_values });
    }
    done
}

/// Turns scores into probabilities, zero where not visible, and gives ln Σ eˣ.
#[multiversion(targets = "simd")]
fn softmax(scores: &mut [f32], visible: std::ops::Range<usize>) -> f32 {
    // The sums run over the whole row, so that their lanes do not depend on what is visible.
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

/// Turns scores into the probabilities that `total` = ln Σ eˣ makes of them.
#[multiversion(targets = "simd")]
fn probabilities(scores: &mut [f32], visible: std::ops::Range<usize>, total: f32) {
    scores[..visible.start].fill(f32::NEG_INFINITY);
    scores[visible.end..].fill(f32::NEG_INFINITY);
    for score in scores.iter_mut() {
        *score = exp(*score - total);
    }
}

/// d scores = p·(d p − Σ o·d o)·scale
#[multiversion(targets = "simd")]
fn softmax_backward(d_scores: &mut [f32], probs: &[f32], along: f32, scale: f32) {
    for (d_score, prob) in d_scores.iter_mut().zip(probs) {
        *d_score = prob * (*d_score - along) * scale;
    }
}

fn add(sum: &mut [f32], part: &[f32]) {
    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
}
