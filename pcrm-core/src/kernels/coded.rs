//! Floats that are stored as bytes: codes into a table, with a scale for every block.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The number of codes of a byte, and of rows of a table.
const CODES: usize = 256;

/// Floats that are stored as bytes. A byte holds one value or several; value i is the table's value for its
/// code, times the scale of block ⌊i / block⌋.
#[derive(Debug, Clone, Copy)]
pub struct Coded<'a> {
    /// The codes, u8 `[bytes]`. The last byte may hold values past the end.
    pub codes: &'a Tensor,
    /// The values of every code, f32 `[256, values per byte]`.
    pub table: &'a Tensor,
    /// The scale of every block, f32 `[blocks]`. The last block may be partial.
    pub scales: &'a Tensor,
    /// The number of values in a block, a multiple of the values per byte.
    pub block: usize,
    /// The number of values.
    pub len: usize,
}

impl Coded<'_> {
    /// Checks shapes and types, and returns the number of values per byte.
    ///
    /// # Errors
    /// Fails if they do not match.
    pub fn check(&self) -> Result<usize> {
        let shapes = [self.codes.shape(), self.table.shape(), self.scales.shape()];
        let each = match (&shapes[0][..], &shapes[1][..], &shapes[2][..]) {
            ([bytes], [CODES, each], [blocks])
                if *each > 0
                    && self.block > 0
                    && self.block.is_multiple_of(*each)
                    && *bytes == self.len.div_ceil(*each)
                    && *blocks == self.len.div_ceil(self.block) =>
            {
                *each
            }
            _ => {
                let message = format!(
                    "codes must be [bytes], the table [256, values per byte], scales [blocks] of {} of {} values",
                    self.block, self.len
                );
                return Err(Error::shape("dequantise", message, &shapes.each_ref().map(Vec::as_slice)));
            }
        };
        for (tensor, expected) in
            [(self.codes, DType::U8), (self.table, DType::F32), (self.scales, DType::F32)]
        {
            if tensor.dtype() != expected {
                let expected = if expected == DType::U8 { "u8 codes" } else { "f32 tables and scales" };
                return Err(Error::DType { op: "dequantise", found: tensor.dtype(), expected });
            }
        }
        Ok(each)
    }
}
