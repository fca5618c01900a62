//! ln softmax(hidden·headᵀ) at the targets, by chunks of rows: `[rows, vocabulary]` never exists.
//!
//! The backward recomputes a chunk's logits: with p = softmax, d logits = (onehot − p)·g.

use candle_core as ct;
use multiversion::multiversion;
use pcrm_core::{Error, Result};
use rayon::prelude::*;

use super::lanes::{exp, fold, largest};
use super::product::{Cores, Into, Matrix, multiply, product};
use super::slices::{dense, floats, tensor};

const CHUNK: usize = 128;

/// The log-probabilities `[rows]`, and ln Σ eˣ of every row for the backward.
pub(crate) fn forward(
    hidden: &ct::Tensor,
    head: &ct::Tensor,
    targets: &[u32],
) -> Result<(ct::Tensor, Vec<f32>)> {
    const OP: &str = "log_probs";
    let (rows, width, vocabulary) = (hidden.dims()[0], hidden.dims()[1], head.dims()[0]);
    if let Some(target) = targets.iter().find(|target| **target as usize >= vocabulary) {
        return Err(Error::shape(OP, format!("target {target} is outside the vocabulary"), &[head.dims()]));
    }
    let (hidden, head) = (floats(OP, hidden)?, floats(OP, head)?);
    let (mut values, mut totals) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for (chunk, targets) in hidden.chunks(CHUNK * width).zip(targets.chunks(CHUNK)) {
        let logits = logits_of(chunk, &head, [targets.len(), width, vocabulary]);
        let sums: Vec<f32> = logits.par_chunks(vocabulary).map(log_sum_exp).collect();
        let picked = logits.chunks(vocabulary).zip(targets).zip(&sums);
        values.extend(picked.map(|((logits, target), sum)| logits[*target as usize] - sum));
        totals.extend(sums);
    }
    Ok((tensor(OP, values, &[rows])?, totals))
}

/// The gradients of hidden and head.
pub(crate) fn backward(
    [hidden, head, gradient]: [&ct::Tensor; 3],
    targets: &[u32],
    totals: &[f32],
) -> Result<(ct::Tensor, ct::Tensor)> {
    const OP: &str = "log_probs backward";
    let gradient = dense(OP, gradient)?;
    let (width, vocabulary) = (hidden.dims()[1], head.dims()[0]);
    let (mut d_hidden, mut d_head) = (vec![0.0; hidden.elem_count()], vec![0.0; head.elem_count()]);
    {
        let (hidden, head, gradient) = (floats(OP, hidden)?, floats(OP, head)?, floats(OP, &gradient)?);
        let inputs = hidden.chunks(CHUNK * width).zip(targets.chunks(CHUNK));
        let inputs = inputs.zip(totals.chunks(CHUNK).zip(gradient.chunks(CHUNK)));
        for (d_hidden, ((hidden, targets), (totals, gradient))) in
            d_hidden.chunks_mut(CHUNK * width).zip(inputs)
        {
            let rows = targets.len();
            let mut logits = logits_of(hidden, &head, [rows, width, vocabulary]);
            let by_row = logits.par_chunks_mut(vocabulary).zip(targets).zip(totals.par_iter().zip(gradient));
            by_row.for_each(|((logits, target), (total, gradient))| {
                softmax_times(logits, *total, -gradient);
                logits[*target as usize] += gradient;
            });
            let d_logits = Matrix::new(&logits, rows, vocabulary);
            multiply(
                d_hidden,
                Into::Replace,
                1.0,
                d_logits,
                Matrix::new(&head, vocabulary, width),
                Cores::All,
            );
            let turned = d_logits.transposed();
            multiply(&mut d_head, Into::Add, 1.0, turned, Matrix::new(hidden, rows, width), Cores::All);
        }
    }
    Ok((tensor(OP, d_hidden, hidden.dims())?, tensor(OP, d_head, head.dims())?))
}

fn logits_of(hidden: &[f32], head: &[f32], [rows, width, vocabulary]: [usize; 3]) -> Vec<f32> {
    product(Matrix::new(hidden, rows, width), Matrix::new(head, vocabulary, width).transposed(), Cores::All)
}

#[multiversion(targets = "simd")]
fn log_sum_exp(logits: &[f32]) -> f32 {
    let top = largest(logits);
    top + fold(logits, |x| exp(x - top)).ln()
}

#[multiversion(targets = "simd")]
fn softmax_times(logits: &mut [f32], total: f32, scale: f32) {
    for logit in logits {
        *logit = scale * exp(*logit - total);
    }
}
