//! Quantised matrices for the frozen base of a LoRA run (QLoRA, arXiv 2305.14314), as in bitsandbytes.
//!
//! [`Quantisation`] names the methods, [`HostMatrix`] is a quantised matrix on the host and [`CodedMatrix`] one
//! on a device. NF4 stores 4-bit codes in blocks of 64 with an f32 scale each (`nf4.rs`), optionally quantised
//! in turn; int8 stores a byte per element and a scale per row (`int8.rs`). Products use dequantised weights:
//! nothing else is quantised, and LLM.int8's separate product of outliers is not implemented.

mod coded_matrix;
mod host_matrix;
mod int8;
mod nf4;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::coded_matrix::CodedMatrix;
pub use self::host_matrix::{HostMatrix, Nested, Scales};
pub use self::int8::table as bytes_table;
pub use self::nf4::pairs;
use crate::error::{Error, Result};
use crate::host::{HostData, HostTensor};

/// The number of scales in a block of nested scales.
const NESTED_BLOCK: usize = 256;

/// A method of quantising matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantisation {
    /// 4-bit normal floats in blocks of 64, with f32 scales.
    Nf4,
    /// [`Quantisation::Nf4`] with scales in 8 bits (double quantisation).
    Nf4Double,
    /// 8-bit integers with an f32 scale per row.
    Int8,
}

impl Quantisation {
    /// Quantises a matrix `[out, in]`.
    ///
    /// # Errors
    /// Fails if it is not a matrix and if an element is not finite.
    pub fn quantise(self, host: &HostTensor) -> Result<HostMatrix> {
        let [rows, columns] = host.shape()[..] else {
            return Err(Error::shape("quantise", "expected a matrix", &[host.shape()]));
        };
        let values = match host.data() {
            HostData::F32(values) => Cow::from(values),
            _ => Cow::from(host.to_f32()),
        };
        let broken = values.iter().filter(|value| !value.is_finite()).count();
        if broken > 0 {
            return Err(Error::NotFinite { name: "the weight".to_owned(), count: broken, of: values.len() });
        }
        match self {
            Self::Nf4 => Ok(nf4::quantise(&values, [rows, columns])),
            Self::Nf4Double => Ok(nf4::nested(nf4::quantise(&values, [rows, columns]))),
            Self::Int8 => int8::quantise(&values, [rows, columns]),
        }
    }

    /// Returns the bytes of a quantised matrix `[rows, columns]`, without tables.
    pub fn bytes(self, [rows, columns]: [usize; 2]) -> u64 {
        let size = (rows * columns) as u64;
        let blocks = size.div_ceil(nf4::BLOCK as u64);
        match self {
            Self::Nf4 => size.div_ceil(2) + 4 * blocks,
            Self::Nf4Double => size.div_ceil(2) + blocks + 4 * blocks.div_ceil(NESTED_BLOCK as u64),
            Self::Int8 => size + 4 * rows as u64,
        }
    }
}

impl fmt::Display for Quantisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nf4 => "nf4",
            Self::Nf4Double => "nf4-double",
            Self::Int8 => "int8",
        })
    }
}

impl FromStr for Quantisation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "nf4" => Ok(Self::Nf4),
            "nf4-double" => Ok(Self::Nf4Double),
            "int8" => Ok(Self::Int8),
            _ => {
                let message = format!("{text:?} is not a quantisation; known: nf4, nf4-double, int8");
                Err(Error::invalid("quantise", message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: bytes by hand: 4 bits and 4 bytes per 64, a byte per 64 and 4 bytes per 256 of those, a byte
    /// and 4 bytes per row; and they are those of a quantised matrix.
    #[test]
    fn bytes_are_counted() -> Result<()> {
        let shape = [64, 512];
        let host = HostTensor::f32(shape, (0..64 * 512).map(|at| (at as f32).sin()).collect())?;
        for (method, bytes) in [
            (Quantisation::Nf4, 16384 + 4 * 512),
            (Quantisation::Nf4Double, 16384 + 512 + 4 * 2),
            (Quantisation::Int8, 32768 + 4 * 64),
        ] {
            assert_eq!(method.bytes(shape), bytes);
            let matrix = method.quantise(&host)?;
            let scales = match &matrix.scales {
                Scales::Plain(scales) => 4 * scales.len(),
                Scales::Nested(nested) => nested.codes.len() + 4 * nested.scales.len(),
            };
            assert_eq!((matrix.codes.len() + scales) as u64, bytes);
            assert_eq!(method.to_string().parse::<Quantisation>()?, method);
        }
        Ok(())
    }

    /// Protects: matrices whose elements are not finite are refused, and so are numbers beyond int8's f16.
    #[test]
    fn numbers_that_are_not_finite_are_refused() -> Result<()> {
        for value in [f32::NAN, f32::INFINITY] {
            let host = HostTensor::f32([1, 2], vec![1.0, value])?;
            assert!(Quantisation::Nf4.quantise(&host).is_err());
        }
        let error = Quantisation::Int8.quantise(&HostTensor::f32([1, 2], vec![1.0, 1e6])?).unwrap_err();
        assert!(error.to_string().contains("65504"), "{error}");
        Ok(())
    }
}
