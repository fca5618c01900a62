//! Embedding lookup: rows of a table, and the gradient that sums rows back into it.

use candle_core as ct;
use pcrm_core::{Error, Result};
use rayon::prelude::*;

use super::slices::{dense, floats, tensor};

/// Looks up table `[vocabulary, width]` at ids → `[rows, width]`.
pub(crate) fn forward(table: &ct::Tensor, ids: &[u32]) -> Result<ct::Tensor> {
    const OP: &str = "embedding";
    let (vocabulary, width) = (table.dims()[0], table.dims()[1]);
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
        return Err(Error::shape(OP, format!("id {id} is outside the table"), &[table.dims()]));
    }
    let mut values = vec![0.0; ids.len() * width];
    {
        let table = floats(OP, table)?;
        values.par_chunks_mut(width).zip(ids).for_each(|(row, id)| {
            row.copy_from_slice(&table[*id as usize * width..][..width]);
        });
    }
    tensor(OP, values, &[ids.len(), width])
}

/// Computes the gradient of the table, which is zero except at the ids. Rows of equal id are added in batch
/// order.
pub(crate) fn backward(gradient: &ct::Tensor, ids: &[u32], vocabulary: usize) -> Result<ct::Tensor> {
    const OP: &str = "embedding backward";
    let gradient = dense(OP, gradient)?;
    let width = gradient.dims()[1];
    let mut values = vec![0.0; vocabulary * width];
    {
        let gradient = floats(OP, &gradient)?;
        for (id, row) in ids.iter().zip(gradient.chunks_exact(width)) {
            let target = &mut values[*id as usize * width..][..width];
            target.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }
    tensor(OP, values, &[vocabulary, width])
}
