//! Log-probabilities and entropies of the requested tokens, by chunks of rows: `[rows, vocabulary]` is never
//! materialised.
//!
//! The backward recomputes a chunk's logits. With p = softmax(z), H the entropy, and g and e the gradients of
//! a row's log-probabilities and entropies, d z = Σ g·onehot − p·(Σ g + Σ e·(ln p + H)). The questions about
//! a row form the rectangle `[rows, per_row]`, so that sums over them have a fixed order.

use std::ops::Range;

use candle_core as ct;
use pcrm_core::kernels::{Asked, NO_QUESTION};

use super::float::single;
use super::row_sums::{NOTHING, index};

/// The number of logits in memory at once, 256 MB in f32.
const AT_ONCE: usize = 1 << 26;

/// The statistics, and the intermediate results that the backward needs.
pub(crate) struct Answers {
    /// The log-probabilities `[asked]`, or `[2, asked]` followed by the entropies.
    pub(crate) joint: ct::Tensor,
    /// 1 where no token is more likely than the target, `[asked]`.
    pub(crate) correct: ct::Tensor,
    /// The statistics of every distinct row.
    pub(crate) rows: RowStats,
}

/// The statistics of the distinct rows' logits, f32 `[rows, 1]`.
pub(crate) struct RowStats {
    /// ln Σ eᶻ
    totals: ct::Tensor,
    /// −Σ p ln p, if requested.
    entropies: Option<ct::Tensor>,
}

/// Computes the statistics; hidden `[rows, width]` and head `[vocabulary, width]` must be contiguous.
pub(crate) fn forward(hidden: &ct::Tensor, head: &ct::Tensor, asked: &Asked) -> ct::Result<Answers> {
    let device = hidden.device();
    if asked.is_empty() {
        let nothing = |shape: &[usize]| ct::Tensor::zeros(shape, ct::DType::F32, device);
        let joint = if asked.entropy { nothing(&[2, 0])? } else { nothing(&[0])? };
        let rows = RowStats { totals: nothing(&[0, 1])?, entropies: None };
        return Ok(Answers { joint, correct: nothing(&[0])?, rows });
    }
    let (mut picked, mut correct) = (Vec::new(), Vec::new());
    let (mut totals, mut entropies) = (Vec::new(), Vec::new());
    for chunk in chunks(head, asked) {
        let logits = shape(logits_of(&part_of(hidden, asked, &chunk)?, head)?, asked)?;
        let top = logits.max_keepdim(1)?;
        let at_targets = logits.gather(&targets(asked, &chunk, device)?, 1)?; // [rows, per_row]
        let below = logits.broadcast_sub(&top)?;
        let exponentials = below.exp()?;
        let sum = exponentials.sum_keepdim(1)?;
        let log_sum = sum.log()?;
        if asked.entropy {
            entropies.push(log_sum.sub(&exponentials.mul(&below)?.sum_keepdim(1)?.div(&sum)?)?);
        }
        let total = log_sum.add(&top)?;
        correct.push(single(&at_targets.broadcast_ge(&top)?)?);
        picked.push(at_targets.broadcast_sub(&total)?);
        totals.push(total);
    }
    let places = index(asked.places.clone(), device)?;
    let answers = |parts: &[ct::Tensor]| ct::Tensor::cat(parts, 0)?.flatten_all()?.index_select(&places, 0);
    let (mut joint, correct) = (answers(&picked)?, answers(&correct)?);
    let entropies = asked.entropy.then(|| ct::Tensor::cat(&entropies, 0)).transpose()?;
    if let Some(of_rows) = &entropies {
        let of_questions = of_rows.broadcast_as((asked.rows.len(), asked.per_row))?.flatten_all()?;
        joint = ct::Tensor::stack(&[&joint, &of_questions.index_select(&places, 0)?], 0)?;
    }
    Ok(Answers { joint, correct, rows: RowStats { totals: ct::Tensor::cat(&totals, 0)?, entropies } })
}

/// Computes the wanted gradients of hidden and head in their types; `gradient` is the gradient of
/// [`Answers::joint`].
pub(crate) fn backward(
    [hidden, head, gradient]: [&ct::Tensor; 3],
    asked: &Asked,
    stats: &RowStats,
    wanted: [bool; 2],
) -> ct::Result<[Option<ct::Tensor>; 2]> {
    let device = hidden.device();
    if asked.is_empty() {
        let nothing = |at: usize, x: &ct::Tensor| wanted[at].then(|| x.zeros_like()).transpose();
        return Ok([nothing(0, hidden)?, nothing(1, head)?]);
    }
    // The gradients of the questions by row, [rows, per_row], with zeros where a row has fewer.
    let questions = asked.questions.iter().map(|at| if *at == NO_QUESTION { NOTHING } else { *at }).collect();
    let questions = index(questions, device)?;
    let by_row = |of: &ct::Tensor| {
        of.contiguous()?.index_select(&questions, 0)?.reshape((asked.rows.len(), asked.per_row))
    };
    let (d_log_probs, d_entropies) = match &stats.entropies {
        Some(_) => (by_row(&gradient.get(0)?)?, Some(by_row(&gradient.get(1)?)?.sum_keepdim(1)?)),
        None => (by_row(gradient)?, None),
    };
    let levels = d_log_probs.sum_keepdim(1)?;
    let mut d_rows = Vec::new();
    let mut d_head: Option<ct::Tensor> = None;
    for chunk in chunks(head, asked) {
        let cut = |x: &ct::Tensor| x.narrow(0, chunk.start, chunk.len());
        let part = part_of(hidden, asked, &chunk)?;
        let z = shape(logits_of(&part, head)?, asked)?;
        let log_p = z.broadcast_sub(&cut(&stats.totals)?)?;
        let p = log_p.exp()?;
        let spread = match (&stats.entropies, &d_entropies) {
            (Some(entropies), Some(slopes)) => {
                let slope = log_p.broadcast_add(&cut(entropies)?)?.broadcast_mul(&cut(slopes)?)?;
                p.mul(&slope.broadcast_add(&cut(&levels)?)?)?.neg()?
            }
            _ => p.broadcast_mul(&cut(&levels)?.neg()?)?,
        };
        let d_z =
            spread.scatter_add(&targets(asked, &chunk, device)?, &cut(&d_log_probs)?.contiguous()?, 1)?;
        let d_logits = unshape(d_z, &z, asked)?.to_dtype(head.dtype())?;
        if wanted[0] {
            d_rows.push(d_logits.matmul(head)?);
        }
        if wanted[1] {
            let part = single(&d_logits.t()?.matmul(&part)?)?;
            d_head = Some(match d_head {
                Some(sum) => sum.add(&part)?,
                None => part,
            });
        }
    }
    let d_hidden = match wanted[0] {
        true => Some(scattered(ct::Tensor::cat(&d_rows, 0)?, hidden.dims()[0], asked)?),
        false => None,
    };
    Ok([d_hidden, d_head.map(|sum| sum.to_dtype(head.dtype())).transpose()?])
}

fn chunks(head: &ct::Tensor, asked: &Asked) -> impl Iterator<Item = Range<usize>> + use<> {
    asked.chunks(AT_ONCE / head.dims()[0].max(1))
}

/// Returns the hidden rows of a chunk, concatenated.
fn part_of(hidden: &ct::Tensor, asked: &Asked, chunk: &Range<usize>) -> ct::Result<ct::Tensor> {
    match asked.run(chunk) {
        Some(first) => hidden.narrow(0, first, chunk.len()),
        None => hidden.index_select(&index(asked.rows[chunk.clone()].to_vec(), hidden.device())?, 0),
    }
}

/// Scatters the gradients of the distinct rows into zeros `[rows, width]`.
fn scattered(d_rows: ct::Tensor, rows: usize, asked: &Asked) -> ct::Result<ct::Tensor> {
    if asked.rows.len() == rows {
        return Ok(d_rows);
    }
    let mut places = vec![NOTHING; rows];
    asked.rows.iter().enumerate().for_each(|(at, row)| places[*row as usize] = at as u32);
    let places = index(places, d_rows.device())?;
    d_rows.index_select(&places, 0)
}

fn logits_of(part: &ct::Tensor, head: &ct::Tensor) -> ct::Result<ct::Tensor> {
    single(&part.matmul(&head.t()?)?)
}

/// Computes z = c·tanh(l / c) / T.
fn shape(mut logits: ct::Tensor, asked: &Asked) -> ct::Result<ct::Tensor> {
    if let Some(cap) = asked.soft_cap {
        logits = logits.affine(1.0 / cap, 0.0)?.tanh()?.affine(cap, 0.0)?;
    }
    if asked.temperature != 1.0 {
        logits = logits.affine(1.0 / asked.temperature, 0.0)?;
    }
    Ok(logits)
}

/// Computes d l from d z: d z·(1 − (z·T / c)²) / T.
fn unshape(mut d_z: ct::Tensor, z: &ct::Tensor, asked: &Asked) -> ct::Result<ct::Tensor> {
    if let Some(cap) = asked.soft_cap {
        d_z = d_z.mul(&z.affine(asked.temperature / cap, 0.0)?.sqr()?.affine(-1.0, 1.0)?)?;
    }
    if asked.temperature != 1.0 {
        d_z = d_z.affine(1.0 / asked.temperature, 0.0)?;
    }
    Ok(d_z)
}

/// Returns the targets of a chunk, `[rows, per_row]`.
fn targets(asked: &Asked, chunk: &Range<usize>, device: &ct::Device) -> ct::Result<ct::Tensor> {
    index(asked.targets[asked.places_of(chunk)].to_vec(), device)?.reshape((chunk.len(), asked.per_row))
}
