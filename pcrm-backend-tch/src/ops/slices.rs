//! Conversions between libtorch's tensors and slices of floats.

#![allow(unsafe_code, reason = "a slice over libtorch's memory")]

use std::ops::Deref;

use pcrm_core::slices::Spread;
use pcrm_core::{Error, Result};
use tch::{Device, Kind, Tensor as Torch};

use super::Torched;
use crate::workers;
use crate::{NAME, failed};

/// The threads of libtorch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workers;

impl Spread for Workers {
    fn each<P: Send, R: Send>(&self, pieces: Vec<P>, work: impl Fn(P) -> R + Send + Sync) -> Result<Vec<R>> {
        workers::each(Device::Cpu, pieces, |piece| Ok(work(piece))).map_err(failed("attention"))
    }
}

/// The elements of a tensor on the CPU as f32, row-major, held for reading.
pub(crate) struct Floats(Torch);

impl Floats {
    /// Holds the elements; they are copied if the type or the order differs.
    pub(crate) fn of(tensor: &Torch) -> Result<Self> {
        let dense = || tensor.f_to_kind(Kind::Float)?.f_contiguous();
        let dense = dense().map_err(failed("attention"))?;
        match dense.device() == Device::Cpu && dense.kind() == Kind::Float && dense.is_contiguous() {
            true => Ok(Self(dense)),
            false => Err(Error::Unsupported(format!("{NAME}: f32 in CPU memory is needed, found {dense:?}"))),
        }
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let count = self.0.numel();
        if count == 0 {
            return &[];
        }
        // SAFETY: `of` ensures that the tensor is contiguous f32 in CPU memory, so `numel` initialised floats
        // begin at the pointer. The tensor is held as long as the slice, and nothing writes to it meanwhile:
        // operations in place (assign, write_rows, AdamW) run when no kernel does.
        unsafe { std::slice::from_raw_parts(self.0.data_ptr().cast::<f32>(), count) }
    }
}

/// The bytes of a tensor on the CPU, held for reading.
pub(crate) struct Bytes(Torch);

impl Bytes {
    /// Holds the bytes; they are copied if their order differs.
    pub(crate) fn of(tensor: &Torch) -> Result<Self> {
        let dense = tensor.f_contiguous().map_err(failed("dequantise"))?;
        match dense.device() == Device::Cpu && dense.kind() == Kind::Uint8 {
            true => Ok(Self(dense)),
            false => Err(Error::Unsupported(format!("{NAME}: u8 in CPU memory is needed, found {dense:?}"))),
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.0.numel() {
            0 => &[],
            // SAFETY: `of` ensures that the tensor is contiguous bytes in CPU memory, so `count` initialised bytes
            // begin at the pointer. The tensor is held as long as the slice, and nothing writes to codes.
            count => unsafe { std::slice::from_raw_parts(self.0.data_ptr().cast::<u8>(), count) },
        }
    }
}

/// Creates an f32 vector that `fill` overwrites, in libtorch's memory.
pub(crate) fn filled(len: usize, fill: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<Torch> {
    let vector = Torch::f_zeros([len as i64], (Kind::Float, Device::Cpu)).map_err(failed("filled"))?;
    if len > 0 {
        // SAFETY: the vector is new, contiguous and initialised, `len` floats begin at the pointer, and no other
        // handle to it exists.
        fill(unsafe { std::slice::from_raw_parts_mut(vector.data_ptr().cast::<f32>(), len) })?;
    }
    Ok(vector)
}

/// Creates a tensor with these elements.
pub(crate) fn tensor(values: &[f32], shape: &[i64]) -> Torched {
    Torch::f_from_slice(values)?.f_reshape(shape)
}
