//! Log-probabilities and entropies of the requested tokens, by chunks of rows: `[rows, vocabulary]` is never
//! materialised.
//!
//! On CUDA, a kernel computes a chunk's statistics in one pass over its logits (see `cuda/statistics.rs`).
//!
//! The backward recomputes a chunk's logits. With p = softmax(z), H the entropy, and g and e the gradients of
//! a row's log-probabilities and entropies, d z = Σ g·onehot − p·(Σ g + Σ e·(ln p + H)). The questions about
//! a row form the rectangle `[rows, per_row]`, so that sums over them have a fixed order.

use std::ops::Range;

use pcrm_core::kernels::{Ask, Asked, Draw, Drawn, NO_QUESTION};
use pcrm_core::slices::Spread;
use pcrm_core::slices::sampling::{LogitRow, draw};
use tch::{Device, Kind, Tensor as Torch};

use super::slices::{Floats, Workers};
use super::{Torched, linear};
use crate::cuda::statistics::{self, Shaping};
use crate::cuda::{self, Fused};
use crate::tensor::to_device;

/// The number of rows whose logits are in memory at once, for a small vocabulary.
const CHUNK: usize = 512;
/// The number of logits in memory at once, 128 MB in f32, for a large vocabulary.
const AT_ONCE: usize = 1 << 25;

/// The statistics, and the intermediate results that the backward needs.
pub(crate) struct Answers {
    /// The log-probabilities `[asked]`, or `[2, asked]` followed by the entropies.
    pub(crate) joint: Torch,
    /// 1 where no token is more likely than the target, `[asked]`.
    pub(crate) correct: Torch,
    /// The statistics of every distinct row.
    pub(crate) rows: RowStats,
}

/// The statistics of the distinct rows' logits, f32 `[rows, 1]`.
pub(crate) struct RowStats {
    /// ln Σ eᶻ
    totals: Torch,
    /// −Σ p ln p, if requested.
    entropies: Option<Torch>,
}

/// Computes the statistics; hidden `[rows, width]`, head `[vocabulary, width]`. Kernels must serve them.
pub(crate) fn forward(
    hidden: &Torch,
    head: &Torch,
    asked: &Asked,
    kernels: Option<&Fused>,
) -> Torched<Answers> {
    let device = hidden.device();
    let rows = asked.rows.len() as i64;
    let column = |width: i64| Torch::f_empty([rows, width], (Kind::Float, device));
    let per_row = asked.per_row as i64;
    let (picked, correct, totals) = (column(per_row)?, column(per_row)?, column(1)?);
    let entropies = asked.entropy.then(|| column(1)).transpose()?;
    for chunk in chunks(head, asked, kernels.is_some()) {
        let cut = |x: &Torch| x.f_narrow(0, chunk.start as i64, chunk.len() as i64);
        if let Some(kernels) = kernels {
            let logits = linear::forward(&part_of(hidden, asked, &chunk)?, head, None)?;
            let targets = targets(asked, &chunk, device)?;
            let entropies = entropies.as_ref().map(cut).transpose()?;
            let [picked, correct, totals] = [cut(&picked)?, cut(&correct)?, cut(&totals)?];
            let rows = statistics::Rows {
                picked: &picked,
                correct: &correct,
                totals: &totals,
                entropies: entropies.as_ref(),
            };
            statistics::token_stats(kernels, &logits, &targets, &rows, shaping(asked))?;
            continue;
        }
        let mut logits = shape(logits_of(&part_of(hidden, asked, &chunk)?, head)?, asked)?;
        let top = logits.f_amax(-1i64, true)?;
        let at_targets = logits.f_gather(1, &targets(asked, &chunk, device)?, false)?;
        cut(&correct)?.f_copy_(&at_targets.f_ge_tensor(&top)?)?;
        let below = logits.f_sub_(&top)?;
        let (sum, weighted) = sums(&below, asked.entropy)?;
        let mut log_sum = sum.f_log()?;
        if let (Some(entropies), Some(weighted)) = (&entropies, weighted) {
            cut(entropies)?.f_copy_(&log_sum.f_sub(&weighted.f_div(&sum)?)?)?;
        }
        let total = log_sum.f_add_(&top)?;
        cut(&picked)?.f_copy_(&at_targets.f_sub(&total)?)?;
        cut(&totals)?.f_copy_(&total)?;
    }
    let places = index(&asked.places, device)?;
    let answers = |of: &Torch| of.f_reshape([-1])?.f_index_select(0, &places);
    let mut joint = answers(&picked)?;
    if let Some(of_rows) = &entropies {
        joint = Torch::f_stack(&[joint, answers(&of_rows.f_expand([rows, per_row], false)?)?], 0)?;
    }
    Ok(Answers { joint, correct: answers(&correct)?, rows: RowStats { totals, entropies } })
}

/// Computes the wanted gradients of hidden and head in their types; `gradient` is the gradient of
/// [`Answers::joint`].
pub(crate) fn backward(
    [hidden, head, gradient]: [&Torch; 3],
    asked: &Asked,
    stats: &RowStats,
    wanted: [bool; 2],
    kernels: Option<&Fused>,
) -> Torched<[Option<Torch>; 2]> {
    let device = hidden.device();
    let zeros = |like: &Torch, kind| Torch::f_zeros(like.size(), (kind, device));
    let d_hidden = wanted[0].then(|| zeros(hidden, hidden.kind())).transpose()?;
    // Chunks are summed in f32.
    let mut d_head = wanted[1].then(|| zeros(head, Kind::Float)).transpose()?;

    // The gradients of the questions by row, [rows, per_row], with zeros where a row has fewer.
    let nothing = asked.len() as u32;
    let questions: Vec<u32> =
        asked.questions.iter().map(|at| if *at == NO_QUESTION { nothing } else { *at }).collect();
    let questions = index(&questions, device)?;
    let by_row = |of: &Torch| -> Torched {
        let filled = of.f_to_kind(Kind::Float)?.f_constant_pad_nd([0, 1])?;
        filled.f_index_select(0, &questions)?.f_reshape([-1, asked.per_row as i64])
    };
    let (d_log_probs, slopes) = match &stats.entropies {
        Some(_) => (by_row(&gradient.f_get(0)?)?, Some(row_sums(&by_row(&gradient.f_get(1)?)?)?)),
        None => (by_row(gradient)?, None),
    };
    let levels = row_sums(&d_log_probs)?;

    for chunk in chunks(head, asked, kernels.is_some()) {
        let cut = |x: &Torch| x.f_narrow(0, chunk.start as i64, chunk.len() as i64);
        let part = part_of(hidden, asked, &chunk)?;
        let d_logits = match kernels {
            Some(kernels) => {
                let logits = linear::forward(&part, head, None)?;
                let targets = targets(asked, &chunk, device)?;
                let [log_probs, totals] = [cut(&d_log_probs)?, cut(&stats.totals)?];
                let entropies = match (&stats.entropies, &slopes) {
                    (Some(entropies), Some(slopes)) => Some([cut(entropies)?, cut(slopes)?]),
                    _ => None,
                };
                let entropies = entropies.as_ref().map(|[entropies, slopes]| [entropies, slopes]);
                let slopes = statistics::Slopes { log_probs: &log_probs, totals: &totals, entropies };
                statistics::token_stats_backward(kernels, &logits, &targets, &slopes, shaping(asked))?
            }
            None => {
                let z = shape(logits_of(&part, head)?, asked)?;
                let steepness = steepness(&z, asked)?;
                let mut log_p = z;
                let mut log_p = log_p.f_sub_(&cut(&stats.totals)?)?;
                let mut d_z = match (&stats.entropies, &slopes) {
                    (Some(entropies), Some(slopes)) => {
                        let p = log_p.f_exp()?;
                        let mut slope = log_p.f_add_(&cut(entropies)?)?;
                        slope.f_mul_(&cut(slopes)?)?.f_add_(&cut(&levels)?)?.f_mul_(&p)?.f_neg_()?
                    }
                    _ => log_p.f_exp_()?.f_mul_(&cut(&levels)?.f_neg()?)?,
                };
                d_z = d_z.f_scatter_add_(1, &targets(asked, &chunk, device)?, &cut(&d_log_probs)?)?;
                if let Some(mut steepness) = steepness {
                    d_z = steepness.f_mul_(&d_z)?;
                }
                if asked.temperature != 1.0 {
                    d_z = d_z.f_mul_scalar_(1.0 / asked.temperature)?;
                }
                d_z.f_to_kind(hidden.kind())?
            }
        };
        if let Some(d_hidden) = &d_hidden {
            let values = linear::backward_x(&d_logits, head)?;
            match asked.run(&chunk) {
                Some(first) => d_hidden.f_narrow(0, first as i64, chunk.len() as i64)?.f_copy_(&values)?,
                None => {
                    let rows = index(&asked.rows[chunk.clone()], device)?;
                    let _ = d_hidden.shallow_clone().f_index_copy_(0, &rows, &values)?;
                }
            }
        }
        if let Some(sum) = &mut d_head {
            *sum = sum.f_add_(&linear::backward_weight(&d_logits, &part)?)?;
        }
    }
    Ok([d_hidden, d_head.map(|sum| sum.f_to_kind(head.kind())).transpose()?])
}

/// Samples a token for every row of hidden `[rows, width]` on the CPU; head `[vocabulary, width]`.
pub(crate) fn sample(hidden: &Torch, head: &Torch, how: &Draw<'_>) -> pcrm_core::Result<Vec<Drawn>> {
    let err = || crate::failed("sample");
    let rows: Vec<u32> = (0..hidden.size()[0] as u32).collect();
    let (temperature, soft_cap) = (how.filters.stated_temperature(), how.soft_cap);
    let ask = Ask { rows: &rows, targets: &vec![0; rows.len()], temperature, soft_cap, entropy: false };
    let asked = Asked::new(&ask);
    let mut drawn = Vec::with_capacity(rows.len());
    for chunk in chunks(head, &asked, false) {
        // The totals are computed as in `forward`, so that log-probabilities have the same bits.
        let stats = || -> Torched<[Torch; 3]> {
            let logits = shape(logits_of(&part_of(hidden, &asked, &chunk)?, head)?, &asked)?;
            let top = logits.f_amax(-1i64, true)?;
            let (sum, _) = sums(&logits.f_sub(&top)?, false)?;
            Ok([logits, sum.f_log()?.f_add(&top)?, top])
        };
        let [logits, totals, tops] = stats().map_err(err())?;
        let held = [Floats::of(&logits)?, Floats::of(&totals)?, Floats::of(&tops)?];
        let [logits, totals, tops]: [&[f32]; 3] = held.each_ref().map(|floats| &**floats);
        let vocabulary = logits.len() / chunk.len();
        let rows: Vec<usize> = (0..chunk.len()).collect();
        drawn.extend(Workers.each(rows, |at| {
            let penalised = how.penalised(chunk.start + at);
            let row_logits = &logits[at * vocabulary..][..vocabulary];
            let row = LogitRow { logits: row_logits, total: totals[at], top: tops[at], penalised };
            draw(&row, &how.filters, how.uniforms[chunk.start + at])
        })?);
    }
    Ok(drawn)
}

/// Divides the rows into chunks of whole rounds of [`linear::STEP`] rows. On a GPU chunks are larger, as logits
/// remain in the type of the computation.
fn chunks(head: &Torch, asked: &Asked, on_gpu: bool) -> impl Iterator<Item = Range<usize>> + use<> {
    let step = linear::STEP as usize;
    let (at_once, most) = if on_gpu { (4 * AT_ONCE, 16 * CHUNK) } else { (AT_ONCE, CHUNK) };
    let rows = at_once / (head.size()[0].max(1) as usize);
    asked.chunks((rows / step * step).clamp(step, most))
}

/// Returns the kernels of the GPU of hidden, if they serve.
pub(crate) fn kernels(hidden: &Torch) -> Option<&'static Fused> {
    cuda::fused(hidden).filter(|_| statistics::serves(hidden))
}

fn shaping(asked: &Asked) -> Shaping {
    Shaping { cap: asked.soft_cap, temperature: asked.temperature }
}

/// Returns the hidden rows of a chunk, concatenated.
fn part_of(hidden: &Torch, asked: &Asked, chunk: &Range<usize>) -> Torched {
    match asked.run(chunk) {
        Some(first) => hidden.f_narrow(0, first as i64, chunk.len() as i64),
        None => hidden.f_index_select(0, &index(&asked.rows[chunk.clone()], hidden.device())?),
    }
}

fn logits_of(part: &Torch, head: &Torch) -> Torched {
    linear::forward(part, head, None)?.f_to_kind(Kind::Float)
}

/// Computes Σ eˣ and, for entropies, Σ x·eˣ of every row, `[rows, 1]`.
fn sums(below: &Torch, weighted: bool) -> Torched<(Torch, Option<Torch>)> {
    let mut exponentials = below.f_exp()?;
    let sum = row_sums(&exponentials)?;
    let weighted = weighted.then(|| row_sums(&exponentials.f_mul_(below)?)).transpose()?;
    Ok((sum, weighted))
}

/// Sums every row, `[rows, 1]`. libtorch divides the sum of a single row among threads, which gives other
/// bits than the row has among others, so a single row is duplicated.
fn row_sums(of: &Torch) -> Torched {
    let sum = |of: &Torch| of.f_sum_dim_intlist(-1i64, true, None);
    match of.size()[0] {
        1 => sum(&Torch::f_cat(&[of, of], 0)?)?.f_narrow(0, 0, 1),
        _ => sum(of),
    }
}

/// Computes z = c·tanh(l / c) / T.
fn shape(mut logits: Torch, asked: &Asked) -> Torched {
    if let Some(cap) = asked.soft_cap {
        logits = logits.f_mul_scalar_(1.0 / cap)?.f_tanh_()?.f_mul_scalar_(cap)?;
    }
    if asked.temperature != 1.0 {
        logits = logits.f_mul_scalar_(1.0 / asked.temperature)?;
    }
    Ok(logits)
}

/// Computes 1 − (z·T / c)², the slope of the cap.
fn steepness(z: &Torch, asked: &Asked) -> Torched<Option<Torch>> {
    let Some(cap) = asked.soft_cap else { return Ok(None) };
    let share = z.f_mul_scalar(asked.temperature / cap)?;
    Ok(Some(share.f_mul(&share)?.f_neg_()?.f_add_scalar_(1.0)?))
}

/// Returns the targets of a chunk, `[rows, per_row]`.
fn targets(asked: &Asked, chunk: &Range<usize>, device: Device) -> Torched {
    index(&asked.targets[asked.places_of(chunk)], device)?.f_reshape([-1, asked.per_row as i64])
}

fn index(values: &[u32], device: Device) -> Torched {
    let values: Vec<i64> = values.iter().map(|value| i64::from(*value)).collect();
    to_device(&Torch::f_from_slice(&values)?, device)
}
