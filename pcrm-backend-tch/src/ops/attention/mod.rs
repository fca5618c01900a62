//! Attention over a sequence tree.
//!
//! On the CPU: the kernels of [`pcrm_core::slices::attention`], in f32 whatever the type. On CUDA: all
//! segments by one call (see `packed.rs`), or libtorch's `scaled_dot_product_attention`, segment by segment
//! (see `segments.rs`).

pub(crate) mod packed;
mod segments;

use std::sync::Arc;

use pcrm_core::slices::attention::{self, AttentionPlan, Sizes};
use pcrm_core::{Attention, PlannedTree, Result};
use tch::{Device, Tensor as Torch};

use super::history::Graph;
use super::slices::{Floats, Workers, tensor};
use crate::{cuda, failed};

const OP: &str = "attention";

/// A plan and the results of its forward.
pub(crate) struct Tiles {
    plan: Arc<AttentionPlan>,
    /// `[queries, heads, dim]`
    attended: Vec<f32>,
    /// ln Σ eˣ, `[queries, heads]`
    totals: Vec<f32>,
}

/// The state of the forward that the backward needs.
pub(crate) enum Saved {
    /// The state of the tiled kernels.
    Tiles(Tiles),
    /// The state of attention by one call.
    Packed(Box<packed::Saved>),
    /// libtorch's own history.
    Segments(Graph),
}

/// Computes q `[queries, heads, dim]`, k and v `[rows, kv_heads, dim]` → `[queries, heads, dim]`; saves
/// nothing unless it `keeps`.
pub(crate) fn forward(
    qkv: [&Torch; 3],
    tree: &PlannedTree,
    how: &Attention<'_>,
    sizes: Sizes,
    keeps: bool,
) -> Result<(Torch, Option<Saved>)> {
    if cuda::has_packed_attention(qkv[0])
        && let Some((plan, visible)) = packed::plan(qkv, tree, how).map_err(failed(OP))?
    {
        let (value, saved) = packed::forward(plan, visible, qkv, how.scale).map_err(failed(OP))?;
        return Ok((value, keeps.then(|| Saved::Packed(Box::new(saved)))));
    }
    if qkv[0].device() != Device::Cpu {
        let (value, graph) = segments::forward(qkv, tree, how, keeps).map_err(failed(OP))?;
        return Ok((value, graph.map(Saved::Segments)));
    }
    let plan = AttentionPlan::shared(tree, how, sizes);
    let [q, k, v] = [Floats::of(qkv[0])?, Floats::of(qkv[1])?, Floats::of(qkv[2])?];
    let (attended, totals) = attention::forward(&plan, &Workers, [&q, &k, &v])?;
    let value = tensor(&attended, &qkv[0].size()).and_then(|value| value.f_to_kind(qkv[0].kind()));
    Ok((value.map_err(failed(OP))?, keeps.then_some(Saved::Tiles(Tiles { plan, attended, totals }))))
}

/// Computes the gradients of q, k and v.
pub(crate) fn backward(saved: Saved, qkv: [&Torch; 3], gradient: &Torch) -> Result<[Torch; 3]> {
    const OP: &str = "attention backward";
    let Tiles { plan, attended, totals } = match saved {
        Saved::Tiles(tiles) => tiles,
        Saved::Packed(saved) => {
            let fused = cuda::fused(qkv[0]);
            return packed::backward(*saved, qkv, gradient, fused).map_err(failed(OP));
        }
        Saved::Segments(graph) => return graph.backward(gradient).map_err(failed(OP)),
    };
    let [q, k, v] = [Floats::of(qkv[0])?, Floats::of(qkv[1])?, Floats::of(qkv[2])?];
    let gradient = Floats::of(gradient)?;
    let [d_q, d_k, d_v] =
        attention::backward(&plan, &Workers, [&q, &k, &v], [&attended, &gradient], &totals)?;
    let back = |values: &[f32], of: &Torch| {
        tensor(values, &of.size()).and_then(|values| values.f_to_kind(of.kind())).map_err(failed(OP))
    };
    Ok([back(&d_q, qkv[0])?, back(&d_k, qkv[1])?, back(&d_v, qkv[2])?])
}
