//! Views of the same elements in another arrangement, and their gradients.

use pcrm_core::tensor::View;
use pcrm_core::{Error, Result, Tensor};

use super::{CandleTensor, record};
use crate::NAME;
use crate::broadcast::reduce_to;

/// Returns a view of the elements.
pub(super) fn view(of: &CandleTensor, view: View<'_>) -> Result<Tensor> {
    let err = || Error::backend(NAME, "view");
    let x = &of.value;
    let shape = x.dims().to_vec();
    Ok(Tensor::new(match view {
        View::Reshape(to) => record(x.reshape(to).map_err(err())?, &[of], move |gradient, _| {
            Ok(vec![Some(gradient.reshape(shape).map_err(err())?)])
        }),
        View::Permute(order) => {
            let mut back = vec![0; order.len()];
            order.iter().enumerate().for_each(|(at, dim)| back[*dim] = at);
            record(x.permute(order).map_err(err())?, &[of], move |gradient, _| {
                Ok(vec![Some(gradient.permute(back).map_err(err())?)])
            })
        }
        View::Narrow { dim, start, len } => {
            let after = shape.get(dim).map_or(0, |length| length.saturating_sub(start + len));
            record(x.narrow(dim, start, len).map_err(err())?, &[of], move |gradient, _| {
                Ok(vec![Some(gradient.pad_with_zeros(dim, start, after).map_err(err())?)])
            })
        }
        View::Expand(to) => record(x.broadcast_as(to).map_err(err())?, &[of], move |gradient, _| {
            Ok(vec![Some(reduce_to(gradient, &shape).map_err(err())?)])
        }),
    }))
}
