//! Reductions of a dimension, and their gradients.

use candle_core as ct;
use pcrm_core::tensor::Reduce;
use pcrm_core::{Error, Result, Tensor};

use super::{CandleTensor, record};
use crate::{NAME, path};

/// Reduces dimension `dim` to length 1.
pub(super) fn reduce(of: &CandleTensor, op: Reduce, dim: usize) -> Result<Tensor> {
    let err = || Error::backend(NAME, "reduce");
    let x = of.value.clone();
    let shape = x.dims().to_vec();
    // candle divides by the number of results, which it may only do if there are any.
    if dim < shape.len() && shape.iter().enumerate().any(|(at, length)| at != dim && *length == 0) {
        let mut to = shape.clone();
        to[dim] = 1;
        let value = match op {
            Reduce::Sum | Reduce::Max => x.reshape(to).map_err(err())?,
            Reduce::ArgMax => {
                let none = ct::Tensor::from_vec(Vec::<u32>::new(), to, x.device());
                return Ok(Tensor::new(CandleTensor::constant(none.map_err(err())?)));
            }
        };
        return Ok(Tensor::new(record(value, &[of], move |gradient, _| {
            Ok(vec![Some(gradient.reshape(shape).map_err(err())?)])
        })));
    }
    match op {
        Reduce::Sum => {
            let value = x.sum_keepdim(dim).map_err(err())?;
            Ok(Tensor::new(record(value, &[of], move |gradient, _| {
                Ok(vec![Some(gradient.broadcast_as(shape).map_err(err())?)])
            })))
        }
        Reduce::Max => {
            let value = x.max_keepdim(dim).map_err(err())?;
            let top = value.clone();
            let spread = move |gradient: &ct::Tensor| -> ct::Result<ct::Tensor> {
                let ties = x.broadcast_eq(&top)?.to_dtype(gradient.dtype())?;
                let each = gradient.broadcast_div(&ties.sum_keepdim(dim)?)?;
                ties.broadcast_mul(&each)
            };
            Ok(Tensor::new(record(value, &[of], move |gradient, _| {
                Ok(vec![Some(spread(gradient).map_err(err())?)])
            })))
        }
        Reduce::ArgMax => Ok(Tensor::new(CandleTensor::constant(path::arg_max(&x, dim).map_err(err())?))),
    }
}
