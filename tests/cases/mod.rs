//! Tables of operations with their operands. The checks compare each with finite differences or the composed
//! reference, other backends, and other element types.

pub mod kernels;
pub mod primitives;

use pcrm_core::kernels::Composed;
use pcrm_core::{Backend, DType, HostTensor, Kernels, Tensor};

use crate::support::value_and_gradients;

/// An operation, given the kernels that compute it.
type Operation = Box<dyn Fn(&dyn Kernels, &[Tensor]) -> pcrm_core::Result<Tensor>>;

/// The value of an operation, and the gradient of every operand.
pub type Outcome = (Vec<f32>, Vec<Vec<f32>>);

/// An operation with its operands.
pub struct Case {
    pub name: String,
    pub inputs: Vec<HostTensor>,
    /// The allowed difference of two f32 computations, as |got − want| / (1 + |want|).
    pub tolerance: f32,
    operation: Operation,
}

impl Case {
    pub fn new(
        name: impl Into<String>,
        inputs: impl Into<Vec<HostTensor>>,
        tolerance: f32,
        operation: impl Fn(&dyn Kernels, &[Tensor]) -> pcrm_core::Result<Tensor> + 'static,
    ) -> Self {
        Self { name: name.into(), inputs: inputs.into(), tolerance, operation: Box::new(operation) }
    }

    /// Applies the operation with the kernels of the operands' backend.
    pub fn apply(&self, x: &[Tensor]) -> pcrm_core::Result<Tensor> {
        (self.operation)(x[0].kernels(), x)
    }

    /// Computes value and gradients with the backend's kernels.
    pub fn own(&self, backend: &dyn Backend) -> anyhow::Result<Outcome> {
        value_and_gradients(backend, &self.inputs, &|x| self.apply(x))
    }

    /// Computes value and gradients with the composed reference.
    pub fn reference(&self, backend: &dyn Backend) -> anyhow::Result<Outcome> {
        value_and_gradients(backend, &self.inputs, &|x| (self.operation)(&Composed, x))
    }

    /// Computes with the backend's kernels on operands cast from f32, and returns the result's type too;
    /// gradients are with respect to the f32 operands.
    pub fn cast(&self, backend: &dyn Backend, dtype: DType) -> anyhow::Result<(Outcome, DType)> {
        let result = std::cell::Cell::new(DType::F32);
        let outcome = value_and_gradients(backend, &self.inputs, &|x| {
            let cast = x.iter().map(|x| x.cast(dtype)).collect::<pcrm_core::Result<Vec<_>>>()?;
            let value = self.apply(&cast)?;
            result.set(value.dtype());
            value.cast(DType::F32)
        })?;
        Ok((outcome, result.get()))
    }
}

/// Uploads indices to the device of `x`.
fn ids(x: &Tensor, ids: &[u32]) -> pcrm_core::Result<Tensor> {
    x.constant(&HostTensor::indices(ids.to_vec()))
}
