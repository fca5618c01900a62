//! PCRM on libtorch: f32 and bf16, on the CPU and on CUDA.
//!
//! libtorch supplies storage, kernels and the matrix product; the tape is core's. libtorch's own autograd is
//! used only for attention and norms on CUDA (see `ops/history.rs`).

mod broadcast;
mod cuda;
#[cfg(feature = "distributed")]
pub mod distributed;
mod kernels;
mod library;
mod ops;
mod tensor;
mod workers;

use pcrm_core::registry::BackendPlugin;
use pcrm_core::{Backend, DType, Device, Error, HostTensor, Place, Result, Tensor};
use tch::TchError;

/// The name this backend is registered under.
pub const NAME: &str = "tch";

inventory::submit! {
    BackendPlugin { name: NAME, about: "libtorch: f32 and bf16, on the CPU and on CUDA", open: TchBackend::open }
}

/// The libtorch backend, opened on a device.
#[derive(Debug, Clone, Copy)]
pub struct TchBackend {
    device: Device,
}

impl TchBackend {
    /// Opens the backend.
    ///
    /// # Errors
    /// Fails if the GPU does not exist or libtorch has no CUDA.
    pub fn open(place: Place) -> Result<Box<dyn Backend>> {
        library::prepare();
        if let Device::Cuda(index) = place.device {
            library::check_cuda(index)?;
            cuda::prepare(index);
        }
        if let Some(threads) = place.threads {
            tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
        }
        Ok(Box::new(Self { device: place.device }))
    }
}

/// Returns the fast paths of an opened GPU that are off, each with the reason: what was missing, or how its results
/// differed from the reference. Empty on a GPU that computes as fast as this backend can.
pub fn paths_off(index: usize) -> Vec<String> {
    cuda::off(index)
}

impl Backend for TchBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn device(&self) -> Device {
        self.device
    }

    fn dtypes(&self) -> &'static [DType] {
        match self.device {
            Device::Cpu => &[DType::F32, DType::BF16],
            Device::Cuda(_) => &[DType::BF16, DType::F32],
        }
    }

    fn upload(&self, host: &HostTensor, dtype: DType) -> Result<Tensor> {
        tensor::upload(host, dtype, library::device(self.device))
    }

    fn memory_in_use(&self) -> Option<u64> {
        match self.device {
            Device::Cpu => None,
            Device::Cuda(index) => library::memory_in_use(index),
        }
    }

    fn synchronize(&self) -> Result<()> {
        if let Device::Cuda(index) = self.device {
            tch::Cuda::synchronize(index as i64);
        }
        Ok(())
    }
}

/// Converts libtorch's error to core's, without the C++ stack trace that follows the message.
pub(crate) fn failed(op: &'static str) -> impl FnOnce(TchError) -> Error {
    move |error| {
        let message = error.to_string();
        let reason = message.split("\nException raised from").next().unwrap_or(&message);
        Error::backend(NAME, op)(reason.trim().to_owned())
    }
}
