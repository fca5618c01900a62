//! Embedding lookup: rows of a table.

use tch::Tensor as Torch;

use super::Torched;

/// Looks up table `[vocabulary, width]` at ids `[rows]` → `[rows, width]`.
pub(crate) fn forward(table: &Torch, ids: &Torch) -> Torched {
    table.f_index_select(0, ids)
}

/// Computes the gradient of the table; repeated rows are summed.
pub(crate) fn backward(gradient: &Torch, ids: &Torch, vocabulary: i64) -> Torched {
    Torch::f_embedding_dense_backward(gradient, ids, vocabulary, -1, false)
}
