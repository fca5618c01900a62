//! Decoding of floats that are stored as bytes.

use candle_core as ct;
use pcrm_core::slices::coded::{Table, dequantise};
use pcrm_core::{Error, Result};

use super::slices::{Pool, dense, floats, tensor};

/// Decodes `len` values: codes u8 `[bytes]`, table `[256, values per byte]`, scales `[blocks]` → f32 `[len]`.
pub(crate) fn forward(
    [codes, table, scales]: [&ct::Tensor; 3],
    block: usize,
    len: usize,
) -> Result<ct::Tensor> {
    const OP: &str = "dequantise";
    let (codes, table, scales) = (dense(OP, codes)?, dense(OP, table)?, dense(OP, scales)?);
    let each = table.dims()[1];
    let (storage, layout) = codes.storage_and_layout();
    let codes = match (&*storage, layout.contiguous_offsets()) {
        (ct::Storage::Cpu(ct::CpuStorage::U8(codes)), Some((start, end))) => &codes[start..end],
        _ => {
            return Err(Error::Unsupported(format!("{OP}: codes in CPU memory are needed, found {codes:?}")));
        }
    };
    let (table, scales) = (floats(OP, &table)?, floats(OP, &scales)?);
    let mut values = vec![0.0; len];
    dequantise(&Pool, codes, Table { values: &table, each }, &scales, block, &mut values)?;
    tensor(OP, values, &[len])
}
