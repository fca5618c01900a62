//! Elements and slices at given indices, and their gradients.

use pcrm_core::{Result, Tensor};

use super::{TchTensor, at, other, record_one};

/// Gathers along `dim` the elements at `index`.
pub(super) fn gather(of: &TchTensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    let index = other("gather", index)?.value.shallow_clone();
    let x = of.value.shallow_clone();
    record_one("gather", of, x.f_gather(at(dim), &index, false), move |gradient| {
        x.f_zeros_like()?.f_scatter_add(at(dim), &index, gradient)
    })
}

/// Selects along `dim` the slices at `index`.
pub(super) fn index_select(of: &TchTensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    let index = other("index_select", index)?.value.shallow_clone();
    let x = of.value.shallow_clone();
    record_one("index_select", of, x.f_index_select(at(dim), &index), move |gradient| {
        x.f_zeros_like()?.f_index_add_(at(dim), &index, gradient)
    })
}
