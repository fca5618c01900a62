//! A quantised matrix on a device, as the frozen weight of a linear layer.

use super::{HostMatrix, Quantisation, Scales};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::Coded;
use crate::tensor::Tensor;

/// A quantised matrix `[out, in]` on a device. It is frozen, and cloning shares its storage.
#[derive(Debug, Clone)]
pub struct CodedMatrix {
    method: Quantisation,
    shape: [usize; 2],
    codes: Tensor,
    table: Tensor,
    block: usize,
    scales: Tensor,
    nested: Option<NestedScales>,
}

/// The scales of a matrix whose own `scales` are codes.
#[derive(Debug, Clone)]
struct NestedScales {
    table: Tensor,
    block: usize,
    scales: Tensor,
    offset: f64,
}

impl CodedMatrix {
    /// Uploads a matrix; `put` uploads one of its parts.
    ///
    /// # Errors
    /// Fails with the errors of `put`, and if codes, tables and scales do not match.
    pub fn new(host: HostMatrix, put: impl Fn(&HostTensor) -> Result<Tensor>) -> Result<Self> {
        let table = |values: Vec<f32>| -> Result<Tensor> {
            let each = values.len() / 256;
            put(&HostTensor::f32([256, each], values)?)
        };
        let (scales, nested) = match host.scales {
            Scales::Plain(scales) => (put(&HostTensor::vector(scales))?, None),
            Scales::Nested(inner) => {
                let nested = NestedScales {
                    table: table(inner.table)?,
                    block: inner.block,
                    scales: put(&HostTensor::vector(inner.scales))?,
                    offset: f64::from(inner.offset),
                };
                (put(&HostTensor::bytes(inner.codes))?, Some(nested))
            }
        };
        let matrix = Self {
            method: host.method,
            shape: host.shape,
            codes: put(&HostTensor::bytes(host.codes))?,
            table: table(host.table)?,
            block: host.block,
            scales,
            nested,
        };
        if let Some(nested) = &matrix.nested {
            matrix.coded_scales(nested).check()?;
        }
        Ok(matrix)
    }

    /// Returns the method.
    pub fn method(&self) -> Quantisation {
        self.method
    }

    /// Returns the shape, `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn coded_scales<'a>(&'a self, nested: &'a NestedScales) -> Coded<'a> {
        let NestedScales { table, block, scales, .. } = nested;
        Coded { codes: &self.scales, table, scales, block: *block, len: self.scales.size() }
    }

    /// Returns the dequantised elements in this type, `[out, in]`, without history.
    ///
    /// # Errors
    /// Fails if there is not enough memory.
    pub fn dense(&self, dtype: DType) -> Result<Tensor> {
        let kernels = self.codes.kernels();
        let decoded;
        let scales = match &self.nested {
            Some(nested) => {
                decoded = kernels.dequantise(&self.coded_scales(nested))?.affine(1.0, nested.offset)?;
                &decoded
            }
            None => &self.scales,
        };
        let len = self.shape.iter().product();
        let coded = Coded { codes: &self.codes, table: &self.table, scales, block: self.block, len };
        kernels.dequantise(&coded)?.reshape(self.shape)?.cast(dtype)
    }

    /// Computes x·Wᵀ + b: x `[rows, in]`, b `[out]` → `[rows, out]`. The weight is dequantised for the product,
    /// and again in the backward pass; nothing dequantised is kept. Gradients flow to x alone.
    ///
    /// # Errors
    /// Fails if shapes do not match, if the bias wants a gradient, and if there is not enough memory.
    pub fn linear(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        if bias.is_some_and(Tensor::has_history) {
            return Err(Error::Unsupported("the bias of a quantised layer cannot be trained".to_owned()));
        }
        let kernels = x.kernels();
        let y = kernels.linear(&x.detach(), &self.dense(x.dtype())?, bias)?;
        let weight = self.clone();
        y.record(&[x], move |gradient, _| {
            let dense = weight.dense(gradient.dtype())?;
            Ok(vec![Some(kernels.linear_input(gradient, &dense)?)])
        })
    }
}
