//! The gradients of attention; probabilities are recomputed from ln Σ eˣ.

use multiversion::multiversion;

use super::plan::{Part, along, gather, tiles};
use super::{AttentionPlan, Sizes, Tile, bound};
use crate::error::Result;
use crate::slices::Spread;
use crate::slices::lanes::{exp, fold2};
use crate::slices::product::{Cores, Into, Matrix, multiply, steady_rows};

/// Computes the gradients of q, k and v from the attended values, their gradient and ln Σ eˣ.
///
/// # Errors
/// Fails if a work item panicked.
pub fn backward(
    plan: &AttentionPlan,
    spread: &impl Spread,
    [q, k, v]: [&[f32]; 3],
    [values, gradient]: [&[f32]; 2],
    totals: &[f32],
) -> Result<[Vec<f32>; 3]> {
    let Sizes { heads, kv_heads, dim } = plan.sizes;
    let (mut d_q, mut d_k, mut d_v) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    let tasks = plan.tasks();
    let done = spread.each(tasks.clone(), |(parts, head)| {
        backward_task(plan, parts, head, [q, k, v, values, gradient], totals)
    })?;
    // Children of a prompt add to its keys in the order of the tree.
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
    Ok([d_q, d_k, d_v])
}

struct PartGradient<'a> {
    chain: &'a [std::ops::Range<usize>],
    tiles: Vec<Tile>,
    d_keys: Vec<f32>,
    d_values: Vec<f32>,
}

/// Returns the minimum number of rows in a tile's products. Single heads never exceed 64 rows, so they always
/// take the same path; see [`steady_rows`].
fn least_rows(group: usize, dim: usize) -> usize {
    if group == 1 { 8 } else { steady_rows(dim) }
}

fn backward_task<'a>(
    plan: &AttentionPlan,
    parts: &'a [Part],
    kv_head: usize,
    [q, k, v, values, gradient]: [&[f32]; 5],
    totals: &[f32],
) -> Vec<PartGradient<'a>> {
    let Sizes { heads, kv_heads, dim } = plan.sizes;
    let group = plan.group();
    let filled = least_rows(group, dim);
    let mut done = Vec::new();
    for part in parts {
        let keys = along(&part.chain, k, kv_head, [kv_heads, dim]);
        let own_values = along(&part.chain, v, kv_head, [kv_heads, dim]);
        let (mut d_keys, mut d_values) = (vec![0.0; keys.len()], vec![0.0; keys.len()]);
        let mut done_tiles = Vec::new();
        for (asking, seen) in tiles(part, plan.mask) {
            let queries = gather(asking, q, kv_head, group, [heads, dim], filled);
            let outputs = gather(asking, values, kv_head, group, [heads, dim], filled);
            let d_outputs = gather(asking, gradient, kv_head, group, [heads, dim], filled);
            let rows = queries.len() / dim;
            let seen_keys = Matrix::new(&keys[..seen * dim], seen, dim);
            let seen_values = Matrix::new(&own_values[..seen * dim], seen, dim);
            let (query_rows, d_output_rows) =
                (Matrix::new(&queries, rows, dim), Matrix::new(&d_outputs, rows, dim));

            let mut scores = vec![0.0; rows * seen];
            multiply(&mut scores, Into::Replace, plan.scale, query_rows, seen_keys.transposed(), Cores::One);
            if let Some(cap) = plan.cap {
                bound(&mut scores, cap);
            }
            let bounded = plan.cap.map(|cap| (cap, scores.clone()));
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
            if let Some((cap, bounded)) = &bounded {
                bound_backward(&mut d_scores, bounded, *cap);
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

/// Turns scores into probabilities, given `total` = ln Σ eˣ.
#[multiversion(targets = "simd")]
fn probabilities(scores: &mut [f32], visible: std::ops::Range<usize>, total: f32) {
    scores[..visible.start].fill(f32::NEG_INFINITY);
    scores[visible.end..].fill(f32::NEG_INFINITY);
    for score in scores.iter_mut() {
        *score = exp(*score - total);
    }
}

/// Computes d scores = p·(d p − Σ o·d o)·scale.
#[multiversion(targets = "simd")]
fn softmax_backward(d_scores: &mut [f32], probs: &[f32], along: f32, scale: f32) {
    for (d_score, prob) in d_scores.iter_mut().zip(probs) {
        *d_score = prob * (*d_score - along) * scale;
    }
}

/// Computes d scores ← d scores·(1 − (b / cap)²), where b are the capped scores.
#[multiversion(targets = "simd")]
fn bound_backward(d_scores: &mut [f32], bounded: &[f32], cap: f32) {
    for (d_score, bounded) in d_scores.iter_mut().zip(bounded) {
        let share = bounded / cap;
        *d_score *= 1.0 - share * share;
    }
}

fn add(sum: &mut [f32], part: &[f32]) {
    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
}
