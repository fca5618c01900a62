//! Rows of a table.

use tch::Tensor as Torch;

use super::Torched;

/// table `[vocabulary, width]`, ids `[rows]` → `[rows, width]`.
pub(crate) fn forward(table: &Torch, ids: &Torch) -> Torched {
    table.f_index_select(0, ids)
}

/// The gradient of the table: rows that came more than once add up.
pub(crate) fn backward(gradient: &Torch, ids: &Torch, vocabulary: i64) -> Torched {
    Torch::f_embedding_dense_backward(gradient, ids, vocabulary, -1, false)
}
