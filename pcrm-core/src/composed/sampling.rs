//! Token sampling on a device, with two levels of cumulative probabilities.

use crate::composed::linear;
use crate::dtype::DType;
use crate::error::Result;
use crate::host::HostTensor;
use crate::kernels::{Draw, Drawn};
use crate::slices::sampling::{LogitRow, draw};
use crate::tensor::{Compare, Reduce, Tensor};

/// The number of tokens whose probabilities are summed together.
const SPAN: usize = 256;
/// The logit of an impossible token.
const IMPOSSIBLE: f32 = -1e30;

/// See [`crate::kernels::Kernels::sample`]. Unfiltered tokens are drawn on the device, and only their ids and
/// log-probabilities are read back; filters read the logits.
pub fn sample(hidden: &Tensor, head: &Tensor, how: &Draw<'_>) -> Result<Vec<Drawn>> {
    how.check(hidden, head)?;
    let rows = hidden.shape()[0];
    if rows == 0 {
        return Ok(Vec::new());
    }
    let mut logits = linear(hidden, head, None)?.cast(DType::F32)?;
    if let Some(cap) = how.soft_cap {
        logits = logits.affine(1.0 / cap, 0.0)?.unary(crate::tensor::Unary::Tanh)?.affine(cap, 0.0)?;
    }
    let logits = logits.affine(1.0 / how.filters.stated_temperature(), 0.0)?;
    let totals = logits.log_sum_exp(1)?;
    if how.filters.is_filtered() {
        return filtered(&logits, &totals, how);
    }
    let ids = match how.filters.is_greedy() {
        true => most_likely(&logits)?,
        false => drawn(&logits, &totals, how.uniforms)?,
    };
    let index = logits.constant(&HostTensor::indices(ids.clone()))?.reshape([rows, 1])?;
    let log_probs = logits.gather(1, &index)?.sub(&totals)?.read()?.into_f32();
    let mut drawn: Vec<Drawn> =
        ids.into_iter().zip(log_probs).map(|(id, p)| Drawn { id, log_prob: p, filtered: p }).collect();
    // Sums are rounded: if they lead to an impossible token, the most likely one is taken instead.
    if drawn.iter().any(|drawn| drawn.log_prob < -80.0) {
        for (drawn, id) in drawn.iter_mut().zip(most_likely(&logits)?) {
            if drawn.log_prob < -80.0 {
                drawn.id = id;
            }
        }
        let index = HostTensor::indices(drawn.iter().map(|drawn| drawn.id).collect());
        let log_probs = logits.gather(1, &logits.constant(&index)?.reshape([rows, 1])?)?.sub(&totals)?;
        for (drawn, p) in drawn.iter_mut().zip(log_probs.read()?.into_f32()) {
            (drawn.log_prob, drawn.filtered) = (p, p);
        }
    }
    Ok(drawn)
}

fn most_likely(logits: &Tensor) -> Result<Vec<u32>> {
    let ids = logits.reduce(Reduce::ArgMax, 1)?.read()?;
    Ok(match ids.data() {
        crate::host::HostData::U32(ids) => ids.clone(),
        _ => ids.to_f32().into_iter().map(|id| id as u32).collect(),
    })
}

/// Finds the span, and in it the token, where the cumulative probability first exceeds the row's uniform
/// number.
fn drawn(logits: &Tensor, totals: &Tensor, uniforms: &[f64]) -> Result<Vec<u32>> {
    let shape = logits.shape();
    let (rows, vocabulary) = (shape[0], shape[1]);
    let spans = vocabulary.div_ceil(SPAN);
    let fill = spans * SPAN - vocabulary;
    let mut probabilities = logits.sub(totals)?.exp()?;
    if fill > 0 {
        let zeros = logits.constant(&HostTensor::f32([rows, fill], vec![0.0; rows * fill])?)?;
        probabilities = Tensor::concat(&[&probabilities, &zeros], 1)?;
    }
    let by_span = probabilities.reshape([rows, spans, SPAN])?;
    let sums = by_span.reduce(Reduce::Sum, 2)?.reshape([rows, spans])?;
    let cumulative = sums.matmul(&upper(logits, spans)?)?; // [rows, spans]
    let uniforms = HostTensor::f32([rows, 1], uniforms.iter().map(|u| *u as f32).collect())?;
    let target = cumulative.narrow(1, spans - 1, 1)?.mul(&logits.constant(&uniforms)?)?;
    let span = passed(&cumulative, &target, spans)?;

    let index = HostTensor::indices(span.iter().flat_map(|span| [*span; SPAN]).collect());
    let chosen =
        by_span.gather(1, &logits.constant(&index)?.reshape([rows, 1, SPAN])?)?.reshape([rows, SPAN])?;
    let before: Vec<u32> = span.iter().map(|span| span.saturating_sub(1)).collect();
    let before = cumulative.gather(1, &logits.constant(&HostTensor::indices(before))?.reshape([rows, 1])?)?;
    let first = span.iter().map(|span| if *span == 0 { 0.0 } else { 1.0 }).collect();
    let before = before.mul(&logits.constant(&HostTensor::f32([rows, 1], first)?)?)?;
    let inside = chosen.matmul(&upper(logits, SPAN)?)?;
    let token = passed(&inside, &target.sub(&before)?, SPAN)?;
    let last = vocabulary as u32 - 1;
    Ok(span.iter().zip(token).map(|(span, token)| (span * SPAN as u32 + token).min(last)).collect())
}

/// Counts, for each row, the sums that do not exceed its target.
fn passed(cumulative: &Tensor, target: &Tensor, count: usize) -> Result<Vec<u32>> {
    let below = cumulative.compare(Compare::Le, target)?.reduce(Reduce::Sum, 1)?.read()?.into_f32();
    Ok(below.into_iter().map(|below| (below as u32).min(count as u32 - 1)).collect())
}

/// Returns a matrix of ones on and above the diagonal; x times it gives the cumulative sums over columns.
fn upper(like: &Tensor, size: usize) -> Result<Tensor> {
    let ones = (0..size * size).map(|at| if at / size <= at % size { 1.0 } else { 0.0 });
    like.constant(&HostTensor::f32([size, size], ones.collect())?)
}

fn filtered(logits: &Tensor, totals: &Tensor, how: &Draw<'_>) -> Result<Vec<Drawn>> {
    let vocabulary = logits.shape()[1];
    let (logits, totals) = (logits.read()?.into_f32(), totals.read()?.into_f32());
    let rows = logits.chunks_exact(vocabulary).zip(totals).enumerate();
    let of = |(at, (logits, total)): (usize, (&[f32], f32))| {
        let top = logits.iter().copied().fold(IMPOSSIBLE, f32::max);
        let row = LogitRow { logits, total, top, penalised: how.penalised(at) };
        draw(&row, &how.filters, how.uniforms[at])
    };
    Ok(rows.map(of).collect())
}
