//! Every fused operation, on shapes that take different paths in implementations: few rows, many rows, ragged
//! trees.

use anyhow::Result;
use pcrm_core::kernels::{Ask, Attention, Mask};
use pcrm_core::tensor::Unary;
use pcrm_core::tree::Segment;
use pcrm_core::{DType, HostTensor, Kernels, SequenceTree, Tensor};

use super::{Case, ids};
use crate::support::random;

const TOLERANCE: f32 = 2e-6; // f32 sums in another order
const LONG: f32 = 2e-5; // sums over hundreds of rows

pub fn all() -> Result<Vec<Case>> {
    let tables = [linear()?, norms()?, activations()?, rotary()?, embedding()?, token_stats()?, attention()?];
    Ok(tables.into_iter().flatten().collect())
}

/// One row, few rows, few outputs, and enough of both for fast paths.
pub fn linear() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (rows, outputs) in [(1, 5), (1, 20), (3, 1), (7, 20), (8, 8), (200, 1), (150, 33)] {
        let inputs = [random(&[rows, 24], 1)?, random(&[outputs, 24], 2)?, random(&[outputs], 3)?];
        let name = format!("linear, {rows} rows to {outputs}");
        cases.push(Case::new(format!("{name}, no bias"), &inputs[..2], LONG, |k, x| {
            k.linear(&x[0], &x[1], None)
        }));
        cases.push(Case::new(name, inputs, LONG, |k, x| k.linear(&x[0], &x[1], Some(&x[2]))));
    }
    Ok(cases)
}

pub fn norms() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (rows, width) in [(1, 3), (5, 16), (130, 40)] {
        let inputs = [random(&[rows, width], 1)?, random(&[width], 2)?, random(&[width], 3)?];
        cases.push(Case::new(format!("rms_norm, {rows}×{width}"), &inputs[..2], LONG, |k, x| {
            k.rms_norm(&x[0], &x[1], 1e-5)
        }));
        let with_addend = [inputs[0].clone(), random(&[rows, width], 4)?, inputs[1].clone()];
        cases.push(Case::new(format!("add_rms_norm, {rows}×{width}"), with_addend, LONG, |k, x| {
            let [sum, normed] = k.add_rms_norm(&x[0], &x[1], &x[2], 1e-5)?;
            sum.mul(&normed)
        }));
        cases.push(Case::new(format!("layer_norm, {rows}×{width}"), inputs, LONG, |k, x| {
            k.layer_norm(&x[0], &x[1], &x[2], 1e-5)
        }));
    }
    Ok(cases)
}

pub fn activations() -> Result<Vec<Case>> {
    let pair = [random(&[70, 9], 1)?, random(&[70, 9], 2)?];
    let mut cases = Vec::new();
    for op in [Unary::Gelu, Unary::GeluTanh] {
        cases.push(Case::new(format!("{op:?}"), &pair[..1], TOLERANCE, move |k, x| k.gelu(&x[0], op)));
    }
    cases.push(Case::new("swiglu", pair, TOLERANCE, |k, x| k.swiglu(&x[0], &x[1])));
    Ok(cases)
}

pub fn rotary() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (rows, heads, dim) in [(1, 1, 2), (70, 3, 8)] {
        let (cos, sin) = (random(&[rows, dim / 2], 3)?, random(&[rows, dim / 2], 4)?);
        let name = format!("rotary, {rows}×{heads}×{dim}");
        cases.push(Case::new(name, [random(&[rows, heads, dim], 5)?], TOLERANCE, move |k, x| {
            let angles = |host| x[0].constant(host)?.cast(x[0].dtype());
            k.rotary(&x[0], &angles(&cos)?, &angles(&sin)?)
        }));
    }
    Ok(cases)
}

/// The gradients of repeated ids add up.
pub fn embedding() -> Result<Vec<Case>> {
    Ok(vec![Case::new("embedding", [random(&[6, 5], 6)?], TOLERANCE, |k, x| {
        k.embedding(&x[0], &ids(&x[0], &[5, 0, 5, 2, 5, 0])?)
    })])
}

/// Log-probabilities of fewer rows than a chunk and of more; rows in any order, some repeated; temperatures,
/// caps and entropies.
pub fn token_stats() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for rows in [1u32, 40, 300, 1100] {
        let inputs = [random(&[rows as usize, 12], 1)?, random(&[37, 12], 2)?];
        let every: Vec<u32> = (0..rows).collect();
        // Half of the rows, and the row at a quarter three more times.
        let some: Vec<u32> = (0..rows).rev().step_by(2).chain([rows / 4, rows / 4, rows / 4]).collect();
        for (which, asked) in [("every row", every), ("some rows", some)] {
            let targets: Vec<u32> =
                (0..asked.len() as u32).map(|at| if at % 5 == 4 { 3 } else { at * 7 % 37 }).collect();
            let (asked_of, targets_of) = (asked.clone(), targets.clone());
            let name = format!("token_stats, {which} of {rows}");
            cases.push(Case::new(format!("{name}, log-probabilities"), &inputs[..], LONG, move |k, x| {
                Ok(k.token_stats(&x[0], &x[1], &Ask::log_probs(&asked_of, &targets_of))?.log_probs)
            }));
            for (temperature, soft_cap, entropy) in
                [(0.6, None, false), (1.0, Some(1.5), false), (1.0, None, true), (0.8, Some(2.0), true)]
            {
                let (rows, targets) = (asked.clone(), targets.clone());
                let name = format!("{name}, temperature {temperature}, cap {soft_cap:?}, entropy {entropy}");
                cases.push(Case::new(name, &inputs[..], LONG, move |k, x| {
                    let ask = Ask { rows: &rows, targets: &targets, temperature, soft_cap, entropy };
                    let stats = k.token_stats(&x[0], &x[1], &ask)?;
                    match &stats.entropy {
                        Some(entropies) => Tensor::concat(&[&stats.log_probs, entropies], 0),
                        None => Ok(stats.log_probs),
                    }
                }));
            }
        }
    }
    Ok(cases)
}

/// Makes a tree of segments with these lengths and parents.
pub fn tree(parts: &[(usize, Option<usize>)]) -> Result<SequenceTree> {
    let mut next = 0;
    let segments = parts.iter().map(|(length, parent)| {
        next += length;
        Segment { rows: next - length..next, parent: *parent }
    });
    Ok(SequenceTree::new(segments.collect())?)
}

fn trees() -> Result<Vec<(&'static str, SequenceTree)>> {
    Ok(vec![
        ("one token", tree(&[(1, None)])?),
        ("one-token answers", tree(&[(3, None), (1, Some(0)), (1, Some(0))])?),
        ("a one-token prompt", tree(&[(1, None), (1, Some(0)), (4, Some(0))])?),
        ("a pair and a text", tree(&[(5, None), (7, Some(0)), (2, Some(0)), (9, None)])?),
        (
            "four children and a grandchild",
            tree(&[(4, None), (2, Some(0)), (3, Some(0)), (1, Some(0)), (6, Some(0)), (3, Some(2))])?,
        ),
        (
            "turns of two dialogues, the second with eight answers",
            tree(
                &[
                    &[(3, None), (2, Some(0)), (4, Some(1)), (1, Some(2)), (2, Some(2)), (5, None)][..],
                    &[1, 2, 3, 1, 9, 2, 1, 5].map(|length| (length, Some(5))),
                ]
                .concat(),
            )?,
        ),
        ("longer than a tile", tree(&[(61, None), (70, Some(0)), (5, Some(0)), (130, None)])?),
    ])
}

pub fn attention() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, tree) in trees()? {
        for (heads, kv_heads) in [(2, 2), (4, 2), (3, 1)] {
            for mask in [
                Mask::Causal { window: None },
                Mask::Causal { window: Some(6) },
                Mask::Full,
                Mask::Around { reach: 3 },
            ] {
                let rows = tree.rows();
                let asked: Vec<usize> = (0..rows).filter(|row| row % 3 == 0 || row + 1 == rows).collect();
                for (asked, cap) in
                    [(None, None), (Some(asked.clone()), None), (None, Some(1.5)), (Some(asked), Some(3.0))]
                {
                    let queries = asked.as_ref().map_or(rows, Vec::len);
                    let inputs = [
                        random(&[queries, heads, 8], 1)?,
                        random(&[rows, kv_heads, 8], 2)?,
                        random(&[rows, kv_heads, 8], 3)?,
                    ];
                    let which = if asked.is_some() { "some" } else { "all" };
                    let name = format!(
                        "attention, {name}, {heads}/{kv_heads} heads, {mask:?}, {which} queries, cap {cap:?}"
                    );
                    let tree = tree.clone();
                    cases.push(Case::new(name, inputs, LONG, move |k, x| {
                        let how = Attention { scale: 0.7, cap, mask, queries: asked.as_deref() };
                        k.attention([&x[0], &x[1], &x[2]], &tree.clone().into(), &how)
                    }));
                }
            }
        }
    }
    Ok(cases)
}

/// Batches without rows, which have no values to compare.
pub fn empty() -> Result<Vec<Case>> {
    let new = |name,
               inputs: Vec<HostTensor>,
               operation: fn(&dyn Kernels, &[Tensor]) -> pcrm_core::Result<Tensor>| {
        Case::new(format!("{name} of no rows"), inputs, 0.0, operation)
    };
    let (rows, wide) = (random(&[0, 8], 1)?, random(&[0, 2, 8], 1)?);
    let (matrix, vector) = (random(&[5, 8], 2)?, random(&[8], 3)?);
    let heads = random(&[3, 2, 8], 4)?;
    Ok(vec![
        new("linear", vec![rows.clone(), matrix.clone()], |k, x| k.linear(&x[0], &x[1], None)),
        new("rms_norm", vec![rows.clone(), vector.clone()], |k, x| k.rms_norm(&x[0], &x[1], 1e-5)),
        new("layer_norm", vec![rows.clone(), vector.clone(), vector], |k, x| {
            k.layer_norm(&x[0], &x[1], &x[2], 1e-5)
        }),
        new("swiglu", vec![rows.clone(), rows.clone()], |k, x| k.swiglu(&x[0], &x[1])),
        new("gelu", vec![rows.clone()], |k, x| k.gelu(&x[0], Unary::Gelu)),
        new("rotary", vec![wide.clone()], |k, x| {
            let angles = x[0].constant(&HostTensor::f32([0, 4], Vec::new())?)?;
            k.rotary(&x[0], &angles, &angles)
        }),
        new("embedding", vec![matrix.clone()], |k, x| k.embedding(&x[0], &ids(&x[0], &[])?)),
        new("token_stats", vec![rows, matrix], |k, x| {
            Ok(k.token_stats(&x[0], &x[1], &Ask::log_probs(&[], &[]))?.log_probs)
        }),
        new("attention", vec![wide.clone(), wide.clone(), wide.clone()], |k, x| {
            let how = Attention { scale: 0.7, cap: None, mask: Mask::Causal { window: None }, queries: None };
            k.attention([&x[0], &x[1], &x[2]], &SequenceTree::default().into(), &how)
        }),
        new("attention with queries", vec![wide, heads.clone(), heads], |k, x| {
            let how =
                Attention { scale: 0.7, cap: None, mask: Mask::Causal { window: None }, queries: Some(&[]) };
            k.attention([&x[0], &x[1], &x[2]], &SequenceTree::sequence(3)?.into(), &how)
        }),
    ])
}

/// Returns the type of a fused operation's result for operands of this type.
pub fn result(name: &str, operands: DType) -> DType {
    if name.starts_with("token_stats") { DType::F32 } else { operands }
}
