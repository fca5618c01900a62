//! Each fused operation of every backend against the composed reference, in value and in every gradient.

use anyhow::{Context, Result, ensure};
use pcrm_core::kernels::{AdamWStep, Attention, Composed, Slots};
use pcrm_core::tensor::Unary;
use pcrm_core::tree::Segment;
use pcrm_core::{Backend, DType, HostTensor, Kernels, SequenceTree, Tensor};

use crate::support::{check_close, every_backend, random, value_and_gradients};

const TOLERANCE: f32 = 2e-6; // f32 sums in another order
const LONG: f32 = 2e-5; // sums over hundreds of rows

/// A fused operation, given the kernels that compute it.
type Fused<'a> = &'a dyn Fn(&dyn Kernels, &[Tensor]) -> pcrm_core::Result<Tensor>;

fn agree(
    backend: &dyn Backend,
    what: &str,
    inputs: &[HostTensor],
    tolerance: f32,
    op: Fused<'_>,
) -> Result<()> {
    let (want, want_gradients) = value_and_gradients(backend, inputs, &|x| op(&Composed, x))?;
    let (got, got_gradients) = value_and_gradients(backend, inputs, &|x| op(x[0].kernels(), x))?;
    check_close(&format!("{what}: value"), &got, &want, tolerance)?;
    for (at, (got, want)) in got_gradients.iter().zip(&want_gradients).enumerate() {
        check_close(&format!("{what}: gradient of operand {at}"), got, want, tolerance)?;
    }
    Ok(())
}

fn ids(x: &Tensor, ids: &[u32]) -> pcrm_core::Result<Tensor> {
    x.constant(&HostTensor::indices(ids.to_vec()))
}

#[test]
fn linear_layers_agree_at_every_height() -> Result<()> {
    every_backend(|backend| {
        // One row, few rows, few outputs, and enough of both for the fast paths.
        for (rows, outputs) in [(1, 5), (1, 20), (3, 1), (7, 20), (8, 8), (200, 1), (150, 33)] {
            let inputs = [random(&[rows, 24], 1)?, random(&[outputs, 24], 2)?, random(&[outputs], 3)?];
            agree(backend, "linear", &inputs, LONG, &|k, x| k.linear(&x[0], &x[1], Some(&x[2])))?;
            agree(backend, "linear", &inputs[..2], LONG, &|k, x| k.linear(&x[0], &x[1], None))?;
        }
        Ok(())
    })
}

#[test]
fn norms_agree() -> Result<()> {
    every_backend(|backend| {
        for (rows, width) in [(1, 3), (5, 16), (130, 40)] {
            let inputs = [random(&[rows, width], 1)?, random(&[width], 2)?, random(&[width], 3)?];
            agree(backend, "rms_norm", &inputs[..2], LONG, &|k, x| k.rms_norm(&x[0], &x[1], 1e-5))?;
            agree(backend, "layer_norm", &inputs, LONG, &|k, x| k.layer_norm(&x[0], &x[1], &x[2], 1e-5))?;
        }
        Ok(())
    })
}

#[test]
fn activations_rotary_and_embedding_agree() -> Result<()> {
    every_backend(|backend| {
        let pair = [random(&[70, 9], 1)?, random(&[70, 9], 2)?];
        agree(backend, "swiglu", &pair, TOLERANCE, &|k, x| k.swiglu(&x[0], &x[1]))?;
        for op in [Unary::Gelu, Unary::GeluTanh] {
            agree(backend, "gelu", &pair[..1], TOLERANCE, &|k, x| k.gelu(&x[0], op))?;
        }
        let (cos, sin) = (random(&[70, 4], 3)?, random(&[70, 4], 4)?);
        agree(backend, "rotary", &[random(&[70, 3, 8], 5)?], TOLERANCE, &|k, x| {
            k.rotary(&x[0], &x[0].constant(&cos)?, &x[0].constant(&sin)?)
        })?;
        // Ids that come more than once add up.
        agree(backend, "embedding", &[random(&[6, 5], 6)?], TOLERANCE, &|k, x| {
            k.embedding(&x[0], &ids(&x[0], &[5, 0, 5, 2, 5, 0])?)
        })
    })
}

#[test]
fn log_probs_agree_over_chunks() -> Result<()> {
    every_backend(|backend| {
        for rows in [1, 40, 300] {
            let inputs = [random(&[rows, 12], 1)?, random(&[37, 12], 2)?];
            let targets: Vec<u32> = (0..rows as u32).map(|row| row * 7 % 37).collect();
            agree(backend, "log_probs", &inputs, LONG, &|k, x| {
                k.log_probs(&x[0], &x[1], &ids(&x[0], &targets)?)
            })?;
        }
        Ok(())
    })
}

fn tree(parts: &[(usize, Option<usize>)]) -> Result<SequenceTree> {
    let mut next = 0;
    let segments = parts.iter().map(|(length, parent)| {
        next += length;
        Segment { rows: next - length..next, parent: *parent }
    });
    Ok(SequenceTree::new(segments.collect())?)
}

#[test]
fn attention_agrees_over_ragged_trees() -> Result<()> {
    let trees = [
        ("one token", tree(&[(1, None)])?),
        ("one-token answers", tree(&[(3, None), (1, Some(0)), (1, Some(0))])?),
        ("a pair and a text", tree(&[(5, None), (7, Some(0)), (2, Some(0)), (9, None)])?),
        (
            "four children and a grandchild",
            tree(&[(4, None), (2, Some(0)), (3, Some(0)), (1, Some(0)), (6, Some(0)), (3, Some(2))])?,
        ),
        ("longer than a tile", tree(&[(61, None), (70, Some(0)), (5, Some(0)), (130, None)])?),
    ];
    every_backend(|backend| {
        for (what, tree) in &trees {
            for (heads, kv_heads) in [(2, 2), (4, 2), (3, 1)] {
                for window in [None, Some(6)] {
                    let rows = tree.rows();
                    let qkv = [
                        random(&[rows, heads, 8], 1)?,
                        random(&[rows, kv_heads, 8], 2)?,
                        random(&[rows, kv_heads, 8], 3)?,
                    ];
                    let all = Attention { scale: 0.7, window, queries: None };
                    let what = format!("{what}, {heads}/{kv_heads} heads, window {window:?}");
                    agree(backend, &what, &qkv, LONG, &|k, x| {
                        k.attention([&x[0], &x[1], &x[2]], tree, &all)
                    })?;

                    let asked: Vec<usize> = (0..rows).filter(|row| row % 3 == 0 || row + 1 == rows).collect();
                    let some = Attention { queries: Some(&asked), ..all };
                    let qkv = [random(&[asked.len(), heads, 8], 4)?, qkv[1].clone(), qkv[2].clone()];
                    let what = format!("{what}, some queries");
                    agree(backend, &what, &qkv, LONG, &|k, x| {
                        k.attention([&x[0], &x[1], &x[2]], tree, &some)
                    })?;
                }
            }
        }
        Ok(())
    })
}

#[test]
fn a_row_has_the_same_bits_whatever_stands_beside_it() -> Result<()> {
    every_backend(|backend| {
        let upload = |host: &HostTensor| backend.upload(host, DType::F32);
        // Linear: the first rows alone, and among others.
        for (width, outputs) in [(40, 1), (40, 24), (600, 64), (600, 65), (1100, 128)] {
            let (x, w) = (upload(&random(&[300, width], 1)?)?, upload(&random(&[outputs, width], 2)?)?);
            let whole = x.kernels().linear(&x, &w, None)?.read()?.into_f32();
            for rows in [1, 2, 3, 7, 8, 9, 64, 65, 129] {
                let part = x.kernels().linear(&x.narrow(0, 0, rows)?, &w, None)?.read()?.into_f32();
                ensure!(part == whole[..part.len()], "linear: {rows} rows of {width} have other bits");
            }
        }
        // Attention: a prompt shared by two answers, and each answer's sequence alone.
        let lengths = [(1, 1, 1), (5, 3, 7), (9, 1, 1), (30, 50, 3), (64, 64, 65), (300, 400, 250)];
        let cases = lengths
            .into_iter()
            .flat_map(|lengths| [(4, 2, 8), (4, 2, 6), (2, 2, 16), (3, 1, 80)].map(|sizes| (lengths, sizes)));
        for ((prompt, first, second), (heads, kv_heads, dim)) in cases {
            let shared = tree(&[(9, None), (prompt, None), (first, Some(1)), (second, Some(1))])?;
            let rows = shared.rows();
            let qkv = [
                random(&[rows, heads, dim], 1)?,
                random(&[rows, kv_heads, dim], 2)?,
                random(&[rows, kv_heads, dim], 3)?,
            ];
            let qkv = [upload(&qkv[0])?, upload(&qkv[1])?, upload(&qkv[2])?];
            let how = Attention { scale: 0.35, window: None, queries: None };
            let packed = qkv[0].kernels().attention(qkv.each_ref(), &shared, &how)?;
            let prompt_rows = 9..9 + prompt;
            let alone_rows = |answer: std::ops::Range<usize>| -> Result<[Tensor; 3]> {
                let cut = |x: &Tensor| -> pcrm_core::Result<Tensor> {
                    let prompt = x.narrow(0, prompt_rows.start, prompt)?;
                    Tensor::concat(&[&prompt, &x.narrow(0, answer.start, answer.len())?], 0)
                };
                Ok([cut(&qkv[0])?, cut(&qkv[1])?, cut(&qkv[2])?])
            };
            let begin = 9 + prompt;
            for answer in [begin..begin + first, begin + first..begin + first + second] {
                let alone = alone_rows(answer.clone())?;
                let sequence = SequenceTree::sequence(prompt + answer.len())?;
                let values = qkv[0].kernels().attention(alone.each_ref(), &sequence, &how)?;
                let got = packed.narrow(0, answer.start, answer.len())?.read()?.into_f32();
                let want = values.narrow(0, prompt, answer.len())?.read()?.into_f32();
                ensure!(
                    got == want,
                    "attention: a shared prompt of {prompt}, then {answer:?}, {heads}/{kv_heads} heads of {dim}, gives other bits"
                );
            }
        }
        Ok(())
    })
}

#[test]
fn adamw_agrees_and_updates_in_place() -> Result<()> {
    every_backend(|backend| {
        let upload = |seed| -> Result<Tensor> { Ok(backend.upload(&random(&[5, 7], seed)?, DType::F32)?) };
        let slots = || -> Result<Slots> {
            Ok(Slots { param: upload(1)?, mean: upload(2)?, variance: upload(3)?.square()? })
        };
        let (fused, reference) = (slots()?, slots()?);
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
            grad.kernels().adamw(&step, &fused, &grad)?;
            Composed.adamw(&step, &reference, &grad)?;
        }
        let pairs = [
            (&fused.param, &reference.param),
            (&fused.mean, &reference.mean),
            (&fused.variance, &reference.variance),
        ];
        for (got, want) in pairs {
            check_close("adamw", &got.read()?.into_f32(), &want.read()?.into_f32(), TOLERANCE)?;
        }
        let squares = grad.read()?.into_f32().iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        let got = grad.kernels().sum_of_squares(&[&grad, &grad])?;
        ensure!(
            (got - 2.0 * squares).abs() < 1e-6 * squares,
            "sum of squares: {got}, expected {}",
            2.0 * squares
        );
        Ok(())
    })
    .context("adamw")
}
