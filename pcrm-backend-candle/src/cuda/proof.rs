//! Proofs of compiled kernels on the opened GPU: a small batch in value and in every gradient, against the
//! path of candle's operations in f32.

use candle_core as ct;
use pcrm_core::cuda::WIDEST;
use pcrm_core::kernels::AdamWStep;
use pcrm_core::{Attention, Mask, PlannedTree, SequenceTree};

use super::attention::{Kernels, Plan};
use super::fused::Fused;
use super::update::Update;
use crate::device_ops::attention as grouped;
use crate::device_ops::attention::plan::{Limits, Sizes};
use crate::device_ops::float::{column_sums, single};
use crate::device_ops::{adamw, elementwise, norm, rotary};
use crate::ops::norm::Norm;
use crate::ops::rotary::Turn;

/// Results with what they must equal.
type Pairs = Vec<(ct::Tensor, ct::Tensor)>;

/// Returns the largest accepted relative error, several times that of rounding.
fn bound(dtype: ct::DType) -> f64 {
    if dtype == ct::DType::BF16 { 2e-2 } else { 2e-4 }
}

/// Proves the fused kernels in both types.
pub(super) fn of_fused(fused: &Fused, device: &ct::Device) -> Result<(), String> {
    for dtype in [ct::DType::F32, ct::DType::BF16] {
        let proofs: [(&str, &dyn Fn() -> ct::Result<Pairs>); 6] = [
            ("rms_norm", &|| rms_norms(fused, dtype, device)),
            ("rotary", &|| turned(fused, dtype, device)),
            ("swiglu", &|| swiglu(fused, dtype, device)),
            ("row_sums", &|| row_sums(fused, dtype, device)),
            ("columns", &|| columns(fused, dtype, device)),
            ("adamw", &|| adamw_and_norm(fused, device)),
        ];
        for (name, proof) in proofs {
            let compared =
                || proof()?.iter().map(|(got, want)| relative(got, want)).collect::<ct::Result<Vec<f64>>>();
            let errors = compared().map_err(|error| format!("{name}: {}", first_line(&error)))?;
            if let Some(error) = errors.iter().find(|error| error.is_nan() || **error > bound(dtype)) {
                return Err(format!("{name} in {dtype:?} is off by {error:.1e}"));
            }
        }
    }
    Ok(())
}

/// The rows and the width of the norms that are proved: the size of a small model; more rows than the backward
/// has blocks, eight per multiprocessor, so that a block computes several; rows that fill a block's shared
/// memory. The other size is small, because every command that opens a GPU waits for the proofs.
const NORMS: [[usize; 2]; 3] = [[37, 896], [2500, 64], [5, WIDEST]];

fn rms_norms(fused: &Fused, dtype: ct::DType, device: &ct::Device) -> ct::Result<Pairs> {
    let each = NORMS.map(|shape| rms_norm(fused, shape, dtype, device));
    Ok(each.into_iter().collect::<ct::Result<Vec<Pairs>>>()?.concat())
}

fn rms_norm(fused: &Fused, shape: [usize; 2], dtype: ct::DType, device: &ct::Device) -> ct::Result<Pairs> {
    let [x, weight, gradient] = [
        random(&shape, 1, device)?.to_dtype(dtype)?,
        random(&shape[1..], 2, device)?.to_dtype(dtype)?,
        random(&shape, 3, device)?.to_dtype(dtype)?,
    ];
    let [value, inverse] = fused.rms_norm(&x, None, &weight, 1e-6)?;
    let [sum, of_sum, _] = fused.add_rms_norm([&x, &gradient], &weight, 1e-6)?;
    let [d_x, d_weight] = fused.rms_norm_backward([&x, &weight, &gradient], &inverse)?;
    let (x, weight) = (single(&x)?, single(&weight)?);
    let want = norm::forward(Norm::Rms, &x, &weight, None, 1e-6)?;
    let [want_x, want_weight, _] = norm::backward(Norm::Rms, &x, &weight, &single(&gradient)?, 1e-6)?;
    let want_sum = x.add(&single(&gradient)?)?;
    let want_of_sum = norm::forward(Norm::Rms, &want_sum, &weight, None, 1e-6)?;
    let of_one = [(value, want), (d_x, want_x), (d_weight, want_weight)];
    Ok(of_one.into_iter().chain([(sum, want_sum), (of_sum, want_of_sum)]).collect())
}

fn turned(fused: &Fused, dtype: ct::DType, device: &ct::Device) -> ct::Result<Pairs> {
    let [x, cos, sin] = [
        random(&[37, 6, 64], 1, device)?.to_dtype(dtype)?,
        random(&[37, 32], 2, device)?.to_dtype(dtype)?,
        random(&[37, 32], 3, device)?.to_dtype(dtype)?,
    ];
    let mut pairs = Vec::new();
    for turn in [Turn::Forward, Turn::Back] {
        let want = rotary::rotate(&single(&x)?, &single(&cos)?, &single(&sin)?, turn)?;
        pairs.push((fused.rotary([&x, &cos, &sin], turn)?, want));
    }
    Ok(pairs)
}

fn swiglu(fused: &Fused, dtype: ct::DType, device: &ct::Device) -> ct::Result<Pairs> {
    let [gate, up, gradient] = [
        random(&[37, 88], 1, device)?.affine(4.0, 0.0)?.to_dtype(dtype)?,
        random(&[37, 88], 2, device)?.to_dtype(dtype)?,
        random(&[37, 88], 3, device)?.to_dtype(dtype)?,
    ];
    let value = fused.swiglu(&gate, &up)?;
    let [d_gate, d_up] = fused.swiglu_backward([&gate, &up, &gradient])?;
    let (gate, up) = (single(&gate)?, single(&up)?);
    let [want_gate, want_up] = elementwise::swiglu_backward(&gate, &up, &single(&gradient)?)?;
    Ok(vec![(value, elementwise::swiglu(&gate, &up)?), (d_gate, want_gate), (d_up, want_up)])
}

fn row_sums(fused: &Fused, dtype: ct::DType, device: &ct::Device) -> ct::Result<Pairs> {
    let targets = [2_u32, 0, 2, 5, 5, 2, 1];
    let x = random(&[7, 24], 1, device)?.to_dtype(dtype)?;
    let got = fused.row_sums(&x, &targets, 9)?;
    let mut chosen = vec![0.0_f32; 9 * 7];
    targets.iter().enumerate().for_each(|(row, target)| chosen[*target as usize * 7 + row] = 1.0);
    let chosen = ct::Tensor::from_vec(chosen, (9, 7), device)?;
    Ok(vec![(got, chosen.matmul(&single(&x)?)?)])
}

fn columns(fused: &Fused, dtype: ct::DType, device: &ct::Device) -> ct::Result<Pairs> {
    let mut pairs = Vec::new();
    for (rows, width) in [(300, 272), (3, 8)] {
        let x = random(&[rows, width], 1, device)?.to_dtype(dtype)?;
        let bias = random(&[width], 2, device)?.to_dtype(dtype)?;
        pairs.push((fused.column_sums(&x, dtype)?, column_sums(&single(&x)?)?));
        let want = single(&x)?.broadcast_add(&single(&bias)?)?;
        fused.add_bias(&x, &bias)?;
        pairs.push((x, want));
    }
    Ok(pairs)
}

/// Proves a step of AdamW for two tensors, one of several chunks, and the sum of squares of both.
fn adamw_and_norm(fused: &Fused, device: &ct::Device) -> ct::Result<Pairs> {
    let sizes = [70_000, 7];
    let slots = |seed: u64, size: usize| -> ct::Result<[ct::Tensor; 4]> {
        Ok([
            random(&[size], seed, device)?,
            random(&[size], seed + 1, device)?,
            random(&[size], seed + 2, device)?.sqr()?,
            random(&[size], seed + 3, device)?,
        ])
    };
    let [own, reference] =
        [[slots(1, sizes[0])?, slots(9, sizes[1])?], [slots(1, sizes[0])?, slots(9, sizes[1])?]];
    let steps = [0.1, 0.0].map(|weight_decay| AdamWStep {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-6,
        weight_decay,
        step: 3,
        grad_scale: 0.5,
    });
    let updates = [0, 1].map(|at| Update { step: &steps[at], slots: own[at].each_ref() });
    fused.adamw(&updates)?;
    let gradients = [&own[0][3], &own[1][3]];
    let squares = |x: &ct::Tensor| single(x)?.sqr()?.sum_all()?.reshape(1);
    let want = squares(gradients[0])?.add(&squares(gradients[1])?)?;
    let mut pairs = vec![(fused.sum_of_squares(&gradients)?, want)];
    for (at, step) in steps.iter().enumerate() {
        let [param, mean, variance, gradient] = reference[at].each_ref();
        adamw::step(step, [param, mean, variance], gradient)?;
        let of_slots = own[at].iter().zip(&reference[at]);
        pairs.extend(of_slots.map(|(got, want)| (got.clone(), want.clone())));
    }
    Ok(pairs)
}

fn first_line(error: &ct::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Proves attention on a ragged tree, with every mask and with the segments' ends alone, in several numbers of
/// heads, and on one long sequence.
pub(super) fn of_attention(kernels: &Kernels, dim: usize, device: &ct::Device) -> Result<(), String> {
    let checked = || -> ct::Result<Option<String>> {
        let ragged = tree(&[(70, None), (65, Some(0)), (9, Some(0)), (3, Some(1)), (30, None)])?;
        // Long enough for a sum of several slots, and no longer, because every command waits for the proofs: 24
        // blocks of queries see the first keys, and an item visits nine of them for seven heads in a group.
        let long = tree(&[(1500, None)])?;
        let ends: Vec<usize> = ragged.segments().iter().map(|segment| segment.rows.end - 1).collect();
        let [all, near] = [None, Some(40)].map(|window| Mask::Causal { window });
        let around = Mask::Around { reach: 40 };
        let cases = [
            (&ragged, all, None, [2, 3]),
            (&ragged, near, None, [2, 3]),
            (&ragged, all, Some(&ends[..]), [2, 3]),
            (&ragged, Mask::Full, None, [1, 4]),
            (&ragged, around, None, [3, 1]),
            (&long, all, None, [1, 7]),
        ];
        for (tree, mask, queries, [kv_heads, group]) in cases {
            let how = Attention { scale: 0.3, cap: None, mask, queries };
            let off = off(kernels, tree, &how, Sizes { kv_heads, group, dim }, device)?;
            if off.is_some() {
                return Ok(off);
            }
        }
        Ok(None)
    };
    match checked() {
        Ok(None) => Ok(()),
        Ok(Some(off)) => Err(off),
        Err(error) => Err(first_line(&error)),
    }
}

fn tree(parts: &[(usize, Option<usize>)]) -> ct::Result<PlannedTree> {
    let mut tree = SequenceTree::default();
    for (length, parent) in parts {
        tree.push(*length, *parent).map_err(ct::Error::wrap)?;
    }
    Ok(PlannedTree::new(tree))
}

/// Returns a description of the first result that differs from the reference; `None` if all agree.
fn off(
    kernels: &Kernels,
    tree: &PlannedTree,
    how: &Attention<'_>,
    sizes: Sizes,
    device: &ct::Device,
) -> ct::Result<Option<String>> {
    let Sizes { kv_heads, group, dim } = sizes;
    let queries = how.queries.map_or(tree.rows(), <[usize]>::len);
    let [of_queries, of_keys] = [[queries, kv_heads * group, dim], [tree.rows(), kv_heads, dim]];
    let half = |shape: &[usize], seed| random(shape, seed, device)?.to_dtype(ct::DType::BF16);
    let qkv = [half(&of_queries, 1)?, half(&of_keys, 2)?, half(&of_keys, 3)?];
    let gradient = half(&of_queries, 4)?;
    let plan = Plan::shared(tree, how, sizes, device)?;
    let [value, totals] = kernels.forward(&plan, qkv.each_ref())?;
    let gradients = kernels.backward(&plan, qkv.each_ref(), [&value, &gradient], &totals)?;

    let [q, k, v] = [single(&qkv[0])?, single(&qkv[1])?, single(&qkv[2])?];
    let plan = grouped::plan::GroupedPlan::new(tree, how, sizes, Limits::GPU, device)?;
    let (want, totals) = grouped::forward(&plan, [&q, &k, &v])?;
    let wants = grouped::backward(&plan, [&q, &k, &v], [&want, &single(&gradient)?], &totals)?;
    let pairs = [(&value, &want)].into_iter().chain(gradients.iter().zip(&wants));
    for (what, (got, want)) in ["the value", "the gradient of q", "of k", "of v"].into_iter().zip(pairs) {
        let error = relative(got, want)?;
        if error.is_nan() || error > bound(ct::DType::BF16) {
            let rows = tree.rows();
            return Ok(Some(format!("{what} is off by {error:.1e} in {how:?}, {rows} rows, {sizes:?}")));
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

/// Returns numbers between −1 and 1 in f32, the same for equal seeds.
pub(super) fn random(shape: &[usize], seed: u64, device: &ct::Device) -> ct::Result<ct::Tensor> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    let numbers: Vec<f32> = (0..shape.iter().product()).map(|_| draw()).collect();
    ct::Tensor::from_vec(numbers, shape, device)
}
