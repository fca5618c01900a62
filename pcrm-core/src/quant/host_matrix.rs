//! A quantised matrix on the host: made from floats, or read from a checkpoint.

use super::Quantisation;
use crate::error::Result;
use crate::slices::OneThread;
use crate::slices::coded::{Table, dequantise};

/// A quantised matrix on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostMatrix {
    /// The method.
    pub method: Quantisation,
    /// The shape, `[out, in]`.
    pub shape: [usize; 2],
    /// The codes of all elements, row-major.
    pub codes: Vec<u8>,
    /// The values of every code: one per byte, or two for 4-bit codes, the high half first.
    pub table: Vec<f32>,
    /// The number of elements that share a scale.
    pub block: usize,
    /// The scales of blocks.
    pub scales: Scales,
}

/// The scales of a quantised matrix.
#[derive(Debug, Clone, PartialEq)]
pub enum Scales {
    /// An f32 per block.
    Plain(Vec<f32>),
    /// Quantised scales.
    Nested(Nested),
}

/// Quantised scales: a scale is the table's value for its code, times the scale of its own block, plus the
/// offset.
#[derive(Debug, Clone, PartialEq)]
pub struct Nested {
    /// The code of every scale.
    pub codes: Vec<u8>,
    /// The values of the 256 codes.
    pub table: Vec<f32>,
    /// The number of scales in a block.
    pub block: usize,
    /// The scale of every block.
    pub scales: Vec<f32>,
    /// The offset.
    pub offset: f32,
}

impl Nested {
    /// Decodes the scales.
    ///
    /// # Errors
    /// Never fails: decoding on one thread has no error.
    pub fn decoded(&self) -> Result<Vec<f32>> {
        let mut scales = vec![0.0; self.codes.len()];
        let table = Table { values: &self.table, each: 1 };
        dequantise(&OneThread, &self.codes, table, &self.scales, self.block, &mut scales)?;
        scales.iter_mut().for_each(|scale| *scale += self.offset);
        Ok(scales)
    }
}

impl HostMatrix {
    /// Decodes the elements, row-major.
    ///
    /// # Errors
    /// Never fails: decoding on one thread has no error.
    pub fn decoded(&self) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.shape.iter().product()];
        let table = Table { values: &self.table, each: self.table.len() / 256 };
        let decoded;
        let scales = match &self.scales {
            Scales::Plain(scales) => scales,
            Scales::Nested(nested) => {
                decoded = nested.decoded()?;
                &decoded
            }
        };
        dequantise(&OneThread, &self.codes, table, scales, self.block, &mut values)?;
        Ok(values)
    }
}
