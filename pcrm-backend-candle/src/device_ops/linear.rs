//! x·Wᵀ + b and its gradients.

use candle_core as ct;

use super::float::column_sums;

/// Computes x `[rows, in]`, weight `[out, in]`, bias `[out]` → `[rows, out]`.
pub(crate) fn forward(
    x: &ct::Tensor,
    weight: &ct::Tensor,
    bias: Option<&ct::Tensor>,
) -> ct::Result<ct::Tensor> {
    let product = x.matmul(&weight.t()?)?;
    let Some(bias) = bias else { return Ok(product) };
    #[cfg(feature = "cuda")]
    if crate::cuda::recorded::add_bias(&product, bias)? {
        return Ok(product);
    }
    product.broadcast_add(bias)
}

/// Computes g·W `[rows, in]`, the gradient of x.
pub(crate) fn backward_x(gradient: &ct::Tensor, weight: &ct::Tensor) -> ct::Result<ct::Tensor> {
    gradient.contiguous()?.matmul(weight)
}

/// Computes gᵀ·x `[out, in]`, the gradient of W.
pub(crate) fn backward_weight(gradient: &ct::Tensor, x: &ct::Tensor) -> ct::Result<ct::Tensor> {
    gradient.contiguous()?.t()?.matmul(x)
}

/// Computes Σ g over the rows `[out]`, the gradient of b.
pub(crate) fn backward_bias(gradient: &ct::Tensor) -> ct::Result<ct::Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(sums) = crate::cuda::recorded::column_sums(gradient)? {
        return Ok(sums);
    }
    column_sums(gradient)
}
