//! Softmax attention over a sequence tree, a few batched products at a time.
//!
//! Heads come first, `[kv_heads, rows, ..]`, and the query heads of one kv head are stacked as rows, so that
//! keys and values are never repeated. Of the scores only ln Σ eˣ of each row is kept; the backward
//! recomputes them.

pub(crate) mod plan;

use candle_core as ct;
use pcrm_core::Mask;

use self::plan::{Group, GroupedPlan, KeySums, NEVER, Sizes};
use super::float::{affine, single};

/// The additive mask of unseen keys. Finite, so that a fully masked row does not give NaN.
const MASKED: f64 = -1e30;

/// Computes q `[queries, heads, dim]`, k and v `[rows, kv_heads, dim]` → `[queries, heads, dim]`, and ln Σ eˣ
/// per group.
pub(crate) fn forward(
    plan: &GroupedPlan,
    [q, k, v]: [&ct::Tensor; 3],
) -> ct::Result<(ct::Tensor, Vec<ct::Tensor>)> {
    let [q, k, v] = [plan.by_head(&affine(q, plan.scale, 0.0)?)?, plan.by_head(k)?, plan.by_head(v)?];
    let (mut outputs, mut totals) = (Vec::new(), Vec::new());
    for group in &plan.groups {
        let queries = plan.queries_of(group, &q)?;
        let scores = plan.scores(group, &queries, &plan.keys_of(group, &k)?)?;
        let top = scores.max_keepdim(2)?;
        let weights = scores.broadcast_sub(&top)?.exp()?;
        let sum = weights.sum_keepdim(2)?;
        let mixed = single(&weights.to_dtype(v.dtype())?.matmul(&plan.keys_of(group, &v)?)?)?;
        outputs.push(plan.flat(&mixed.broadcast_div(&sum)?.to_dtype(v.dtype())?)?);
        totals.push(top.add(&sum.log()?)?);
    }
    Ok((plan.to_queries(&outputs)?, totals))
}

/// Computes the gradients of q, k and v: with P the probabilities, dV = Pᵀ·dO, dS = P ∘ (dO·Vᵀ − Σ dO∘O), dQ
/// = dS·K, dK = dSᵀ·Q.
pub(crate) fn backward(
    plan: &GroupedPlan,
    [q, k, v]: [&ct::Tensor; 3],
    [attended, gradient]: [&ct::Tensor; 2],
    totals: &[ct::Tensor],
) -> ct::Result<[ct::Tensor; 3]> {
    let dtype = q.dtype();
    let level = single(attended)?.mul(&single(gradient)?)?.sum_keepdim(2)?;
    let [q, k, v] = [plan.by_head(&affine(q, plan.scale, 0.0)?)?, plan.by_head(k)?, plan.by_head(v)?];
    let [gradient, level] = [plan.by_head(gradient)?, plan.by_head(&level)?];
    let (mut d_q, mut d_k, mut d_v) = (Vec::new(), None, None);
    let mut groups = plan.groups.iter().zip(totals);
    for part in &plan.key_sums {
        let (mut of_k, mut of_v) = (Vec::new(), Vec::new());
        for (group, total) in groups.by_ref().take(part.groups) {
            let (queries, keys) = (plan.queries_of(group, &q)?, plan.keys_of(group, &k)?);
            let gradient = plan.queries_of(group, &gradient)?;
            let level = plan.queries_of(group, &level)?;
            let weights = plan.scores(group, &queries, &keys)?.broadcast_sub(total)?.exp()?;
            of_v.push(plan.flat_keys(&weights.to_dtype(dtype)?.transpose(1, 2)?.matmul(&gradient)?)?);
            let slope = single(&gradient.matmul(&plan.keys_of(group, &v)?.transpose(1, 2)?)?)?;
            let d_scores = weights.mul(&slope.broadcast_sub(&level)?)?.to_dtype(dtype)?;
            d_q.push(plan.flat(&d_scores.matmul(&keys)?)?);
            of_k.push(plan.flat_keys(&d_scores.transpose(1, 2)?.matmul(&queries)?)?);
        }
        d_k = Some(part.add(d_k, &of_k)?);
        d_v = Some(part.add(d_v, &of_v)?);
    }
    let d_q = affine(&plan.to_queries(&d_q)?, plan.scale, 0.0)?;
    let by_row = |sums: Option<ct::Tensor>| match sums {
        Some(sums) => sums.transpose(0, 1)?.contiguous()?.to_dtype(dtype),
        None => ct::bail!("attention without queries has no gradient"),
    };
    Ok([d_q, by_row(d_k)?, by_row(d_v)?])
}

impl KeySums {
    /// Sums the keys of the groups into the rows of the batch in f32, `[kv_heads, rows, dim]`, and adds the
    /// sums of earlier groups.
    fn add(&self, earlier: Option<ct::Tensor>, groups: &[ct::Tensor]) -> ct::Result<ct::Tensor> {
        let sums = self.sums.add_up(&single(&ct::Tensor::cat(groups, 1)?)?)?;
        match earlier {
            Some(earlier) => earlier.add(&sums),
            None => Ok(sums),
        }
    }
}

impl GroupedPlan {
    /// Reshapes `[rows, heads, width]` → `[kv_heads, rows, heads / kv_heads · width]`.
    fn by_head(&self, x: &ct::Tensor) -> ct::Result<ct::Tensor> {
        let rows = x.dims()[0];
        x.reshape((rows, self.sizes.kv_heads, ()))?.transpose(0, 1)?.contiguous()
    }

    /// Gathers the queries of a group, `[kv_heads · blocks, queries · heads / kv_heads, width]`; padding is
    /// zero.
    fn queries_of(&self, group: &Group, x: &ct::Tensor) -> ct::Result<ct::Tensor> {
        let Self { sizes, .. } = self;
        let shape = (sizes.kv_heads * group.blocks, group.queries * sizes.group, ());
        x.index_select(&group.query_rows, 1)?.reshape(shape)
    }

    /// Gathers the keys or values of a group, `[kv_heads · blocks, keys, dim]`; padding is zero.
    fn keys_of(&self, group: &Group, x: &ct::Tensor) -> ct::Result<ct::Tensor> {
        let shape = (self.sizes.kv_heads * group.blocks, group.keys, self.sizes.dim);
        x.index_select(&group.key_rows, 1)?.reshape(shape)
    }

    /// Computes the masked scores in f32, `[kv_heads · blocks, queries · heads / kv_heads, keys]`, of scaled
    /// queries.
    fn scores(&self, group: &Group, queries: &ct::Tensor, keys: &ct::Tensor) -> ct::Result<ct::Tensor> {
        let scores = single(&queries.matmul(&keys.transpose(1, 2)?)?)?;
        let Self { sizes, .. } = self;
        let apart = (sizes.kv_heads, group.blocks, group.queries, sizes.group, group.keys);
        let newest = match self.mask {
            Mask::Causal { .. } => group.query_positions.clone(),
            Mask::Full => group.query_positions.affine(0.0, f64::from(NEVER) / 2.0)?,
            Mask::Around { reach } => group.query_positions.affine(1.0, reach as f64)?,
        };
        let mut seen = group.key_positions.broadcast_le(&newest)?.to_dtype(ct::DType::F32)?;
        let back = match self.mask {
            Mask::Causal { window } => window,
            Mask::Around { reach } => Some(reach + 1),
            Mask::Full => None,
        };
        if let Some(back) = back {
            let oldest = group.query_positions.affine(1.0, -(back as f64))?;
            let near = group.key_positions.broadcast_gt(&oldest)?;
            seen = seen.mul(&near.to_dtype(ct::DType::F32)?)?;
        }
        let mask = seen.affine(-MASKED, MASKED)?; // [blocks, queries, 1, keys]
        let together = scores.shape();
        scores.reshape(apart)?.broadcast_add(&mask)?.reshape(together)
    }

    /// Reshapes a group's queries to `[kv_heads, blocks · queries, heads / kv_heads · dim]`.
    fn flat(&self, x: &ct::Tensor) -> ct::Result<ct::Tensor> {
        x.reshape((self.sizes.kv_heads, (), self.sizes.group * self.sizes.dim))
    }

    /// Reshapes a group's keys to `[kv_heads, blocks · keys, dim]`.
    fn flat_keys(&self, x: &ct::Tensor) -> ct::Result<ct::Tensor> {
        x.reshape((self.sizes.kv_heads, (), self.sizes.dim))
    }

    /// Reorders the groups' queries into the order of the batch, `[queries, heads, dim]`.
    fn to_queries(&self, parts: &[ct::Tensor]) -> ct::Result<ct::Tensor> {
        let ordered = ct::Tensor::cat(parts, 1)?.index_select(&self.places, 1)?;
        let Sizes { kv_heads, group, dim } = self.sizes;
        ordered.transpose(0, 1)?.contiguous()?.reshape(((), kv_heads * group, dim))
    }
}
