//! Tensors: the interface that backends implement ([`RawTensor`]) and the value that all other code uses
//! ([`Tensor`]).
//!
//! A tensor is a handle: cloning shares the storage. Shapes are row-major; the last dimension is logically
//! contiguous, whatever the backend stores. Autograd belongs to the backend: an operation on a tensor with
//! history has history, and [`crate::backend::Backend::backward`] traverses it.

mod raw;

use std::any::Any;
use std::fmt::{self, Debug};

pub use self::raw::{CoreBackward, LeafReady, RawTensor};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::Kernels;
pub use crate::ops::{Binary, Compare, Reduce, Unary, View};

/// A tensor of any backend. Cloning shares storage; a tensor is `Send` but not `Sync`.
pub struct Tensor(Box<dyn RawTensor>);

impl Clone for Tensor {
    fn clone(&self) -> Self {
        Self(self.0.share())
    }
}

impl Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor {:?} {} on {}", self.shape(), self.dtype(), self.kernels().name())
    }
}

impl Tensor {
    /// Wraps a backend's tensor.
    pub fn new(raw: impl RawTensor) -> Self {
        Self(Box::new(raw))
    }

    /// Returns the backend's own tensor, for its kernels.
    ///
    /// # Errors
    /// Fails if the tensor belongs to another backend.
    pub fn downcast<T: RawTensor>(&self, op: &'static str, backend: &'static str) -> Result<&T> {
        (self.0.as_ref() as &dyn Any).downcast_ref().ok_or_else(|| Error::MixedBackends {
            op,
            left: backend,
            right: self.kernels().name(),
        })
    }

    /// Returns this backend's fused operations.
    pub fn kernels(&self) -> &'static dyn Kernels {
        self.0.kernels()
    }

    /// Returns the shape.
    pub fn shape(&self) -> Vec<usize> {
        self.0.shape()
    }

    /// Returns the number of elements.
    pub fn size(&self) -> usize {
        self.shape().iter().product()
    }

    /// Returns the element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype()
    }

    /// Applies `op` to every element.
    pub fn unary(&self, op: Unary) -> Result<Tensor> {
        self.0.unary(op)
    }

    /// Combines two tensors element by element, with broadcasting.
    pub fn binary(&self, op: Binary, rhs: &Tensor) -> Result<Tensor> {
        self.0.binary(op, rhs)
    }

    /// Compares two tensors element by element, with broadcasting.
    pub fn compare(&self, op: Compare, rhs: &Tensor) -> Result<Tensor> {
        self.0.compare(op, rhs)
    }

    /// Computes scale·x + shift.
    pub fn affine(&self, scale: f64, shift: f64) -> Result<Tensor> {
        self.0.affine(scale, shift)
    }

    /// Reduces dimension `dim` to length 1.
    pub fn reduce(&self, op: Reduce, dim: usize) -> Result<Tensor> {
        self.0.reduce(op, dim)
    }

    /// Computes `[.., m, k] · [.., k, n]`.
    pub fn matmul(&self, rhs: &Tensor) -> Result<Tensor> {
        self.0.matmul(rhs)
    }

    /// Returns the elements in another shape of the same size.
    pub fn reshape(&self, shape: impl AsRef<[usize]>) -> Result<Tensor> {
        self.0.view(View::Reshape(shape.as_ref()))
    }

    /// Returns the dimensions in another order.
    pub fn permute(&self, order: impl AsRef<[usize]>) -> Result<Tensor> {
        self.0.view(View::Permute(order.as_ref()))
    }

    /// Swaps the last two dimensions.
    ///
    /// # Errors
    /// Fails with fewer than two dimensions.
    pub fn transpose(&self) -> Result<Tensor> {
        let rank = self.shape().len();
        if rank < 2 {
            return Err(Error::shape("transpose", "expected at least two dimensions", &[&self.shape()]));
        }
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(rank - 2, rank - 1);
        self.permute(order)
    }

    /// Returns `len` positions of dimension `dim` from `start`.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Tensor> {
        self.0.view(View::Narrow { dim, start, len })
    }

    /// Broadcasts to a shape.
    pub fn expand(&self, shape: impl AsRef<[usize]>) -> Result<Tensor> {
        self.0.view(View::Expand(shape.as_ref()))
    }

    /// Concatenates the parts along `dim`.
    ///
    /// # Errors
    /// Fails without parts, and if shapes differ outside `dim`.
    pub fn concat(parts: &[&Tensor], dim: usize) -> Result<Tensor> {
        match parts {
            [] => Err(Error::shape("concat", "no parts", &[])),
            [only] => Ok((*only).clone()),
            [first, rest @ ..] => first.0.concat(rest, dim),
        }
    }

    /// Gathers along `dim` the elements at `index`.
    pub fn gather(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        self.0.gather(dim, index)
    }

    /// Selects along `dim` the slices at `index`.
    pub fn index_select(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        self.0.index_select(dim, index)
    }

    /// Converts the values to another type; returns the tensor itself if it already has it.
    pub fn cast(&self, to: DType) -> Result<Tensor> {
        match self.dtype() == to {
            true => Ok(self.clone()),
            false => self.0.cast(to),
        }
    }

    /// Copies the values to new storage of this type, which later [`Tensor::assign`]s do not reach.
    pub fn copied(&self, dtype: DType) -> Result<Tensor> {
        match self.dtype() == dtype {
            // Via the host, which preserves every bit; backends may upload in another type.
            true => self.constant(&self.read()?)?.cast(dtype),
            false => self.0.cast(dtype),
        }
    }

    /// Returns the same storage without history.
    pub fn detach(&self) -> Tensor {
        self.0.detach()
    }

    /// Returns a leaf over the same storage that wants a gradient.
    pub fn variable(&self) -> Tensor {
        self.0.variable()
    }

    /// Returns whether a gradient is wanted: for a leaf, or a result computed from one.
    pub fn has_history(&self) -> bool {
        self.0.has_history()
    }

    /// Returns these values with a custom history instead of their own: `backward` takes the gradient of the
    /// result and flags for the operands that want one, and returns the gradients of `operands` in their
    /// shapes.
    ///
    /// # Errors
    /// Fails if an operand belongs to another backend.
    pub fn record(
        &self,
        operands: &[&Tensor],
        backward: impl FnOnce(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + 'static,
    ) -> Result<Tensor> {
        self.0.record(operands, Box::new(backward))
    }

    /// Computes d Σ outputs·gradients / d leaf of every leaf, `None` if no gradient arrives; each output
    /// comes with its gradient, of the same shape. Consumes the history.
    ///
    /// # Errors
    /// Fails if shapes differ, if a tensor belongs to another backend, and if an earlier backward pass
    /// consumed the history.
    pub fn pull(outputs: &[(&Tensor, &Tensor)], leaves: &[&Tensor]) -> Result<Vec<Option<Tensor>>> {
        let mut gradients: Vec<Option<Tensor>> = leaves.iter().map(|_| None).collect();
        Self::pull_each(outputs, leaves, &mut |leaf, gradient| {
            gradients[leaf] = Some(gradient);
            Ok(())
        })?;
        Ok(gradients)
    }

    /// Computes the gradients of [`Tensor::pull`], and calls `ready` with each as soon as it is complete, while
    /// the pass continues; never for a leaf that no gradient reaches.
    ///
    /// # Errors
    /// Fails as [`Tensor::pull`] does, and with the error of `ready`.
    pub fn pull_each(outputs: &[(&Tensor, &Tensor)], leaves: &[&Tensor], ready: LeafReady<'_>) -> Result<()> {
        match outputs {
            [] => Ok(()),
            [(first, _), ..] => first.0.pull(outputs, leaves, ready),
        }
    }

    /// Overwrites the elements in place, without history.
    pub fn assign(&self, value: &Tensor) -> Result<()> {
        self.0.assign(value)
    }

    /// Overwrites the slices `at` of the first dimension in place, without history; every handle sees the
    /// change. `value` is `[at, ..]`.
    ///
    /// # Errors
    /// Fails if shapes or element types differ, and if a slice does not exist.
    pub fn write_rows(&self, at: &[u32], value: &Tensor) -> Result<()> {
        let (shape, given) = (self.shape(), value.shape());
        let fits = given.len() == shape.len() && given.first() == Some(&at.len()) && given[1..] == shape[1..];
        if !fits || at.iter().any(|row| *row as usize >= shape[0]) || self.dtype() != value.dtype() {
            let message = format!("expected {} rows inside the tensor, in {}", at.len(), self.dtype());
            return Err(Error::shape("write_rows", message, &[&shape, &given]));
        }
        self.0.write_rows(at, value)
    }

    /// Creates a constant on this tensor's device.
    pub fn constant(&self, host: &HostTensor) -> Result<Tensor> {
        self.0.constant(host)
    }

    /// Copies the elements to the host.
    pub fn read(&self) -> Result<HostTensor> {
        self.0.read()
    }

    /// Returns the only element.
    ///
    /// # Errors
    /// Fails if there is not exactly one element.
    pub fn read_scalar(&self) -> Result<f32> {
        match self.read()?.into_f32().as_slice() {
            [value] => Ok(*value),
            _ => Err(Error::shape("read_scalar", "expected one element", &[&self.shape()])),
        }
    }
}
