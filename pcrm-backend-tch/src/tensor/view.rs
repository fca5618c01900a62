//! Views of the same elements in another arrangement, and their gradients.

use pcrm_core::tensor::View;
use pcrm_core::{Error, Result, Tensor};
use tch::Tensor as Torch;

use super::{TchTensor, at, record_one, shape, sizes};

/// Returns a view of the elements.
pub(super) fn view(of: &TchTensor, view: View<'_>) -> Result<Tensor> {
    const OP: &str = "view";
    let x = &of.value;
    let size = x.size();
    match view {
        View::Reshape(to) => {
            record_one(OP, of, x.f_reshape(sizes(to)), move |gradient| gradient.f_reshape(size))
        }
        View::Permute(order) => {
            let mut back = vec![0; order.len()];
            for (place, dim) in order.iter().enumerate() {
                let Some(slot) = back.get_mut(*dim) else {
                    return Err(Error::shape(OP, format!("no dimension {dim}"), &[&shape(x)]));
                };
                *slot = at(place);
            }
            record_one(OP, of, x.f_permute(sizes(order)), move |gradient| gradient.f_permute(back))
        }
        View::Narrow { dim, start, len } => {
            let value = x.f_narrow(at(dim), at(start), at(len));
            record_one(OP, of, value, move |gradient| {
                let whole = Torch::f_zeros(size, (gradient.kind(), gradient.device()))?;
                whole.f_narrow(at(dim), at(start), at(len))?.f_copy_(gradient)?;
                Ok(whole)
            })
        }
        View::Expand(to) => {
            record_one(OP, of, x.f_expand(sizes(to), false), move |gradient| gradient.f_sum_to_size(size))
        }
    }
}
