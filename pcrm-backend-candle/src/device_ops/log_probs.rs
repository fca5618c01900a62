//! ln softmax(hidden·headᵀ) at the targets, by chunks of rows: `[rows, vocabulary]` never exists.
//!
//! The backward recomputes a chunk's logits: with p = softmax, d logits = (onehot − p)·g.

use candle_core as ct;

use super::float::single;

/// Logits that are in memory at once, 256 MB in f32.
const AT_ONCE: usize = 1 << 26;

/// The log-probabilities, and ln Σ eˣ of every row for the backward, both f32 `[rows]`.
pub(crate) fn forward(
    hidden: &ct::Tensor,
    head: &ct::Tensor,
    targets: &ct::Tensor,
) -> ct::Result<(ct::Tensor, ct::Tensor)> {
    let (mut picked, mut totals) = (Vec::new(), Vec::new());
    for (start, rows) in chunks(hidden, head) {
        let logits = logits_of(hidden, head, start, rows)?;
        let top = logits.max_keepdim(1)?;
        let total = logits.broadcast_sub(&top)?.exp()?.sum_keepdim(1)?.log()?.add(&top)?;
        picked.push(logits.gather(&at(targets, start, rows)?, 1)?);
        totals.push(total);
    }
    let totals = ct::Tensor::cat(&totals, 0)?;
    let values = ct::Tensor::cat(&picked, 0)?.sub(&totals)?;
    Ok((values.flatten_all()?, totals.flatten_all()?))
}

/// The gradients of hidden and head, in their types.
pub(crate) fn backward(
    [hidden, head, gradient]: [&ct::Tensor; 3],
    targets: &ct::Tensor,
    totals: &ct::Tensor,
) -> ct::Result<[ct::Tensor; 2]> {
    let mut d_hidden = Vec::new();
    let mut d_head: Option<ct::Tensor> = None;
    let gradient = gradient.contiguous()?;
    for (start, rows) in chunks(hidden, head) {
        let logits = logits_of(hidden, head, start, rows)?;
        let total = totals.narrow(0, start, rows)?.reshape((rows, 1))?;
        let gradient = gradient.narrow(0, start, rows)?.reshape((rows, 1))?;
        let spread = logits.broadcast_sub(&total)?.exp()?.broadcast_mul(&gradient.neg()?)?;
        let d_logits =
            spread.scatter_add(&at(targets, start, rows)?, &gradient, 1)?.to_dtype(head.dtype())?;
        d_hidden.push(d_logits.matmul(head)?);
        let part = single(&d_logits.t()?.matmul(&hidden.narrow(0, start, rows)?)?)?;
        d_head = Some(match d_head {
            Some(sum) => sum.add(&part)?,
            None => part,
        });
    }
    let d_head = d_head.map_or_else(|| head.zeros_like(), |sum| sum.to_dtype(head.dtype()))?;
    Ok([ct::Tensor::cat(&d_hidden, 0)?, d_head])
}

fn chunks(hidden: &ct::Tensor, head: &ct::Tensor) -> impl Iterator<Item = (usize, usize)> {
    let (rows, vocabulary) = (hidden.dims()[0], head.dims()[0]);
    let chunk = (AT_ONCE / vocabulary.max(1)).max(1);
    (0..rows).step_by(chunk).map(move |start| (start, chunk.min(rows - start)))
}

fn logits_of(hidden: &ct::Tensor, head: &ct::Tensor, start: usize, rows: usize) -> ct::Result<ct::Tensor> {
    single(&hidden.narrow(0, start, rows)?.matmul(&head.t()?)?)
}

fn at(targets: &ct::Tensor, start: usize, rows: usize) -> ct::Result<ct::Tensor> {
    targets.narrow(0, start, rows)?.reshape((rows, 1))?.contiguous()
}
