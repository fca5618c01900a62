//! The proof of attention by one call on a GPU, in value and in all gradients.

use pcrm_core::tree::Packed;
use pcrm_core::{Attention, Mask, PlannedTree, Result, composed};
use tch::{Device, Kind, Tensor as Torch};

use super::fused::Fused;
use super::proof::{agree, every, random};
use crate::failed;
use crate::ops::attention::packed;

/// The heads of queries, those of keys, and the elements of a head.
type Sizes = [i64; 3];

/// Proves attention by one call, in both types.
pub(super) fn of_attention(fused: Option<&Fused>, device: Device) -> std::result::Result<(), String> {
    let small = on_small_tree(fused, device);
    small.and_then(|()| on_long_chains(fused, device)).map_err(|error| error.to_string())
}

/// All masks, with runs of several queries.
fn on_small_tree(fused: Option<&Fused>, device: Device) -> Result<()> {
    let mut batch = Packed::default();
    let prompt = batch.push(&[0; 70], None)?;
    let answer = batch.push(&[0; 9], Some(prompt))?;
    batch.push(&[0; 1], Some(prompt))?;
    batch.push(&[0; 30], Some(answer))?;
    batch.push(&[0; 5], None)?;
    let some = [3, 69, 70, 71, 100, 114];
    let causal = Mask::Causal { window: None };
    for (kind, mask, queries) in [
        (Kind::BFloat16, causal, None),
        (Kind::BFloat16, causal, Some(&some[..])),
        (Kind::BFloat16, Mask::Causal { window: Some(20) }, None),
        (Kind::BFloat16, Mask::Full, None),
        (Kind::BFloat16, Mask::Around { reach: 9 }, None),
        (Kind::Float, causal, None),
        (Kind::Float, causal, Some(&some[..])),
        (Kind::Float, Mask::Full, None),
    ] {
        let how = Attention { scale: 0.3, cap: None, mask, queries };
        attention(&PlannedTree::new(batch.tree.clone()), &how, [6, 2, 64], fused, (kind, device))?;
    }
    Ok(())
}

/// The sizes that make libtorch choose other kernels: heads of 128, and runs of one query each, as in the last layer
/// of a reward model, whose keys it divides among blocks where a run has more than 256 of them.
fn on_long_chains(fused: Option<&Fused>, device: Device) -> Result<()> {
    let mut batch = Packed::default();
    let prompt = batch.push(&[0; 400], None)?;
    batch.push(&[0; 300], Some(prompt))?;
    let ends = [3, 69, 300, 699];
    let [causal, near] = [None, Some(200)].map(|window| Mask::Causal { window });
    for (kind, mask, queries) in [
        (Kind::BFloat16, causal, Some(&ends[..])),
        (Kind::BFloat16, near, None),
        (Kind::BFloat16, near, Some(&ends[..])),
        (Kind::Float, causal, Some(&ends[..])),
    ] {
        // About 1/√128: the weights are spread over all keys, so that a lost part of them shows.
        let how = Attention { scale: 0.1, cap: None, mask, queries };
        attention(&PlannedTree::new(batch.tree.clone()), &how, [14, 2, 128], fused, (kind, device))?;
    }
    Ok(())
}

fn attention(
    tree: &PlannedTree,
    how: &Attention<'_>,
    [heads, kv_heads, dim]: Sizes,
    fused: Option<&Fused>,
    options: (Kind, Device),
) -> Result<()> {
    let rows = tree.rows() as i64;
    let asked = how.queries.map_or(rows, |queries| queries.len() as i64);
    let inputs = every([
        random(&[asked, heads, dim], options),
        random(&[rows, kv_heads, dim], options),
        random(&[rows, kv_heads, dim], options),
    ])?;
    let gradient = random(&[asked, heads, dim], options).map_err(failed("proof"))?;
    let err = || failed("attention");
    let plan = packed::plan(inputs.each_ref(), tree, how).map_err(err())?;
    let (plan, visible) =
        plan.ok_or_else(|| pcrm_core::Error::invalid("attention", "the plan is refused"))?;
    let (value, saved) = packed::forward(plan, visible, inputs.each_ref(), how.scale).map_err(err())?;
    let got = packed::backward(saved, inputs.each_ref(), &gradient, fused).map_err(err())?;
    let got: Vec<Torch> = std::iter::once(value).chain(got).collect();
    agree(options.0, &got, &inputs, &gradient, |qkv| match qkv {
        [q, k, v] => composed::attention([q, k, v], tree, how),
        _ => Err(pcrm_core::Error::invalid("attention", "three operands are needed")),
    })
}
