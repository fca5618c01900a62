//! ln softmax(hidden·headᵀ) at the targets, by chunks of rows: `[rows, vocabulary]` never exists.
//!
//! The backward recomputes a chunk's logits: with p = softmax, d logits = (onehot − p)·g.

use tch::{Kind, Tensor as Torch};

use super::{Torched, linear};

const CHUNK: i64 = 512;

fn chunks(rows: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..rows).step_by(CHUNK as usize).map(move |start| (start, CHUNK.min(rows - start)))
}

/// The log-probabilities, f32 `[rows]`, and ln Σ eˣ of every row for the backward.
pub(crate) fn forward(hidden: &Torch, head: &Torch, targets: &Torch) -> Torched<(Torch, Torch)> {
    let rows = hidden.size()[0];
    let options = (Kind::Float, hidden.device());
    let (values, totals) = (Torch::f_empty([rows], options)?, Torch::f_empty([rows], options)?);
    for (start, length) in chunks(rows) {
        let logits =
            linear::forward(&hidden.f_narrow(0, start, length)?, head, None)?.f_to_kind(Kind::Float)?;
        let total = logits.f_logsumexp(-1i64, false)?;
        let index = targets.f_narrow(0, start, length)?.f_unsqueeze(1)?;
        let picked = logits.f_gather(1, &index, false)?.f_squeeze_dim(1)?;
        values.f_narrow(0, start, length)?.f_copy_(&picked.f_sub(&total)?)?;
        totals.f_narrow(0, start, length)?.f_copy_(&total)?;
    }
    Ok((values, totals))
}

/// The gradients of hidden and head.
pub(crate) fn backward(
    [hidden, head, gradient]: [&Torch; 3],
    targets: &Torch,
    totals: &Torch,
) -> Torched<[Torch; 2]> {
    let d_hidden = Torch::f_empty(hidden.size(), (hidden.kind(), hidden.device()))?;
    // Chunks add up in f32.
    let mut d_head = Torch::f_zeros(head.size(), (Kind::Float, head.device()))?;
    for (start, length) in chunks(hidden.size()[0]) {
        let part = hidden.f_narrow(0, start, length)?;
        let gradient = gradient.f_narrow(0, start, length)?.f_to_kind(Kind::Float)?.f_unsqueeze(1)?;
        let total = totals.f_narrow(0, start, length)?.f_unsqueeze(1)?;
        let logits = linear::forward(&part, head, None)?.f_to_kind(Kind::Float)?;
        let mut d_logits = logits.f_sub(&total)?.f_exp_()?.f_mul_(&gradient.f_neg()?)?;
        let index = targets.f_narrow(0, start, length)?.f_unsqueeze(1)?;
        let d_logits = d_logits.f_scatter_add_(1, &index, &gradient)?.f_to_kind(hidden.kind())?;
        d_hidden.f_narrow(0, start, length)?.f_copy_(&d_logits.f_mm(head)?)?;
        d_head = d_head.f_add_(&d_logits.f_transpose(0, 1)?.f_mm(&part)?)?;
    }
    Ok([d_hidden, d_head.f_to_kind(head.kind())?])
}
