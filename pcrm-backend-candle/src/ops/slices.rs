//! Conversions between candle's tensors and slices of floats.

use std::ops::{Deref, Range};

use candle_core as ct;
use pcrm_core::slices::Spread;
use pcrm_core::{Error, Result};
use rayon::prelude::*;

/// The thread pool of this backend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool;

impl Spread for Pool {
    fn each<P: Send, R: Send>(&self, pieces: Vec<P>, work: impl Fn(P) -> R + Send + Sync) -> Result<Vec<R>> {
        Ok(pieces.into_par_iter().map(work).collect())
    }
}

/// The elements of a contiguous f32 tensor in CPU memory, locked for reading.
pub(crate) struct Floats<'a> {
    storage: ct::StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for Floats<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            ct::Storage::Cpu(ct::CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => &[],
        }
    }
}

/// Returns the elements of a tensor, row-major. The tensor must be contiguous: see [`dense`].
pub(crate) fn floats<'a>(op: &'static str, tensor: &'a ct::Tensor) -> Result<Floats<'a>> {
    let (storage, layout) = tensor.storage_and_layout();
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| Error::shape(op, "the operand is not contiguous", &[tensor.dims()]))?;
    match &*storage {
        ct::Storage::Cpu(ct::CpuStorage::F32(_)) => {}
        _ => return Err(Error::Unsupported(format!("{op}: f32 in CPU memory is needed, found {tensor:?}"))),
    }
    Ok(Floats { storage, range: start..end })
}

/// Returns the token ids or indices of a contiguous u32 tensor.
pub(crate) fn indices(op: &'static str, tensor: &ct::Tensor) -> Result<Vec<u32>> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).map_err(Error::backend(crate::NAME, op))
}

/// Returns the tensor itself if it is contiguous, a contiguous copy otherwise.
pub(crate) fn dense(op: &'static str, tensor: &ct::Tensor) -> Result<ct::Tensor> {
    tensor.contiguous().map_err(Error::backend(crate::NAME, op))
}

/// Wraps these elements as a tensor, without a copy.
pub(crate) fn tensor(op: &'static str, values: Vec<f32>, shape: &[usize]) -> Result<ct::Tensor> {
    ct::Tensor::from_vec(values, shape, &ct::Device::Cpu).map_err(Error::backend(crate::NAME, op))
}
