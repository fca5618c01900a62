//! Embedding lookup: rows of a table, and the gradient that sums rows back into it.

use candle_core as ct;

use super::float::single;
use super::row_sums::RowSums;

/// Looks up table `[vocabulary, width]` at ids → `[rows, width]`.
pub(crate) fn forward(table: &ct::Tensor, ids: &ct::Tensor) -> ct::Result<ct::Tensor> {
    table.index_select(ids, 0)
}

/// Computes the gradient of the table, which is zero except at the ids, summed in f32.
pub(crate) fn backward(gradient: &ct::Tensor, ids: &[u32], vocabulary: usize) -> ct::Result<ct::Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(table) = crate::cuda::recorded::row_sums(gradient, ids, vocabulary)? {
        return Ok(table);
    }
    let (rows, width) = gradient.dims2()?;
    let sums = RowSums::new(ids, vocabulary, gradient.device())?;
    let table = sums.add_up(&single(gradient)?.reshape((1, rows, width))?)?;
    table.reshape((vocabulary, width))?.to_dtype(gradient.dtype())
}
