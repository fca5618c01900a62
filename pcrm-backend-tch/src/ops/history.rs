//! libtorch's autograd for a single fused operation, where its backward kernels have no public names.

use tch::{Kind, TchError, Tensor as Torch};

use super::Torched;

/// The result of an operation with libtorch's history.
pub(crate) struct Graph {
    leaves: Vec<Torch>,
    value: Torch,
}

/// Computes f of the inputs, with its history if it `keeps`.
pub(crate) fn forward(
    inputs: &[&Torch],
    keeps: bool,
    f: impl Fn(&[Torch]) -> Torched,
) -> Torched<(Torch, Option<Graph>)> {
    let leaf = |x: &&Torch| x.f_detach()?.f_set_requires_grad(keeps);
    let leaves = inputs.iter().map(leaf).collect::<Torched<Vec<_>>>()?;
    if !keeps {
        return Ok((tch::no_grad(|| f(&leaves))?, None));
    }
    let value = tch::with_grad(|| f(&leaves))?;
    Ok((value.f_detach()?, Some(Graph { leaves, value })))
}

impl Graph {
    /// Computes the gradients of all inputs from the gradient of the result.
    pub(crate) fn backward<const N: usize>(self, gradient: &Torch) -> Torched<[Torch; N]> {
        let loss = tch::with_grad(|| self.value.f_mul(gradient)?.f_sum(Kind::Float))?;
        let gradients = Torch::f_run_backward(&[loss], &self.leaves, false, false)?;
        let count = gradients.len();
        gradients.try_into().map_err(|_| TchError::Shape(format!("{count} gradients, expected {N}")))
    }
}
