//! Tensors: what a backend writes ([`RawTensor`]) and the value everyone else holds ([`Tensor`]).
//!
//! A tensor is a handle: cloning shares the storage. Shapes are row-major; the last dimension is contiguous in
//! meaning, whatever the backend stores. Autograd is the backend's own: an operation on a tensor with history
//! has history, and [`crate::backend::Backend::backward`] walks it.

use std::any::Any;
use std::fmt::{self, Debug};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::Kernels;
pub use crate::ops::{Binary, Compare, Reduce, Unary, View};

/// Gives the gradients of the operands from the gradient of the result. The flags say which operands want one; the others
/// may get `None`.
pub type CoreBackward = Box<dyn FnOnce(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send>;

/// What a backend implements: the primitives. Fused operations are [`Kernels`], which all have defaults.
pub trait RawTensor: Any + Debug + Send {
    /// This backend's fused operations.
    fn kernels(&self) -> &'static dyn Kernels;
    /// Another handle to the same storage and history.
    fn share(&self) -> Box<dyn RawTensor>;
    /// The shape.
    fn shape(&self) -> Vec<usize>;
    /// The element type.
    fn dtype(&self) -> DType;
    /// Applies `op` to every element.
    fn unary(&self, op: Unary) -> Result<Tensor>;
    /// Combines two tensors element by element, broadcasting.
    fn binary(&self, op: Binary, rhs: &Tensor) -> Result<Tensor>;
    /// Compares two tensors element by element, broadcasting.
    fn compare(&self, op: Compare, rhs: &Tensor) -> Result<Tensor>;
    /// scale·x + shift
    fn affine(&self, scale: f64, shift: f64) -> Result<Tensor>;
    /// Reduces dimension `dim` to length 1.
    fn reduce(&self, op: Reduce, dim: usize) -> Result<Tensor>;
    /// `[.., m, k] · [.., k, n]` with equal leading dimensions.
    fn matmul(&self, rhs: &Tensor) -> Result<Tensor>;
    /// The same elements, seen otherwise.
    fn view(&self, view: View<'_>) -> Result<Tensor>;
    /// This tensor followed by `rest` along `dim`.
    fn concat(&self, rest: &[&Tensor], dim: usize) -> Result<Tensor>;
    /// Along `dim`, the element at `index`; `index` is u32 and has this tensor's rank.
    fn gather(&self, dim: usize, index: &Tensor) -> Result<Tensor>;
    /// Along `dim`, the slices at `index`, a u32 vector.
    fn index_select(&self, dim: usize, index: &Tensor) -> Result<Tensor>;
    /// The same values in another type.
    fn cast(&self, to: DType) -> Result<Tensor>;
    /// The same storage without history.
    fn detach(&self) -> Tensor;
    /// A leaf over the same storage, whose gradient is wanted.
    fn variable(&self) -> Tensor;
    /// Whether a gradient is wanted: a leaf, or computed from one.
    fn has_history(&self) -> bool;
    /// These values with a history that the caller writes, in place of their own: `backward` gives the gradients of
    /// `operands`. Backends have [`crate::tape::record_custom`] for it.
    fn record(&self, operands: &[&Tensor], backward: CoreBackward) -> Result<Tensor>;
    /// The gradients of Σ outputs·gradients with respect to `leaves`, whatever this tensor is. Backends have
    /// [`crate::tape::pull`] for it.
    fn pull(&self, outputs: &[(&Tensor, &Tensor)], leaves: &[&Tensor]) -> Result<Vec<Option<Tensor>>>;
    /// Overwrites the elements in place, outside any history; every handle sees it.
    fn assign(&self, value: &Tensor) -> Result<()>;
    /// Overwrites these slices of the first dimension in place, outside any history; `value` has one for each.
    fn write_rows(&self, at: &[u32], value: &Tensor) -> Result<()>;
    /// A constant on this tensor's device.
    fn constant(&self, host: &HostTensor) -> Result<Tensor>;
    /// The elements, on the host.
    fn read(&self) -> Result<HostTensor>;
}

/// A tensor of any backend. Cloning shares; it may move between threads but not be shared by them.
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

    /// The backend's own tensor, for its kernels.
    ///
    /// # Errors
    /// The tensor belongs to another backend.
    pub fn downcast<T: RawTensor>(&self, op: &'static str, backend: &'static str) -> Result<&T> {
        (self.0.as_ref() as &dyn Any).downcast_ref().ok_or_else(|| Error::MixedBackends {
            op,
            left: backend,
            right: self.kernels().name(),
        })
    }

    /// This backend's fused operations.
    pub fn kernels(&self) -> &'static dyn Kernels {
        self.0.kernels()
    }

    /// The shape.
    pub fn shape(&self) -> Vec<usize> {
        self.0.shape()
    }

    /// The number of elements.
    pub fn size(&self) -> usize {
        self.shape().iter().product()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype()
    }

    /// Applies `op` to every element.
    pub fn unary(&self, op: Unary) -> Result<Tensor> {
        self.0.unary(op)
    }

    /// Combines two tensors element by element, broadcasting.
    pub fn binary(&self, op: Binary, rhs: &Tensor) -> Result<Tensor> {
        self.0.binary(op, rhs)
    }

    /// Compares two tensors element by element, broadcasting.
    pub fn compare(&self, op: Compare, rhs: &Tensor) -> Result<Tensor> {
        self.0.compare(op, rhs)
    }

    /// scale·x + shift
    pub fn affine(&self, scale: f64, shift: f64) -> Result<Tensor> {
        self.0.affine(scale, shift)
    }

    /// Reduces dimension `dim` to length 1.
    pub fn reduce(&self, op: Reduce, dim: usize) -> Result<Tensor> {
        self.0.reduce(op, dim)
    }

    /// `[.., m, k] · [.., k, n]`
    pub fn matmul(&self, rhs: &Tensor) -> Result<Tensor> {
        self.0.matmul(rhs)
    }

    /// Another shape of the same size.
    pub fn reshape(&self, shape: impl AsRef<[usize]>) -> Result<Tensor> {
        self.0.view(View::Reshape(shape.as_ref()))
    }

    /// Dimensions in another order.
    pub fn permute(&self, order: impl AsRef<[usize]>) -> Result<Tensor> {
        self.0.view(View::Permute(order.as_ref()))
    }

    /// The last two dimensions exchanged.
    ///
    /// # Errors
    /// Fewer than two dimensions.
    pub fn transpose(&self) -> Result<Tensor> {
        let rank = self.shape().len();
        if rank < 2 {
            return Err(Error::shape("transpose", "two dimensions are needed", &[&self.shape()]));
        }
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(rank - 2, rank - 1);
        self.permute(order)
    }

    /// `len` positions of dimension `dim` from `start`.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Tensor> {
        self.0.view(View::Narrow { dim, start, len })
    }

    /// Broadcast to a shape.
    pub fn expand(&self, shape: impl AsRef<[usize]>) -> Result<Tensor> {
        self.0.view(View::Expand(shape.as_ref()))
    }

    /// The parts one after the other along `dim`.
    ///
    /// # Errors
    /// No parts, or shapes that differ elsewhere than in `dim`.
    pub fn concat(parts: &[&Tensor], dim: usize) -> Result<Tensor> {
        match parts {
            [] => Err(Error::shape("concat", "no parts", &[])),
            [only] => Ok((*only).clone()),
            [first, rest @ ..] => first.0.concat(rest, dim),
        }
    }

    /// Along `dim`, the element at `index`.
    pub fn gather(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        self.0.gather(dim, index)
    }

    /// Along `dim`, the slices at `index`.
    pub fn index_select(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        self.0.index_select(dim, index)
    }

    /// The same values in another type; itself when it already has it.
    pub fn cast(&self, to: DType) -> Result<Tensor> {
        match self.dtype() == to {
            true => Ok(self.clone()),
            false => self.0.cast(to),
        }
    }

    /// The same values in new storage of this type, which later [`Tensor::assign`]s do not reach.
    pub fn copied(&self, dtype: DType) -> Result<Tensor> {
        match self.dtype() == dtype {
            // By way of the host, which keeps every bit; backends may upload in another type.
            true => self.constant(&self.read()?)?.cast(dtype),
            false => self.0.cast(dtype),
        }
    }

    /// The same storage without history.
    pub fn detach(&self) -> Tensor {
        self.0.detach()
    }

    /// A leaf over the same storage, whose gradient is wanted.
    pub fn variable(&self) -> Tensor {
        self.0.variable()
    }

    /// Whether a gradient is wanted: a leaf, or computed from one.
    pub fn has_history(&self) -> bool {
        self.0.has_history()
    }

    /// These values with a history that the caller writes, in place of their own: `backward` takes the gradient of the
    /// result and flags for the operands that want a gradient, and gives the gradients of `operands` in their shapes.
    ///
    /// # Errors
    /// Operands of another backend.
    pub fn record(
        &self,
        operands: &[&Tensor],
        backward: impl FnOnce(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + 'static,
    ) -> Result<Tensor> {
        self.0.record(operands, Box::new(backward))
    }

    /// d Σ outputs·gradients / d leaf of every leaf, `None` where no gradient arrives; each output comes with its
    /// gradient, of one shape. Consumes the history.
    ///
    /// # Errors
    /// Shapes that differ, tensors of another backend, and a history that an earlier backward pass consumed.
    pub fn pull(outputs: &[(&Tensor, &Tensor)], leaves: &[&Tensor]) -> Result<Vec<Option<Tensor>>> {
        match outputs {
            [] => Ok(leaves.iter().map(|_| None).collect()),
            [(first, _), ..] => first.0.pull(outputs, leaves),
        }
    }

    /// Overwrites the elements in place, outside any history.
    pub fn assign(&self, value: &Tensor) -> Result<()> {
        self.0.assign(value)
    }

    /// Overwrites the slices `at` of the first dimension in place, outside any history; every handle sees it. `value`
    /// is `[at, ..]`.
    ///
    /// # Errors
    /// Other shapes, a slice that is not there, another element type.
    pub fn write_rows(&self, at: &[u32], value: &Tensor) -> Result<()> {
        let (shape, given) = (self.shape(), value.shape());
        let fits = given.len() == shape.len() && given.first() == Some(&at.len()) && given[1..] == shape[1..];
        if !fits || at.iter().any(|row| *row as usize >= shape[0]) || self.dtype() != value.dtype() {
            let message = format!("{} rows inside the tensor, in {}, are needed", at.len(), self.dtype());
            return Err(Error::shape("write_rows", message, &[&shape, &given]));
        }
        self.0.write_rows(at, value)
    }

    /// A constant on this tensor's device.
    pub fn constant(&self, host: &HostTensor) -> Result<Tensor> {
        self.0.constant(host)
    }

    /// The elements, on the host.
    pub fn read(&self) -> Result<HostTensor> {
        self.0.read()
    }

    /// The only element.
    ///
    /// # Errors
    /// More or fewer elements than one.
    pub fn read_scalar(&self) -> Result<f32> {
        match self.read()?.into_f32().as_slice() {
            [value] => Ok(*value),
            _ => Err(Error::shape("read_scalar", "one element is needed", &[&self.shape()])),
        }
    }
}
