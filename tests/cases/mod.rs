//! Tables of operations with their operands. Every table meets finite differences or the composed reference, other
//! backends, and other element types; what is checked stands with the checks.

pub mod kernels;
pub mod primitives;

use pcrm_core::kernels::Composed;
use pcrm_core::{Backend, DType, HostTensor, Kernels, Tensor};

use crate::support::value_and_gradients;

/// What an operation computes, given the kernels that compute it.
type Operation = Box<dyn Fn(&dyn Kernels, &[Tensor]) -> pcrm_core::Result<Tensor>>;

/// The value of an operation, and the gradient of every operand.
pub type Outcome = (Vec<f32>, Vec<Vec<f32>>);

/// An operation with its operands.
pub struct Case {
    pub name: String,
    pub inputs: Vec<HostTensor>,
    /// By how much two f32 computations may differ, as |got − want| / (1 + |want|).
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

    /// The operation, by the kernels of the operands' own backend.
    pub fn apply(&self, x: &[Tensor]) -> pcrm_core::Result<Tensor> {
        (self.operation)(x[0].kernels(), x)
    }

    /// By the backend's kernels.
    pub fn own(&self, backend: &dyn Backend) -> anyhow::Result<Outcome> {
        value_and_gradients(backend, &self.inputs, &|x| self.apply(x))
    }

    /// By the composed reference.
    pub fn reference(&self, backend: &dyn Backend) -> anyhow::Result<Outcome> {
        value_and_gradients(backend, &self.inputs, &|x| (self.operation)(&Composed, x))
    }

    /// By the backend's kernels on operands cast from f32, with the type of the result; gradients are of the f32
    /// operands.
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

/// Indices on the device of `x`.
fn ids(x: &Tensor, ids: &[u32]) -> pcrm_core::Result<Tensor> {
    x.constant(&HostTensor::indices(ids.to_vec()))
}
