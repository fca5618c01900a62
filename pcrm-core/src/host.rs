//! Tensors in host memory, for upload to a device and for results.

use half::bf16;

use crate::dtype::DType;
use crate::error::{Error, Result};

/// The elements of a [`HostTensor`].
#[derive(Debug, Clone, PartialEq)]
pub enum HostData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// bfloat16.
    BF16(Vec<bf16>),
    /// Token ids, row indices.
    U32(Vec<u32>),
    /// Codes of quantised weights.
    U8(Vec<u8>),
}

/// Elements in row-major order with a shape.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    shape: Vec<usize>,
    data: HostData,
}

impl HostTensor {
    /// Creates a tensor from elements and a shape.
    ///
    /// # Errors
    /// Fails if the size of the shape is not the number of elements.
    pub fn new(shape: impl Into<Vec<usize>>, data: HostData) -> Result<Self> {
        let shape = shape.into();
        let host = Self { data, shape };
        let size: usize = host.shape.iter().product();
        match size == host.len() {
            true => Ok(host),
            false => Err(Error::shape(
                "host",
                format!("found {} elements, which do not fit the shape", host.len()),
                &[&host.shape],
            )),
        }
    }

    /// Creates a tensor of floats; see [`HostTensor::new`].
    ///
    /// # Errors
    /// Fails as [`HostTensor::new`] does.
    pub fn f32(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        Self::new(shape, HostData::F32(data))
    }

    /// Creates a vector of indices.
    pub fn indices(data: Vec<u32>) -> Self {
        Self { shape: vec![data.len()], data: HostData::U32(data) }
    }

    /// Creates a vector of bytes.
    pub fn bytes(data: Vec<u8>) -> Self {
        Self { shape: vec![data.len()], data: HostData::U8(data) }
    }

    /// Creates a vector of floats.
    pub fn vector(data: Vec<f32>) -> Self {
        Self { shape: vec![data.len()], data: HostData::F32(data) }
    }

    /// Creates a single float without dimensions.
    pub fn scalar(value: f32) -> Self {
        Self { shape: Vec::new(), data: HostData::F32(vec![value]) }
    }

    /// Returns the shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the elements.
    pub fn data(&self) -> &HostData {
        &self.data
    }

    /// Consumes the tensor and returns its elements.
    pub fn into_data(self) -> HostData {
        self.data
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            HostData::F32(values) => values.len(),
            HostData::BF16(values) => values.len(),
            HostData::U32(values) => values.len(),
            HostData::U8(values) => values.len(),
        }
    }

    /// Returns whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the element type.
    pub fn dtype(&self) -> DType {
        match self.data {
            HostData::F32(_) => DType::F32,
            HostData::BF16(_) => DType::BF16,
            HostData::U32(_) => DType::U32,
            HostData::U8(_) => DType::U8,
        }
    }

    /// Returns the elements as floats, converted if necessary.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.data {
            HostData::F32(values) => values.clone(),
            HostData::BF16(values) => values.iter().map(|value| value.to_f32()).collect(),
            HostData::U32(values) => values.iter().map(|value| *value as f32).collect(),
            HostData::U8(values) => values.iter().map(|value| f32::from(*value)).collect(),
        }
    }

    /// Consumes the tensor and returns its elements as floats.
    pub fn into_f32(self) -> Vec<f32> {
        match self.data {
            HostData::F32(values) => values,
            _ => self.to_f32(),
        }
    }

    /// Returns the transposed matrix (gpt2 stores its Conv1D weights that way).
    ///
    /// # Errors
    /// Fails if the shape is not `[rows, columns]`.
    pub fn transposed(&self) -> Result<Self> {
        fn turned<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
            (0..rows * columns).map(|at| values[(at % rows) * columns + at / rows]).collect()
        }
        let [rows, columns] = self.shape[..] else {
            return Err(Error::shape("transposed", "expected a matrix", &[&self.shape]));
        };
        let data = match &self.data {
            HostData::F32(values) => HostData::F32(turned(values, rows, columns)),
            HostData::BF16(values) => HostData::BF16(turned(values, rows, columns)),
            HostData::U32(values) => HostData::U32(turned(values, rows, columns)),
            HostData::U8(values) => HostData::U8(turned(values, rows, columns)),
        };
        Self::new([columns, rows], data)
    }
}
