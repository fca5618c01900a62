//! Reductions of a dimension, and their gradients.

use pcrm_core::tensor::Reduce;
use pcrm_core::{Result, Tensor};

use super::{TchTensor, at, record_one};
use crate::failed;

/// Reduces dimension `dim` to length 1.
pub(super) fn reduce(of: &TchTensor, op: Reduce, dim: usize) -> Result<Tensor> {
    const OP: &str = "reduce";
    let (dim, x) = (at(dim), of.value.shallow_clone());
    match op {
        Reduce::Sum => {
            let value = x.f_sum_dim_intlist(dim, true, None);
            record_one(OP, of, value, move |gradient| gradient.f_expand(x.size(), false))
        }
        Reduce::Max => {
            let value = x.f_amax(dim, true).map_err(failed(OP))?;
            let top = value.shallow_clone();
            record_one(OP, of, Ok(value), move |gradient| {
                let ties = x.f_eq_tensor(&top)?.f_to_kind(gradient.kind())?;
                ties.f_mul(&gradient.f_div(&ties.f_sum_dim_intlist(dim, true, None)?)?)
            })
        }
        Reduce::ArgMax => Ok(Tensor::new(TchTensor::constant(x.f_argmax(dim, true).map_err(failed(OP))?))),
    }
}
