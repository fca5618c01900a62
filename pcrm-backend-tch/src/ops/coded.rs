//! Decoding of floats that are stored as bytes.

use pcrm_core::Result;
use pcrm_core::slices::coded::{Table, dequantise};
use tch::Tensor as Torch;

use super::slices::{Bytes, Floats, Workers, filled};

/// Decodes `len` values: codes u8 `[bytes]`, table `[256, values per byte]`, scales `[blocks]` → f32 `[len]`.
pub(crate) fn forward([codes, table, scales]: [&Torch; 3], block: usize, len: usize) -> Result<Torch> {
    let each = table.size()[1] as usize;
    let (codes, table, scales) = (Bytes::of(codes)?, Floats::of(table)?, Floats::of(scales)?);
    filled(len, |values| dequantise(&Workers, &codes, Table { values: &table, each }, &scales, block, values))
}
