//! Compares the tensor path with the composed reference, in value and in the gradient of every operand,
//! closely in f32 and loosely in bf16. The tests run on the CPU, or on the device in PCRM_DEVICE:
//! `PCRM_DEVICE=cuda cargo test -p pcrm-backend-candle --features cuda`.

use std::sync::Arc;

use pcrm_core::kernels::{AdamWStep, AdamWUpdate, Ask, Attention, Composed, Mask, Slots};
use pcrm_core::tensor::{Reduce, Unary};
use pcrm_core::tree::Segment;
use pcrm_core::{
    Backend, DType, Device, Error, HostData, HostTensor, Kernels, Params, PlannedTree, Result, SequenceTree,
    Tensor,
};

use super::attention::plan::{Group, GroupedPlan, Limits, Sizes};
use crate::device_kernels::{DeviceKernels, attend};
use crate::tensor::CandleTensor;
use crate::{CandleBackend, NAME, device_ops, tensor};

const TOLERANCE: f32 = 2e-5;
const BF16_TOLERANCE: f64 = 2e-2;

type Fused<'a> = &'a dyn Fn(&dyn Kernels, &[Tensor]) -> Result<Tensor>;

/// Returns numbers between −1 and 1, none within 0.05 of 0, that bf16 represents exactly.
fn random(shape: &[usize], seed: u64) -> Result<HostTensor> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = || loop {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let x = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        if x.abs() > 0.05 {
            return f32::from_bits(x.to_bits() & 0xFFFF_0000);
        }
    };
    HostTensor::f32(shape, (0..shape.iter().product()).map(|_| draw()).collect())
}

fn backend() -> Result<Box<dyn Backend>> {
    let device = std::env::var("PCRM_DEVICE").map_or(Ok(Device::Cpu), |name| name.parse())?;
    CandleBackend::open(device.into())
}

/// Returns the device of a tensor: two handles to one GPU do not mix.
fn device_of(x: &Tensor) -> Result<candle_core::Device> {
    Ok(x.downcast::<CandleTensor>("device", NAME)?.value.device().clone())
}

/// Returns a candle device.
fn device() -> Result<candle_core::Device> {
    device_of(&backend()?.upload(&HostTensor::scalar(0.0), DType::F32)?)
}

/// Computes f in `dtype`, and the gradients of Σ w·f.
fn value_and_gradients(
    inputs: &[HostTensor],
    dtype: DType,
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<Vec<f32>>> {
    let backend = backend()?;
    let mut params = Params::default();
    let mut operands = Vec::new();
    for (at, input) in inputs.iter().enumerate() {
        let leaf = backend.upload(input, DType::F32)?.variable();
        params.insert(at.to_string(), leaf.clone());
        operands.push(leaf.cast(dtype)?);
    }
    let value = f(&operands)?.cast(DType::F32)?;
    let loss = value.mul(&value.constant(&random(&value.shape(), 99)?)?)?.sum_all()?;
    let gradients = backend.backward(&loss, &params)?;
    let mut all = vec![value.read()?.into_f32()];
    for at in 0..inputs.len() {
        all.push(gradients.get(&at.to_string())?.read()?.into_f32());
    }
    Ok(all)
}

/// Compares an operation on the tensor path with the reference, in f32 and in bf16.
fn agree(what: &str, inputs: &[HostTensor], op: Fused<'_>) -> Result<()> {
    let want = value_and_gradients(inputs, DType::F32, &|x| op(&Composed, x))?;
    let got = value_and_gradients(inputs, DType::F32, &|x| op(&DeviceKernels, x))?;
    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
        assert_eq!(got.len(), want.len(), "{what}, output {at}");
        for (element, (got, want)) in got.iter().zip(want).enumerate() {
            let off = (got - want).abs();
            assert!(off <= TOLERANCE * (1.0 + want.abs()), "{what}, output {at}[{element}]: {got}, {want}");
        }
    }
    let got = value_and_gradients(inputs, DType::BF16, &|x| op(&DeviceKernels, x))?;
    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
        let norm = |values: &mut dyn Iterator<Item = f32>| {
            values.map(|x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
        };
        let off = norm(&mut got.iter().zip(want).map(|(got, want)| got - want));
        let size = norm(&mut want.iter().copied());
        assert!(off <= BF16_TOLERANCE * (size + 0.5), "{what} in bf16, output {at}: off by {off} of {size}");
    }
    Ok(())
}

fn ids(x: &Tensor, ids: Vec<u32>) -> Result<Tensor> {
    x.constant(&HostTensor::indices(ids))
}

#[test]
fn linear_layers_and_norms_agree() -> Result<()> {
    for (rows, outputs) in [(1, 5), (1, 1), (3, 1), (70, 33)] {
        let inputs = [random(&[rows, 24], 1)?, random(&[outputs, 24], 2)?, random(&[outputs], 3)?];
        agree("linear", &inputs, &|k, x| k.linear(&x[0], &x[1], Some(&x[2])))?;
        agree("linear without bias", &inputs[..2], &|k, x| k.linear(&x[0], &x[1], None))?;
    }
    for (rows, width) in [(1, 3), (5, 16), (130, 40)] {
        let inputs = [random(&[rows, width], 1)?, random(&[width], 2)?, random(&[width], 3)?];
        agree("rms_norm", &inputs[..2], &|k, x| k.rms_norm(&x[0], &x[1], 1e-5))?;
        let added = [inputs[0].clone(), random(&[rows, width], 4)?, inputs[1].clone()];
        agree("add_rms_norm", &added, &|k, x| {
            let [sum, normed] = k.add_rms_norm(&x[0], &x[1], &x[2], 1e-5)?;
            sum.mul(&normed)
        })?;
        agree("layer_norm", &inputs, &|k, x| k.layer_norm(&x[0], &x[1], &x[2], 1e-5))?;
    }
    Ok(())
}

/// Protects: operations of no rows give no rows and no gradients, where candle's reductions on CUDA would
/// divide by zero.
#[test]
fn operations_of_no_rows_give_no_rows() -> Result<()> {
    let (rows, wide) = (random(&[0, 8], 1)?, random(&[0, 2, 8], 2)?);
    let (vector, matrix) = (random(&[8], 3)?, random(&[5, 8], 4)?);
    let no_angles = HostTensor::f32([0, 4], Vec::new())?;
    let three = [rows.clone(), vector.clone(), vector.clone()];
    let check = |what: &str, inputs: &[HostTensor], op: Fused<'_>| -> Result<()> {
        let all = value_and_gradients(inputs, DType::F32, &|x| op(&DeviceKernels, x))?;
        assert!(all[0].is_empty(), "{what}: {:?}", all[0]);
        assert!(all[1..].iter().flatten().all(|gradient| *gradient == 0.0), "{what}: {:?}", &all[1..]);
        Ok(())
    };
    check("rms_norm", &three[..2], &|k, x| k.rms_norm(&x[0], &x[1], 1e-5))?;
    check("add_rms_norm", &three[..2], &|k, x| {
        let [sum, normed] = k.add_rms_norm(&x[0], &x[0], &x[1], 1e-5)?;
        sum.mul(&normed)
    })?;
    check("layer_norm", &three, &|k, x| k.layer_norm(&x[0], &x[1], &x[2], 1e-5))?;
    check("linear", &[rows.clone(), matrix], &|k, x| k.linear(&x[0], &x[1], None))?;
    check("swiglu", &[rows.clone(), rows.clone()], &|k, x| k.swiglu(&x[0], &x[1]))?;
    check("gelu", std::slice::from_ref(&rows), &|k, x| k.gelu(&x[0], Unary::Gelu))?;
    check("rotary", std::slice::from_ref(&wide), &|k, x| {
        let angles = x[0].constant(&no_angles)?;
        k.rotary(&x[0], &angles, &angles)
    })?;
    for op in [Reduce::Sum, Reduce::Max] {
        check("a reduction", std::slice::from_ref(&rows), &|_, x| x[0].reduce(op, 1))?;
    }
    let rows = backend()?.upload(&rows, DType::F32)?;
    assert_eq!(rows.reduce(Reduce::ArgMax, 1)?.shape(), [0, 1]);
    Ok(())
}

#[test]
fn activations_rotary_and_embedding_agree() -> Result<()> {
    let pair = [random(&[70, 9], 1)?, random(&[70, 9], 2)?];
    agree("swiglu", &pair, &|k, x| k.swiglu(&x[0], &x[1]))?;
    for op in [Unary::Gelu, Unary::GeluTanh] {
        agree("gelu", &pair[..1], &|k, x| k.gelu(&x[0], op))?;
    }
    let (cos, sin) = (random(&[70, 4], 3)?, random(&[70, 4], 4)?);
    agree("rotary", &[random(&[70, 3, 8], 5)?], &|k, x| {
        k.rotary(&x[0], &x[0].constant(&cos)?, &x[0].constant(&sin)?)
    })?;
    let rows: Vec<u32> = (0..90).map(|row| [5, 0, 5, 2, 5, 1][row * row % 6]).collect();
    agree("embedding", &[random(&[7, 5], 6)?], &|k, x| k.embedding(&x[0], &ids(&x[0], rows.clone())?))?;
    let table = backend()?.upload(&random(&[7, 5], 6)?, DType::F32)?;
    assert!(DeviceKernels.embedding(&table, &ids(&table, vec![7])?).is_err());
    Ok(())
}

#[test]
fn token_stats_agree() -> Result<()> {
    for rows in [1u32, 40] {
        let inputs = [random(&[rows as usize, 12], 1)?, random(&[37, 12], 2)?];
        let every: Vec<u32> = (0..rows).collect();
        let some: Vec<u32> = (0..rows).rev().step_by(2).chain([rows / 4, rows / 4]).collect();
        for asked in [every, some] {
            let targets: Vec<u32> = (0..asked.len() as u32).map(|at| at * 7 % 37).collect();
            agree("log-probabilities", &inputs, &|k, x| {
                Ok(k.token_stats(&x[0], &x[1], &Ask::log_probs(&asked, &targets))?.log_probs)
            })?;
            agree("capped, tempered and with entropies", &inputs, &|k, x| {
                let [temperature, cap] = [0.8, 2.0];
                let ask =
                    Ask { rows: &asked, targets: &targets, temperature, soft_cap: Some(cap), entropy: true };
                let stats = k.token_stats(&x[0], &x[1], &ask)?;
                let mut parts = vec![&stats.log_probs];
                parts.extend(&stats.entropy);
                Tensor::concat(&parts, 0)
            })?;
        }
    }
    Ok(())
}

/// Protects: every element-wise function and its derivative, which no fused operation covers.
#[test]
fn element_wise_functions_agree_with_the_slices() -> Result<()> {
    let device = device()?;
    let x = ct_tensor(&[1.5, 0.25, 3.0, 0.5, 2.0, 0.125])?;
    let signed = ct_tensor(&[-1.5, 0.0, 3.0, -0.5, 20.0, -20.0])?;
    let g = ct_tensor(&[1.0, -2.0, 0.5, 3.0, 0.25, 1.0])?;
    let read = |x: candle_core::Tensor| x.to_vec1::<f32>().map_err(Error::backend(NAME, "read"));
    let all =
        [Unary::Neg, Unary::Exp, Unary::Square, Unary::Abs, Unary::Tanh, Unary::Sigmoid, Unary::Softplus];
    let more = [Unary::Relu, Unary::Silu, Unary::Gelu, Unary::GeluTanh];
    let positive = [Unary::Log, Unary::Sqrt];
    let cases = all.iter().chain(&more).map(|op| (op, &signed)).chain(positive.iter().map(|op| (op, &x)));
    for (op, x) in cases {
        let err = || Error::backend(NAME, "unary");
        let (there, g_there) = (x.to_device(&device).map_err(err())?, g.to_device(&device).map_err(err())?);
        let value = device_ops::elementwise::unary(*op, &there).map_err(err())?;
        let slope = device_ops::elementwise::unary_backward(*op, &there, &g_there).map_err(err())?;
        let want =
            [crate::ops::elementwise::unary(*op, x)?, crate::ops::elementwise::unary_backward(*op, x, &g)?];
        for (got, want) in [value, slope].into_iter().zip(want) {
            for (got, want) in read(got)?.into_iter().zip(read(want)?) {
                assert!((got - want).abs() <= TOLERANCE * (1.0 + want.abs()), "{op:?}: {got}, {want}");
            }
        }
    }
    Ok(())
}

fn ct_tensor(values: &[f32]) -> Result<candle_core::Tensor> {
    candle_core::Tensor::new(values, &candle_core::Device::Cpu).map_err(Error::backend(NAME, "upload"))
}

fn tree(parts: &[(usize, Option<usize>)]) -> Result<SequenceTree> {
    let mut next = 0;
    let segments = parts.iter().map(|(length, parent)| {
        next += length;
        Segment { rows: next - length..next, parent: *parent }
    });
    SequenceTree::new(segments.collect())
}

fn trees() -> Result<[(&'static str, SequenceTree); 5]> {
    Ok([
        ("one token", tree(&[(1, None)])?),
        ("one-token answers", tree(&[(3, None), (1, Some(0)), (1, Some(0))])?),
        ("a pair and a text", tree(&[(5, None), (7, Some(0)), (2, Some(0)), (9, None)])?),
        (
            "four children and a grandchild",
            tree(&[(4, None), (2, Some(0)), (3, Some(0)), (1, Some(0)), (6, Some(0)), (3, Some(2))])?,
        ),
        (
            "many sizes",
            tree(&[(21, None), (17, Some(0)), (2, Some(0)), (13, None), (1, Some(3)), (30, Some(3))])?,
        ),
    ])
}

/// Limits that cut a segment into several blocks and a batch into several groups, with and without padding, and
/// that sum the gradients of keys for all groups, for a few, and for each alone.
const LIMITS: [Limits; 3] = [
    Limits::GPU,
    Limits { block: 4, scores: 1 << 20, spare: 0, keys: 700 },
    Limits { block: 8, scores: 200, spare: 1 << 20, keys: 1 },
];

#[test]
fn attention_agrees_over_ragged_trees_however_it_is_cut() -> Result<()> {
    for (what, tree) in trees()? {
        let rows = tree.rows();
        let last: Vec<usize> = tree.segments().iter().map(|segment| segment.rows.end - 1).collect();
        let thirds: Vec<usize> = (0..rows).filter(|row| row % 3 == 0 || row + 1 == rows).collect();
        for (heads, kv_heads) in [(2, 2), (4, 2), (3, 1)] {
            let (causal, near) = (Mask::Causal { window: None }, Mask::Causal { window: Some(6) });
            let (full, around) = (Mask::Full, Mask::Around { reach: 3 });
            for (mask, queries) in [
                (causal, None),
                (near, None),
                (full, None),
                (causal, Some(&last)),
                (near, Some(&thirds)),
                (full, Some(&thirds)),
                (around, None),
                (around, Some(&thirds)),
            ] {
                let queries = queries.map(Vec::as_slice);
                let how = Attention { scale: 0.7, cap: None, mask, queries };
                let qkv = [
                    random(&[queries.map_or(rows, <[usize]>::len), heads, 8], 1)?,
                    random(&[rows, kv_heads, 8], 2)?,
                    random(&[rows, kv_heads, 8], 3)?,
                ];
                let sizes = Sizes { kv_heads, group: heads / kv_heads, dim: 8 };
                for limits in LIMITS {
                    let what = format!("{what}, {heads}/{kv_heads} heads, {how:?}, {limits:?}");
                    agree(&what, &qkv, &|k, x| match k.name() {
                        NAME => {
                            let plan = GroupedPlan::new(&tree, &how, sizes, limits, &device_of(&x[0])?);
                            attend(
                                [&x[0], &x[1], &x[2]],
                                Arc::new(plan.map_err(Error::backend(NAME, "plan"))?),
                            )
                        }
                        _ => k.attention([&x[0], &x[1], &x[2]], &tree.clone().into(), &how),
                    })?;
                }
            }
        }
    }
    Ok(())
}

/// Protects: attention in heads of 64 and 128, for which a GPU has compiled kernels, in several blocks.
#[test]
fn attention_agrees_in_the_head_sizes_of_compiled_kernels() -> Result<()> {
    let tree = PlannedTree::new(tree(&[(70, None), (65, Some(0)), (9, Some(0)), (3, Some(1)), (30, None)])?);
    let rows = tree.rows();
    let ends: Vec<usize> = tree.segments().iter().map(|segment| segment.rows.end - 1).collect();
    for (heads, kv_heads, dim) in [(6, 2, 64), (2, 1, 128)] {
        let (causal, near) = (Mask::Causal { window: None }, Mask::Causal { window: Some(40) });
        let around = Mask::Around { reach: 20 };
        for (mask, queries) in [(causal, None), (causal, Some(&ends)), (near, None), (around, Some(&ends))] {
            let how = Attention { scale: 0.1, cap: None, mask, queries: queries.map(Vec::as_slice) };
            let asked = how.queries.map_or(rows, <[usize]>::len);
            let qkv = [
                random(&[asked, heads, dim], 1)?,
                random(&[rows, kv_heads, dim], 2)?,
                random(&[rows, kv_heads, dim], 3)?,
            ];
            let what = format!("{heads}/{kv_heads} heads of {dim}, {how:?}");
            agree(&what, &qkv, &|k, x| k.attention([&x[0], &x[1], &x[2]], &tree, &how))?;
        }
    }
    Ok(())
}

/// Protects: plans are cached per batch: other queries, masks and trees with the same number of rows get
/// their own.
#[test]
fn attention_takes_the_plan_of_its_own_batch() -> Result<()> {
    let trees =
        [tree(&[(4, None), (3, Some(0)), (2, Some(0))])?, tree(&[(4, None), (2, Some(0)), (3, Some(0))])?];
    let trees = trees.map(PlannedTree::new);
    let qkv = [random(&[9, 2, 8], 1)?, random(&[9, 1, 8], 2)?, random(&[9, 1, 8], 3)?];
    for _ in 0..2 {
        for tree in &trees {
            let masks = [Mask::Causal { window: None }, Mask::Causal { window: Some(2) }, Mask::Full];
            for (mask, scale) in [(masks[0], 0.7), (masks[1], 0.7), (masks[2], 0.7), (masks[0], 0.3)] {
                let how = Attention { scale, cap: None, mask, queries: None };
                agree("attention", &qkv, &|k, x| k.attention([&x[0], &x[1], &x[2]], tree, &how))?;
            }
        }
    }
    Ok(())
}

#[test]
fn blocks_of_like_size_are_computed_together() -> Result<()> {
    // 64 pairs: one launch per group, and little wasted computation.
    let parts: Vec<(usize, Option<usize>)> = (0..64)
        .flat_map(|pair| {
            let (prompt, chosen, rejected) =
                (40 + pair * 37 % 300, 20 + pair * 53 % 200, 20 + pair * 71 % 200);
            [(prompt, None), (chosen, Some(3 * pair)), (rejected, Some(3 * pair))]
        })
        .collect();
    let tree = tree(&parts)?;
    let how = Attention { scale: 1.0, cap: None, mask: Mask::Causal { window: None }, queries: None };
    let sizes = Sizes { kv_heads: 2, group: 7, dim: 64 };
    let plan = GroupedPlan::new(&tree, &how, sizes, Limits::GPU, &device()?);
    let plan = plan.map_err(Error::backend(NAME, "plan"))?;
    let computed: usize = plan.groups.iter().map(|group| group.blocks * group.queries * group.keys).sum();
    let needed: usize = (0..tree.segments().len())
        .map(|at| tree.segments()[at].rows.len() * (tree.start(at) + tree.segments()[at].rows.len()))
        .sum();
    assert!(plan.groups.len() <= 12, "{} groups", plan.groups.len());
    assert!(computed < 2 * needed, "{computed} scores computed of {needed}");
    assert!(
        plan.groups.iter().all(|group| 14 * group.blocks * group.queries * group.keys <= Limits::GPU.scores)
    );
    Ok(())
}

/// Protects: the keys that are gathered at once stay within the limit, however long a sequence is, and every
/// group's gradients are summed once.
#[test]
fn keys_are_gathered_within_their_limit() -> Result<()> {
    let how = Attention { scale: 1.0, cap: None, mask: Mask::Causal { window: None }, queries: None };
    let sizes = Sizes { kv_heads: 2, group: 1, dim: 8 };
    let parts: Vec<(usize, Option<usize>)> =
        std::iter::once((300, None)).chain((0..20).map(|_| (3, Some(0)))).collect();
    let tree = tree(&parts)?;
    let plan = |keys| {
        let limits = Limits { block: 16, keys, ..Limits::GPU };
        GroupedPlan::new(&tree, &how, sizes, limits, &device()?).map_err(Error::backend(NAME, "plan"))
    };
    let whole = plan(1 << 20)?;
    assert_eq!(whole.key_sums.len(), 1);
    for limit in [1, 3000, 20_000] {
        let plan = plan(limit)?;
        let elements = |group: &Group| group.blocks * group.keys * sizes.kv_heads * sizes.dim;
        assert!(plan.groups.iter().all(|group| group.blocks == 1 || elements(group) <= limit));
        let mut rest = plan.groups.as_slice();
        for part in &plan.key_sums {
            let (groups, others) = rest.split_at(part.groups);
            assert!(groups.len() == 1 || groups.iter().map(elements).sum::<usize>() <= limit);
            rest = others;
        }
        assert!(rest.is_empty() && plan.key_sums.len() > 1, "{} parts", plan.key_sums.len());
    }
    Ok(())
}

/// Protects: attention whose scores candle's kernels could not count is refused.
#[test]
fn scores_beyond_32_bits_are_refused() -> Result<()> {
    let tree = tree(&[(1 << 16, None)])?;
    let last = [(1 << 16) - 1];
    let how = Attention { scale: 1.0, cap: None, mask: Mask::Causal { window: None }, queries: Some(&last) };
    for (heads, fits) in [((1 << 16) - 1, true), (1 << 16, false)] {
        let sizes = Sizes { kv_heads: 1, group: heads, dim: 1 };
        let plan = GroupedPlan::new(&tree, &how, sizes, Limits::GPU, &device()?);
        assert_eq!(plan.is_ok(), fits);
        let message = plan.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(fits || message.contains("1 queries of a sequence have 4294967296 scores"), "{message}");
    }
    Ok(())
}

#[test]
fn adamw_agrees_and_every_handle_sees_it() -> Result<()> {
    let backend = backend()?;
    let upload = |seed| backend.upload(&random(&[5, 7], seed)?, DType::F32);
    let slots = || -> Result<Slots> {
        Ok(Slots { param: upload(1)?.variable(), mean: upload(2)?, variance: upload(3)?.square()? })
    };
    let (fused, reference) = (slots()?, slots()?);
    let handles = [fused.param.clone(), fused.param.detach(), fused.param.variable()];
    let grad = upload(4)?;
    for step in 1..4 {
        let step = AdamWStep {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-6,
            weight_decay: 0.1,
            step,
            grad_scale: 0.5,
        };
        DeviceKernels.adamw(&step, &fused, &grad)?;
        Composed.adamw(&step, &reference, &grad)?;
    }
    let pairs = [(&fused.param, &reference.param), (&fused.mean, &reference.mean)];
    for (got, want) in pairs.into_iter().chain([(&fused.variance, &reference.variance)]) {
        for (got, want) in got.read()?.into_f32().into_iter().zip(want.read()?.into_f32()) {
            assert!((got - want).abs() <= 2e-6 * (1.0 + want.abs()), "{got}, {want}");
        }
    }
    for handle in &handles {
        assert_eq!(handle.read()?, fused.param.read()?);
    }
    let both = [&grad, &fused.mean];
    let want = Composed.sum_of_squares(&both)?;
    assert!((DeviceKernels.sum_of_squares(&both)? - want).abs() < 1e-5);
    Ok(())
}

/// Protects: a step over many parameters equals one step each, with every parameter's own decay.
#[test]
fn adamw_over_many_parameters_agrees() -> Result<()> {
    let backend = backend()?;
    let upload = |shape: [usize; 2], seed| backend.upload(&random(&shape, seed)?, DType::F32);
    let slots = |shape| -> Result<Slots> {
        let [param, mean, variance] = [upload(shape, 1)?, upload(shape, 2)?, upload(shape, 3)?.square()?];
        Ok(Slots { param, mean, variance })
    };
    let shapes = [[5, 7], [300, 150], [1, 1]];
    let mut updates = Vec::new();
    for (at, shape) in shapes.into_iter().enumerate() {
        let weight_decay = [0.1, 0.0, 0.3][at];
        let step =
            AdamWStep { lr: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-6, weight_decay, step: 4, grad_scale: 0.5 };
        updates.push(AdamWUpdate { step, slots: slots(shape)?, gradient: upload(shape, 4)? });
    }
    DeviceKernels.adamw_all(&updates)?;
    for (AdamWUpdate { step, slots: fused, gradient }, shape) in updates.iter().zip(shapes) {
        let reference = slots(shape)?;
        Composed.adamw(step, &reference, gradient)?;
        let pairs = [
            (&fused.param, &reference.param),
            (&fused.mean, &reference.mean),
            (&fused.variance, &reference.variance),
        ];
        for (got, want) in pairs {
            for (got, want) in got.read()?.into_f32().into_iter().zip(want.read()?.into_f32()) {
                assert!((got - want).abs() <= 2e-6 * (1.0 + want.abs()), "{shape:?}: {got}, {want}");
            }
        }
    }
    Ok(())
}

#[test]
fn bf16_primitives_keep_their_type_and_round_once() -> Result<()> {
    let device = device()?;
    let host = random(&[6, 40], 1)?;
    let x = tensor::upload(&host, DType::BF16, &device)?;
    assert_eq!((x.dtype(), x.kernels().name()), (DType::BF16, NAME));
    assert_eq!(x.read()?.to_f32(), host.to_f32());
    // 0.1 in bf16 is 0.10009765625: the product must be rounded, not the factor.
    let scaled = x.affine(0.1, 0.0)?.read()?.to_f32();
    let off: f32 = scaled.iter().zip(host.to_f32()).map(|(got, x)| got / (x * 0.1) - 1.0).sum();
    assert!((off / scaled.len() as f32).abs() < 4e-4, "products are off by {off} in sum");
    for op in [Unary::Exp, Unary::Sigmoid, Unary::Gelu] {
        assert_eq!(x.unary(op)?.dtype(), DType::BF16);
    }
    // Assigning reaches every handle, in bf16 too.
    let (other, handle) = (tensor::upload(&random(&[6, 40], 2)?, DType::BF16, &device)?, x.variable());
    x.assign(&other)?;
    assert_eq!(handle.read()?, other.read()?);
    Ok(())
}

#[test]
fn the_first_of_equal_elements_is_the_largest() -> Result<()> {
    let host = HostTensor::f32([2, 4], vec![1.0, 3.0, 3.0, 0.0, -1.0, -2.0, -1.0, -1.0])?;
    let x = tensor::upload(&host, DType::BF16, &device()?)?;
    assert_eq!(x.reduce(Reduce::ArgMax, 1)?.reshape([2])?.read()?, HostTensor::indices(vec![1, 0]));
    Ok(())
}

/// Protects: the position of the largest element exists even among NaN, and what is gathered there is NaN, so
/// that sampling from broken weights gives no token a finite log-probability.
#[test]
fn the_largest_of_nan_is_inside_the_tensor() -> Result<()> {
    let nan = f32::NAN;
    let rows = [[nan, nan, nan], [nan, 1.0, 2.0], [1.0, nan, 2.0], [0.0, 3.0, 1.0]];
    let host = HostTensor::f32([4, 3], rows.concat())?;
    for dtype in [DType::F32, DType::BF16] {
        let x = tensor::upload(&host, dtype, &device()?)?;
        let at = x.reduce(Reduce::ArgMax, 1)?;
        let HostData::U32(positions) = at.read()?.data().clone() else { panic!("positions are u32") };
        assert!(positions.iter().all(|at| *at < 3) && positions[3] == 1, "{dtype}: {positions:?}");
        let log_probs = x.gather(1, &at)?.sub(&x.log_sum_exp(1)?)?.read()?.to_f32();
        assert!(log_probs[..3].iter().all(|p| p.is_nan()), "{dtype}: {log_probs:?}");
        assert!(log_probs[3].is_finite(), "{dtype}: {log_probs:?}");
    }
    Ok(())
}

/// Protects: rows are written where they belong from any part of another tensor, and of the tensor itself.
#[test]
fn rows_are_written_from_any_part_of_a_tensor() -> Result<()> {
    let device = device()?;
    let values: Vec<f32> = (0..40).map(|at| at as f32).collect();
    for dtype in [DType::F32, DType::BF16] {
        let upload = |host: HostTensor| tensor::upload(&host, dtype, &device);
        let source = upload(HostTensor::f32([10, 4], values.clone())?)?;
        let rows =
            |x: &Tensor| -> Result<Vec<f32>> { Ok(x.read()?.to_f32().chunks(4).map(|row| row[0]).collect()) };
        // Two runs and a single row, from the middle of the source.
        let target = upload(HostTensor::f32([6, 2, 2], vec![-1.0; 24])?)?;
        target.write_rows(&[4, 5, 0, 2, 3], &source.narrow(0, 3, 5)?.reshape([5, 2, 2])?)?;
        assert_eq!(rows(&target)?, [20.0, -1.0, 24.0, 28.0, 12.0, 16.0], "{dtype}");
        assert_eq!(target.read()?.to_f32()[16..20], [12.0, 13.0, 14.0, 15.0], "{dtype}");
        // A source whose rows are not contiguous.
        let target = upload(HostTensor::f32([6, 2], vec![-1.0; 12])?)?;
        target.write_rows(&[5, 1], &source.narrow(1, 1, 2)?.narrow(0, 1, 2)?)?;
        let want = [-1.0, -1.0, 9.0, 10.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 5.0, 6.0];
        assert_eq!(target.read()?.to_f32(), want, "{dtype}");
        // Its own rows, which are read before any is overwritten.
        let target = upload(HostTensor::f32([6, 2, 2], values[..24].to_vec())?)?;
        target.write_rows(&[1, 2, 4, 0], &target.narrow(0, 0, 4)?)?;
        assert_eq!(rows(&target)?, [12.0, 0.0, 4.0, 12.0, 8.0, 20.0], "{dtype}");
    }
    Ok(())
}
