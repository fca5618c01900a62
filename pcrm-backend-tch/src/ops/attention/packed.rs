//! Attention over all segments of a tree by one call, on CUDA.
//!
//! A run of consecutive querying rows and the rows of its chain up to the last of them are one sequence of
//! queries and one of keys. Keys are gathered once per layer, so that every run's keys lie one behind the
//! other; the causal mask is aligned with the end of both, which is a tree's rule. bf16 runs on
//! FlashAttention, f32 on libtorch's memory-efficient attention.

use std::sync::{Arc, Mutex, PoisonError};

use pcrm_core::cuda::by_target;
use pcrm_core::{Attention, Mask, PlannedTree, SequenceTree};
use tch::{Device, Kind, Tensor as Torch};

use super::super::Torched;
use crate::cuda::Fused;
use crate::cuda::symbols::{
    Attended, Sequences, Visible, efficient_attention, efficient_backward, flash_attention, flash_backward,
};
use crate::tensor::to_device;

/// The most gathered rows, as a multiple of the tree's rows. Scattered queries repeat their chain.
const REPEATS: usize = 32;

/// The runs of a tree, on the device.
pub(crate) struct PackedPlan {
    most: [i64; 2],
    device: Mutex<OnDevice>,
}

struct OnDevice {
    /// The first query of every run and the total, int32 `[runs + 1]`.
    queries: Torch,
    /// The same for gathered keys.
    keys: Torch,
    /// The indices to gather keys by; `None` if the rows are in order already.
    gather: Option<Gather>,
}

struct Gather {
    /// The row of every gathered key, int32.
    rows: Torch,
    /// The gathered keys of each row: row r has `places[offsets[r]..offsets[r + 1]]`.
    offsets: Torch,
    places: Torch,
}

/// The state of the forward that the backward needs.
pub(crate) struct Saved {
    plan: Arc<PackedPlan>,
    keys: [Torch; 2],
    attended: Attended,
    visible: Visible,
    scale: f64,
}

/// The runs on the host.
struct Runs {
    queries: Vec<i32>,
    keys: Vec<i32>,
    rows: Vec<u32>,
}

impl Runs {
    /// Divides the querying rows; `None` if too many keys would be gathered.
    fn new(tree: &SequenceTree, how: &Attention<'_>) -> Option<Self> {
        let mut runs = Self { queries: vec![0], keys: vec![0], rows: Vec::new() };
        for asking in tree.asking(how.queries) {
            let chain: Vec<u32> =
                tree.chain(asking.segment).into_iter().flatten().map(|row| row as u32).collect();
            let positions = asking.positions.as_slice();
            let consecutive = positions.chunk_by(|a, b| how.mask == Mask::Full || a + 1 == *b);
            for run in consecutive {
                let seen = match how.mask {
                    Mask::Full => chain.len(),
                    _ => run[run.len() - 1] + 1,
                };
                runs.queries.push(runs.queries[runs.queries.len() - 1] + run.len() as i32);
                runs.rows.extend_from_slice(&chain[..seen]);
                runs.keys.push(runs.rows.len() as i32);
            }
            if runs.rows.len() > REPEATS * tree.rows().max(1024) {
                return None;
            }
        }
        Some(runs)
    }
}

impl PackedPlan {
    fn new(tree: &SequenceTree, how: &Attention<'_>, device: Device) -> Torched<Option<Self>> {
        let Some(Runs { queries, keys, rows }) = Runs::new(tree, how) else { return Ok(None) };
        let most = |of: &[i32]| of.windows(2).map(|pair| i64::from(pair[1] - pair[0])).max().unwrap_or(0);
        let most = [most(&queries), most(&keys)];
        let in_order = rows.len() == tree.rows() && rows.iter().zip(0..).all(|(row, at)| *row == at);
        // One upload for all.
        let mut parts = vec![queries, keys];
        if !in_order {
            let (offsets, places) = by_target(&rows, tree.rows());
            parts.extend([rows, offsets, places].map(|of| of.into_iter().map(|at| at as i32).collect()));
        }
        let all = to_device(&Torch::f_from_slice(&parts.concat())?, device)?;
        let mut start = 0;
        let mut cut = Vec::with_capacity(parts.len());
        for part in &parts {
            cut.push(all.f_narrow(0, start, part.len() as i64)?);
            start += part.len() as i64;
        }
        let mut cut = cut.into_iter();
        let (Some(queries), Some(keys)) = (cut.next(), cut.next()) else { return Ok(None) };
        let gather = match (cut.next(), cut.next(), cut.next()) {
            (Some(rows), Some(offsets), Some(places)) => Some(Gather { rows, offsets, places }),
            _ => None,
        };
        let device = Mutex::new(OnDevice { queries, keys, gather });
        Ok(Some(Self { most, device }))
    }

    /// Calls `with` with the sequences on the device.
    fn with<R>(&self, with: impl FnOnce(Sequences<'_>, Option<&Gather>) -> R) -> R {
        let on_device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        let [most_queries, most_keys] = self.most;
        let OnDevice { queries, keys, gather } = &*on_device;
        with(Sequences { queries, keys, most_queries, most_keys }, gather.as_ref())
    }
}

/// Returns the plan that all layers of a pass share, or `None` if this call needs another path.
pub(crate) fn plan(
    [q, _, _]: [&Torch; 3],
    tree: &PlannedTree,
    how: &Attention<'_>,
) -> Torched<Option<(Arc<PackedPlan>, Visible)>> {
    let kind = q.kind();
    let dim = q.size()[2];
    let fits = match kind {
        Kind::BFloat16 => dim % 8 == 0 && dim <= 256,
        Kind::Float => dim % 4 == 0,
        _ => false,
    };
    let visible = match how.mask {
        Mask::Causal { window } => {
            Visible { causal: true, back: window.map(|window| window as i64 - 1), ahead: None }
        }
        Mask::Full => Visible { causal: false, back: None, ahead: None },
        // A run's keys end with its last query, but this mask also covers keys after it.
        Mask::Around { .. } if how.queries.is_some() => return Ok(None),
        Mask::Around { reach } => {
            Visible { causal: false, back: Some(reach as i64), ahead: Some(reach as i64) }
        }
    };
    let is_windowed = visible.back.is_some() || visible.ahead.is_some();
    if !fits || how.cap.is_some() || (is_windowed && kind == Kind::Float) || q.numel() == 0 {
        return Ok(None);
    }
    let key = (how.queries.map(<[usize]>::to_vec), how.mask);
    let plan = tree.plan(key, || PackedPlan::new(tree, how, q.device()).map(|plan| plan.map(Arc::new)))?;
    Ok(Option::clone(&plan).map(|plan| (plan, visible)))
}

/// Computes q `[queries, heads, dim]`, k and v `[rows, kv_heads, dim]` → `[queries, heads, dim]`.
pub(crate) fn forward(
    plan: Arc<PackedPlan>,
    visible: Visible,
    [q, k, v]: [&Torch; 3],
    scale: f64,
) -> Torched<(Torch, Saved)> {
    let heads = [q.size()[1], k.size()[1]];
    let (keys, attended) = plan.with(|at, gather| -> Torched<_> {
        let gathered = |x: &Torch| match gather {
            Some(gather) => x.f_index_select(0, &gather.rows),
            None => x.f_contiguous(),
        };
        let keys = [gathered(k)?, gathered(v)?];
        let attended = match q.kind() {
            Kind::Float => {
                let inputs =
                    [batch(q)?, batch(&repeated(&keys[0], heads)?)?, batch(&repeated(&keys[1], heads)?)?];
                efficient_attention(inputs.each_ref(), at, scale, visible)?
            }
            _ => flash_attention([&q.f_contiguous()?, &keys[0], &keys[1]], at, scale, visible)?,
        };
        Ok((keys, attended))
    })?;
    let value = match q.kind() {
        Kind::Float => attended.value.f_squeeze_dim(0)?,
        _ => attended.value.shallow_clone(),
    };
    Ok((value, Saved { plan, keys, attended, visible, scale }))
}

/// Computes the gradients of q, k and v.
pub(crate) fn backward(
    Saved { plan, keys, attended, visible, scale }: Saved,
    [q, k, _]: [&Torch; 3],
    gradient: &Torch,
    fused: Option<&Fused>,
) -> Torched<[Torch; 3]> {
    let heads = [q.size()[1], k.size()[1]];
    let gradient = gradient.f_contiguous()?;
    plan.with(|at, gather| {
        let [d_q, d_k, d_v] = match q.kind() {
            Kind::Float => {
                let inputs =
                    [batch(q)?, batch(&repeated(&keys[0], heads)?)?, batch(&repeated(&keys[1], heads)?)?];
                let [d_q, d_k, d_v] =
                    efficient_backward(inputs.each_ref(), &attended, &batch(&gradient)?, at, scale, visible)?;
                [d_q.f_squeeze_dim(0)?, summed(&d_k, heads)?, summed(&d_v, heads)?]
            }
            _ => {
                let inputs = [&q.f_contiguous()?, &keys[0], &keys[1]];
                flash_backward(inputs, &attended, &gradient, at, scale, visible)?
            }
        };
        let rows = |x: Torch| match gather {
            Some(gather) => gather.sums(&x, k, fused),
            None => Ok(x),
        };
        Ok([d_q, rows(d_k)?, rows(d_v)?])
    })
}

impl Gather {
    /// Sums the gradients of gathered keys, in the shape of k.
    fn sums(&self, x: &Torch, k: &Torch, fused: Option<&Fused>) -> Torched {
        let x = x.f_contiguous()?;
        let width = x.numel() as i64 / x.size()[0].max(1);
        if let Some(fused) = fused.filter(|_| Fused::serves(&[&x], width)) {
            return fused.row_sums(&x, &self.offsets, &self.places);
        }
        let sums = Torch::f_zeros(k.size(), (Kind::Float, k.device()))?;
        let _ = sums.shallow_clone().f_index_add_(0, &self.rows, &x.f_to_kind(Kind::Float)?)?;
        sums.f_to_kind(k.kind())
    }
}

fn batch(x: &Torch) -> Torched {
    x.f_contiguous()?.f_unsqueeze(0)
}

/// Repeats `[keys, kv_heads, dim]` for every head of queries.
fn repeated(x: &Torch, [heads, kv_heads]: [i64; 2]) -> Torched {
    match heads == kv_heads {
        true => Ok(x.shallow_clone()),
        false => x.f_repeat_interleave_self_int(heads / kv_heads, 1, None),
    }
}

/// Sums the gradients of [`repeated`] and [`batch`].
fn summed(x: &Torch, [heads, kv_heads]: [i64; 2]) -> Torched {
    let x = x.f_squeeze_dim(0)?;
    if heads == kv_heads {
        return Ok(x);
    }
    let size = x.size();
    x.f_reshape([size[0], kv_heads, heads / kv_heads, size[2]])?.f_sum_dim_intlist(2i64, false, None)
}

#[cfg(test)]
mod tests;
