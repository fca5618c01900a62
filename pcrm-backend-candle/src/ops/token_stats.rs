//! Log-probabilities and entropies of the requested tokens, by chunks of rows: `[rows, vocabulary]` is never
//! materialised.
//!
//! The backward recomputes a chunk's logits. With p = softmax(z), H the entropy, and g and e the gradients of
//! a row's log-probabilities and entropies, d z = Σ g·onehot − p·(Σ g + Σ e·(ln p + H)).

use std::borrow::Cow;
use std::ops::Range;

use candle_core as ct;
use multiversion::multiversion;
use pcrm_core::Result;
use pcrm_core::kernels::{Asked, Draw, Drawn, NO_QUESTION};
use pcrm_core::slices::sampling::{LogitRow, draw};
use rayon::prelude::*;

use super::linear::x_times_wt;
use super::slices::{dense, floats, tensor};
use pcrm_core::slices::lanes::{exp, fold, largest, tanh};
use pcrm_core::slices::product::{Cores, Into, Matrix, multiply, product};

/// The number of rows whose logits are in memory at once.
const CHUNK: usize = 128;

/// The statistics, and the intermediate results that the backward needs.
pub(crate) struct Answers {
    /// The log-probabilities `[asked]`, or `[2, asked]` followed by the entropies.
    pub(crate) joint: ct::Tensor,
    /// 1 where no token is more likely than the target, `[asked]`.
    pub(crate) correct: ct::Tensor,
    /// The statistics of every distinct row.
    pub(crate) rows: Vec<RowStats>,
}

/// The statistics of one row's logits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowStats {
    /// The largest logit.
    top: f32,
    /// ln Σ eᶻ
    total: f32,
    /// −Σ p ln p; 0 unless requested.
    entropy: f32,
}

/// Computes the statistics; hidden `[rows, width]` and head `[vocabulary, width]` must be contiguous.
pub(crate) fn forward(hidden: &ct::Tensor, head: &ct::Tensor, asked: &Asked) -> Result<Answers> {
    const OP: &str = "token_stats";
    let (width, vocabulary) = (hidden.dims()[1], head.dims()[0]);
    let (hidden, head) = (floats(OP, hidden)?, floats(OP, head)?);
    let (mut log_probs, mut entropies, mut correct) =
        (vec![0.0; asked.len()], vec![0.0; asked.len()], vec![0.0; asked.len()]);
    let mut rows = Vec::with_capacity(asked.rows.len());
    let scale = Scale::of(asked.soft_cap, asked.temperature);
    for chunk in asked.chunks(CHUNK) {
        let part = gathered(&hidden, width, asked, &chunk);
        let mut logits = x_times_wt(&part, &head, [chunk.len(), width, vocabulary]);
        let stats: Vec<RowStats> = logits
            .par_chunks_mut(vocabulary)
            .map(|logits| row_stats(logits, &scale, asked.entropy))
            .collect();
        for ((row, stats), logits) in chunk.zip(&stats).zip(logits.chunks(vocabulary)) {
            for (question, target) in questions(asked, row) {
                log_probs[question] = logits[target] - stats.total;
                entropies[question] = stats.entropy;
                correct[question] = if logits[target] >= stats.top { 1.0 } else { 0.0 };
            }
        }
        rows.extend(stats);
    }
    let joint = if asked.entropy {
        log_probs.extend(entropies);
        tensor(OP, log_probs, &[2, asked.len()])?
    } else {
        tensor(OP, log_probs, &[asked.len()])?
    };
    Ok(Answers { joint, correct: tensor(OP, correct, &[asked.len()])?, rows })
}

/// Computes the wanted gradients of hidden and head; `gradient` is the gradient of [`Answers::joint`].
pub(crate) fn backward(
    [hidden, head, gradient]: [&ct::Tensor; 3],
    asked: &Asked,
    stats: &[RowStats],
    wanted: [bool; 2],
) -> Result<[Option<ct::Tensor>; 2]> {
    const OP: &str = "token_stats backward";
    let gradient = dense(OP, gradient)?;
    let (width, vocabulary) = (hidden.dims()[1], head.dims()[0]);
    let mut d_hidden = vec![0.0; if wanted[0] { hidden.elem_count() } else { 0 }];
    let mut d_head = vec![0.0; if wanted[1] { head.elem_count() } else { 0 }];
    {
        let (hidden, head, gradient) = (floats(OP, hidden)?, floats(OP, head)?, floats(OP, &gradient)?);
        let (d_log_probs, d_entropies) = gradient.split_at(asked.len());
        for chunk in asked.chunks(CHUNK) {
            let part = gathered(&hidden, width, asked, &chunk);
            let mut logits = x_times_wt(&part, &head, [chunk.len(), width, vocabulary]);
            let by_row = logits.par_chunks_mut(vocabulary).zip(&stats[chunk.clone()]).enumerate();
            by_row.for_each(|(at, (logits, stats))| {
                let row = chunk.start + at;
                let sum = |of: &[f32]| questions(asked, row).map(|(question, _)| of[question]).sum::<f32>();
                let slope = if asked.entropy { sum(d_entropies) } else { 0.0 };
                let at_targets: Vec<(usize, f32)> = questions(asked, row)
                    .map(|(question, target)| {
                        (target, d_log_probs[question] * steepness(shaped(logits[target], asked), asked))
                    })
                    .collect();
                to_gradient(logits, *stats, [sum(d_log_probs), slope], asked);
                at_targets.into_iter().for_each(|(target, gradient)| logits[target] += gradient);
            });
            let d_logits = Matrix::new(&logits, chunk.len(), vocabulary);
            if wanted[0] {
                let head = Matrix::new(&head, vocabulary, width);
                match asked.run(&chunk) {
                    Some(first) => {
                        let target = &mut d_hidden[first * width..][..chunk.len() * width];
                        multiply(target, Into::Replace, 1.0, d_logits, head, Cores::All);
                    }
                    None => {
                        let values = product(d_logits, head, Cores::All);
                        for (row, values) in asked.rows[chunk.clone()].iter().zip(values.chunks(width)) {
                            d_hidden[*row as usize * width..][..width].copy_from_slice(values);
                        }
                    }
                }
            }
            if wanted[1] {
                let part = Matrix::new(&part, chunk.len(), width);
                multiply(&mut d_head, Into::Add, 1.0, d_logits.transposed(), part, Cores::All);
            }
        }
    }
    Ok([
        wanted[0].then(|| tensor(OP, d_hidden, hidden.dims())).transpose()?,
        wanted[1].then(|| tensor(OP, d_head, head.dims())).transpose()?,
    ])
}

/// Returns the hidden rows of a chunk, concatenated.
fn gathered<'a>(hidden: &'a [f32], width: usize, asked: &Asked, chunk: &Range<usize>) -> Cow<'a, [f32]> {
    match asked.run(chunk) {
        Some(first) => Cow::Borrowed(&hidden[first * width..][..chunk.len() * width]),
        None => {
            let rows = asked.rows[chunk.clone()].iter();
            rows.flat_map(|row| &hidden[*row as usize * width..][..width]).copied().collect()
        }
    }
}

/// Returns the questions about the distinct row `row`, each with its target.
fn questions(asked: &Asked, row: usize) -> impl Iterator<Item = (usize, usize)> {
    let places = asked.places_of(&(row..row + 1));
    let all = asked.questions[places.clone()].iter().zip(&asked.targets[places]);
    all.filter(|(question, _)| **question != NO_QUESTION)
        .map(|(question, target)| (*question as usize, *target as usize))
}

/// Samples a token for every row; hidden `[rows, width]` and head `[vocabulary, width]` must be contiguous.
pub(crate) fn sample(hidden: &ct::Tensor, head: &ct::Tensor, how: &Draw<'_>) -> Result<Vec<Drawn>> {
    const OP: &str = "sample";
    let (rows, width, vocabulary) = (hidden.dims()[0], hidden.dims()[1], head.dims()[0]);
    let (hidden, head) = (floats(OP, hidden)?, floats(OP, head)?);
    let scale = Scale::of(how.soft_cap, how.filters.stated_temperature());
    let mut drawn = Vec::with_capacity(rows);
    for start in (0..rows).step_by(CHUNK) {
        let count = CHUNK.min(rows - start);
        let part = &hidden[start * width..][..count * width];
        let mut logits = x_times_wt(part, &head, [count, width, vocabulary]);
        drawn.par_extend(logits.par_chunks_mut(vocabulary).enumerate().map(|(at, logits)| {
            let RowStats { top, total, .. } = row_stats(logits, &scale, false);
            let row = LogitRow { logits, total, top, penalised: how.penalised(start + at) };
            draw(&row, &how.filters, how.uniforms[start + at])
        }));
    }
    Ok(drawn)
}

/// The cap and the factor of logits.
struct Scale {
    cap: Option<f32>,
    inverse: f32,
}

impl Scale {
    fn of(soft_cap: Option<f64>, temperature: f64) -> Self {
        Self { cap: soft_cap.map(|cap| cap as f32), inverse: (1.0 / temperature) as f32 }
    }
}

/// Caps and scales a row of logits in place, and returns its statistics.
fn row_stats(logits: &mut [f32], scale: &Scale, entropy: bool) -> RowStats {
    if scale.cap.is_some() || scale.inverse != 1.0 {
        shape(logits, scale.cap, scale.inverse);
    }
    let top = top_of(logits);
    let sum = exponentials(logits, top);
    let entropy = if entropy { sum.ln() - weighted(logits, top) / sum } else { 0.0 };
    RowStats { top, total: top + sum.ln(), entropy }
}

/// Computes c·tanh(l / c) / T of one logit.
#[inline(always)]
fn shaped(logit: f32, asked: &Asked) -> f32 {
    capped(logit, asked.soft_cap.map(|cap| cap as f32)) * (1.0 / asked.temperature) as f32
}

#[inline(always)]
fn capped(logit: f32, cap: Option<f32>) -> f32 {
    cap.map_or(logit, |cap| cap * tanh(logit / cap))
}

/// Computes d z / d l for a capped and scaled logit z: (1 − (z·T / c)²) / T.
fn steepness(z: f32, asked: &Asked) -> f32 {
    let inverse = (1.0 / asked.temperature) as f32;
    let Some(cap) = asked.soft_cap else { return inverse };
    let share = z * (asked.temperature / cap) as f32;
    (1.0 - share * share) * inverse
}

/// Turns a row of raw logits into their gradient, without the contribution of the targets.
fn to_gradient(logits: &mut [f32], stats: RowStats, [level, slope]: [f32; 2], asked: &Asked) {
    let inverse = (1.0 / asked.temperature) as f32;
    if asked.soft_cap.is_none() && slope == 0.0 {
        return softmax_times(logits, inverse, stats.total, -level * inverse);
    }
    let share = asked.soft_cap.map_or(0.0, |cap| (asked.temperature / cap) as f32);
    let cap = asked.soft_cap.map(|cap| cap as f32);
    spread(logits, [cap.unwrap_or(0.0), share, inverse], stats, [level, slope], cap.is_some());
}

#[multiversion(targets = "simd")]
fn shape(logits: &mut [f32], cap: Option<f32>, inverse: f32) {
    for logit in logits {
        *logit = capped(*logit, cap) * inverse;
    }
}

#[multiversion(targets = "simd")]
fn top_of(logits: &[f32]) -> f32 {
    largest(logits)
}

#[multiversion(targets = "simd")]
fn exponentials(logits: &[f32], top: f32) -> f32 {
    fold(logits, |x| exp(x - top))
}

#[multiversion(targets = "simd")]
fn weighted(logits: &[f32], top: f32) -> f32 {
    fold(logits, |x| exp(x - top) * (x - top))
}

#[multiversion(targets = "simd")]
fn softmax_times(logits: &mut [f32], inverse: f32, total: f32, scale: f32) {
    for logit in logits {
        *logit = scale * exp(*logit * inverse - total);
    }
}

/// Computes −p·(level + slope·(ln p + H))·d z / d l in place.
#[multiversion(targets = "simd")]
fn spread(
    logits: &mut [f32],
    [cap, share, inverse]: [f32; 3],
    stats: RowStats,
    [level, slope]: [f32; 2],
    caps: bool,
) {
    for logit in logits {
        let z = if caps { cap * tanh(*logit / cap) * inverse } else { *logit * inverse };
        let log_p = z - stats.total;
        let steepness = (1.0 - z * share * (z * share)) * inverse;
        *logit = -exp(log_p) * (level + slope * (log_p + stats.entropy)) * steepness;
    }
}
