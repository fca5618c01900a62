//! Attention over a sequence tree, by the kernels of [`pcrm_core::slices::attention`].

use candle_core as ct;
use pcrm_core::Result;
use pcrm_core::slices::attention::{self, AttentionPlan};

use super::slices::{Pool, dense, floats, tensor};

/// Returns the attended values `[queries, heads, dim]` and ln Σ eˣ `[queries, heads]`.
pub(crate) fn forward(plan: &AttentionPlan, qkv: [&ct::Tensor; 3]) -> Result<(ct::Tensor, Vec<f32>)> {
    const OP: &str = "attention";
    let shape = qkv[0].dims();
    let (q, k, v) = (floats(OP, qkv[0])?, floats(OP, qkv[1])?, floats(OP, qkv[2])?);
    let (values, totals) = attention::forward(plan, &Pool, [&q, &k, &v])?;
    Ok((tensor(OP, values, shape)?, totals))
}

/// Computes the gradients of q, k and v, from the values, their gradient and ln Σ eˣ.
pub(crate) fn backward(
    plan: &AttentionPlan,
    qkv: [&ct::Tensor; 3],
    [values, gradient]: [&ct::Tensor; 2],
    totals: &[f32],
) -> Result<[ct::Tensor; 3]> {
    const OP: &str = "attention backward";
    let gradient = dense(OP, gradient)?;
    let (q, k, v) = (floats(OP, qkv[0])?, floats(OP, qkv[1])?, floats(OP, qkv[2])?);
    let (values, gradient) = (floats(OP, values)?, floats(OP, &gradient)?);
    let [d_q, d_k, d_v] = attention::backward(plan, &Pool, [&q, &k, &v], [&values, &gradient], totals)?;
    Ok([tensor(OP, d_q, qkv[0].dims())?, tensor(OP, d_k, qkv[1].dims())?, tensor(OP, d_v, qkv[2].dims())?])
}
