//! Mathematical functions composed of the primitives, as methods of [`Tensor`].

use crate::error::Result;
use crate::tensor::{Binary, Reduce, Tensor, Unary};

impl Tensor {
    /// Returns a + b, with broadcasting.
    pub fn add(&self, rhs: &Tensor) -> Result<Tensor> {
        self.binary(Binary::Add, rhs)
    }

    /// Returns a − b, with broadcasting.
    pub fn sub(&self, rhs: &Tensor) -> Result<Tensor> {
        self.binary(Binary::Sub, rhs)
    }

    /// Returns a·b, with broadcasting.
    pub fn mul(&self, rhs: &Tensor) -> Result<Tensor> {
        self.binary(Binary::Mul, rhs)
    }

    /// Returns a / b, with broadcasting.
    pub fn div(&self, rhs: &Tensor) -> Result<Tensor> {
        self.binary(Binary::Div, rhs)
    }

    /// Returns −x.
    pub fn neg(&self) -> Result<Tensor> {
        self.unary(Unary::Neg)
    }

    /// Returns eˣ.
    pub fn exp(&self) -> Result<Tensor> {
        self.unary(Unary::Exp)
    }

    /// Returns ln x.
    pub fn log(&self) -> Result<Tensor> {
        self.unary(Unary::Log)
    }

    /// Returns x².
    pub fn square(&self) -> Result<Tensor> {
        self.unary(Unary::Square)
    }

    /// Returns ln σ(x) = −softplus(−x), without overflow.
    pub fn log_sigmoid(&self) -> Result<Tensor> {
        self.neg()?.unary(Unary::Softplus)?.neg()
    }

    /// Returns the sum over `dim`, which keeps length 1.
    pub fn sum(&self, dim: usize) -> Result<Tensor> {
        self.reduce(Reduce::Sum, dim)
    }

    /// Returns the mean over `dim`, which keeps length 1.
    pub fn mean(&self, dim: usize) -> Result<Tensor> {
        let length = self.shape().get(dim).copied().unwrap_or(1).max(1);
        self.sum(dim)?.affine(1.0 / length as f64, 0.0)
    }

    /// Returns the sum of all elements, without dimensions.
    pub fn sum_all(&self) -> Result<Tensor> {
        self.reshape([self.size()])?.sum(0)?.reshape([])
    }

    /// Returns the mean of all elements, without dimensions.
    pub fn mean_all(&self) -> Result<Tensor> {
        self.sum_all()?.affine(1.0 / self.size().max(1) as f64, 0.0)
    }

    /// Returns ln Σ eˣ over `dim`, which keeps length 1; the largest element is subtracted first, against
    /// overflow.
    pub fn log_sum_exp(&self, dim: usize) -> Result<Tensor> {
        let largest = self.reduce(Reduce::Max, dim)?.detach();
        self.sub(&largest)?.exp()?.sum(dim)?.log()?.add(&largest)
    }

    /// Returns eˣ / Σ eˣ over `dim`.
    pub fn softmax(&self, dim: usize) -> Result<Tensor> {
        let scaled = self.sub(&self.reduce(Reduce::Max, dim)?.detach())?.exp()?;
        scaled.div(&scaled.sum(dim)?)
    }
}
