//! Proofs of compiled kernels on the GPU at hand: a small batch in value and in every gradient, against the
//! path of candle's operations in f32.

use candle_core as ct;
use pcrm_core::{Attention, Mask, PlannedTree, SequenceTree};

use super::attention::{Kernels, Plan};
use crate::device_ops::attention as grouped;
use crate::device_ops::attention::plan::{Limits, Sizes};
use crate::device_ops::float::single;

/// The largest relative error of bf16 with sums in f32.
const BOUND: f64 = 2e-2;

/// Proves attention on ragged trees: all rows, a sliding window, and the segments' ends alone.
pub(super) fn of_attention(kernels: &Kernels, dim: usize, device: &ct::Device) -> Result<(), String> {
    let checked = || -> ct::Result<Option<String>> {
        let mut tree = SequenceTree::default();
        for (length, parent) in [(70, None), (65, Some(0)), (9, Some(0)), (3, Some(1)), (30, None)] {
            tree.push(length, parent).map_err(ct::Error::wrap)?;
        }
        let tree = PlannedTree::new(tree);
        let ends: Vec<usize> = tree.segments().iter().map(|segment| segment.rows.end - 1).collect();
        let [all, near] = [None, Some(40)].map(|window| Mask::Causal { window });
        for (mask, queries) in [(all, None), (near, None), (all, Some(&ends[..])), (Mask::Full, None)] {
            let how = Attention { scale: 0.3, cap: None, mask, queries };
            let off = off(kernels, &tree, &how, dim, device)?;
            if off.is_some() {
                return Ok(off);
            }
        }
        Ok(None)
    };
    match checked() {
        Ok(None) => Ok(()),
        Ok(Some(off)) => Err(off),
        Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

/// Returns what differs, if anything does.
fn off(
    kernels: &Kernels,
    tree: &PlannedTree,
    how: &Attention<'_>,
    dim: usize,
    device: &ct::Device,
) -> ct::Result<Option<String>> {
    let sizes = Sizes { kv_heads: 2, group: 3, dim };
    let queries = how.queries.map_or(tree.rows(), <[usize]>::len);
    let [of_queries, of_keys] = [(queries, 6, dim), (tree.rows(), 2, dim)];
    let qkv = [random(of_queries, 1, device)?, random(of_keys, 2, device)?, random(of_keys, 3, device)?];
    let gradient = random(of_queries, 4, device)?;
    let plan = Plan::shared(tree, how, sizes, device)?;
    let [value, totals] = kernels.forward(&plan, qkv.each_ref())?;
    let gradients = kernels.backward(&plan, qkv.each_ref(), [&value, &gradient], &totals)?;

    let [q, k, v] = [single(&qkv[0])?, single(&qkv[1])?, single(&qkv[2])?];
    let plan = grouped::plan::Plan::new(tree, how, sizes, Limits::GPU, device)?;
    let (want, totals) = grouped::forward(&plan, [&q, &k, &v])?;
    let wants = grouped::backward(&plan, [&q, &k, &v], [&want, &single(&gradient)?], &totals)?;
    let pairs = [(&value, &want)].into_iter().chain(gradients.iter().zip(&wants));
    for (what, (got, want)) in ["the value", "the gradient of q", "of k", "of v"].into_iter().zip(pairs) {
        let error = relative(got, want)?;
        if error.is_nan() || error > BOUND {
            return Ok(Some(format!("{what} is off by {error:.1e} in {how:?}")));
        }
    }
    Ok(None)
}

/// Returns √(Σ (got − want)² / Σ want²).
fn relative(got: &ct::Tensor, want: &ct::Tensor) -> ct::Result<f64> {
    let norm = |x: &ct::Tensor| -> ct::Result<f64> {
        Ok(f64::from(x.flatten_all()?.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt())
    };
    Ok(norm(&single(got)?.sub(want)?)? / norm(want)?)
}

/// Returns numbers between −1 and 1 in bf16, the same for equal seeds.
fn random(shape: (usize, usize, usize), seed: u64, device: &ct::Device) -> ct::Result<ct::Tensor> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    let numbers: Vec<f32> = (0..shape.0 * shape.1 * shape.2).map(|_| draw()).collect();
    ct::Tensor::from_vec(numbers, shape, device)?.to_dtype(ct::DType::BF16)
}
