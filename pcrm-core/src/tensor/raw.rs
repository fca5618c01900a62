//! The interface of tensors that backends implement.

use std::any::Any;
use std::fmt::Debug;

use super::{Binary, Compare, Reduce, Tensor, Unary, View};
use crate::dtype::DType;
use crate::error::Result;
use crate::host::HostTensor;
use crate::kernels::Kernels;

/// A function from the gradient of the result to the gradients of the operands. The flags mark operands that
/// want one; the others may get `None`.
pub type CoreBackward = Box<dyn FnOnce(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send>;

/// Takes the gradient of the leaf of this index, which is complete.
pub type LeafReady<'a> = &'a mut dyn FnMut(usize, Tensor) -> Result<()>;

/// The primitives that a backend implements. Fused operations are in [`Kernels`], which has defaults for all.
pub trait RawTensor: Any + Debug + Send {
    /// Returns this backend's fused operations.
    fn kernels(&self) -> &'static dyn Kernels;
    /// Returns another handle to the same storage and history.
    fn share(&self) -> Box<dyn RawTensor>;
    /// Returns the shape.
    fn shape(&self) -> Vec<usize>;
    /// Returns the element type.
    fn dtype(&self) -> DType;
    /// Applies `op` to every element.
    fn unary(&self, op: Unary) -> Result<Tensor>;
    /// Combines two tensors element by element, with broadcasting.
    fn binary(&self, op: Binary, rhs: &Tensor) -> Result<Tensor>;
    /// Compares two tensors element by element, with broadcasting.
    fn compare(&self, op: Compare, rhs: &Tensor) -> Result<Tensor>;
    /// Computes scale·x + shift.
    fn affine(&self, scale: f64, shift: f64) -> Result<Tensor>;
    /// Reduces dimension `dim` to length 1.
    fn reduce(&self, op: Reduce, dim: usize) -> Result<Tensor>;
    /// Computes `[.., m, k] · [.., k, n]` with equal leading dimensions.
    fn matmul(&self, rhs: &Tensor) -> Result<Tensor>;
    /// Returns the same elements in another arrangement.
    fn view(&self, view: View<'_>) -> Result<Tensor>;
    /// Concatenates this tensor and `rest` along `dim`.
    fn concat(&self, rest: &[&Tensor], dim: usize) -> Result<Tensor>;
    /// Gathers along `dim` the elements at `index`, which is u32 and has this tensor's rank.
    fn gather(&self, dim: usize, index: &Tensor) -> Result<Tensor>;
    /// Selects along `dim` the slices at `index`, a u32 vector.
    fn index_select(&self, dim: usize, index: &Tensor) -> Result<Tensor>;
    /// Converts the values to another type.
    fn cast(&self, to: DType) -> Result<Tensor>;
    /// Returns the same storage without history.
    fn detach(&self) -> Tensor;
    /// Returns a leaf over the same storage that wants a gradient.
    fn variable(&self) -> Tensor;
    /// Returns whether a gradient is wanted: for a leaf, or a result computed from one.
    fn has_history(&self) -> bool;
    /// Returns these values with a custom history instead of their own: `backward` returns the gradients of
    /// `operands`. Backends implement it with [`crate::tape::record_custom`].
    fn record(&self, operands: &[&Tensor], backward: CoreBackward) -> Result<Tensor>;
    /// Computes the gradients of Σ outputs·gradients with respect to `leaves`, independent of this tensor, and
    /// calls `ready` with each as soon as it is complete. Backends implement it with [`crate::tape::pull`].
    fn pull(&self, outputs: &[(&Tensor, &Tensor)], leaves: &[&Tensor], ready: LeafReady<'_>) -> Result<()>;
    /// Overwrites the elements in place, without history; every handle sees the change.
    fn assign(&self, value: &Tensor) -> Result<()>;
    /// Overwrites these slices of the first dimension in place, without history; `value` has one per slice.
    fn write_rows(&self, at: &[u32], value: &Tensor) -> Result<()>;
    /// Creates a constant on this tensor's device.
    fn constant(&self, host: &HostTensor) -> Result<Tensor>;
    /// Copies the elements to the host.
    fn read(&self) -> Result<HostTensor>;
}
