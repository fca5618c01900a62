//! PCRM on candle: f32 on the CPU in pure Rust on all cores, and f32 and bf16 on NVIDIA GPUs (feature
//! `cuda`).
//!
//! candle supplies storage, views, reductions and the matrix product; the tape is core's. This crate
//! implements the fused operations twice: on host slices for f32 on the CPU, and with candle's tensor
//! operations for everything else (`path.rs` chooses). candle's own autograd is not used: it adds every
//! gradient to a tensor of zeros, computes gradients of frozen operands, and silently cuts the graph at its
//! fused operations.
//!
//! The backend registers itself where the crate is linked:
//!
//! ```
//! use pcrm_backend_candle as _;
//! use pcrm_core::registry::{self, BackendPlugin};
//! use pcrm_core::{DType, Device, HostTensor, Params};
//!
//! let backend = (registry::find::<BackendPlugin>("candle")?.open)(Device::Cpu.into())?;
//! let x = backend.upload(&HostTensor::vector(vec![1.0, -2.0, 3.0]), DType::F32)?.variable();
//! let mut params = Params::default();
//! params.insert("x".to_owned(), x.clone());
//! let gradients = backend.backward(&x.mul(&x)?.sum_all()?, &params)?;
//! assert_eq!(gradients.get("x")?.read()?.into_f32(), [2.0, -4.0, 6.0]);
//! # Ok::<(), pcrm_core::Error>(())
//! ```

mod broadcast;
#[cfg(feature = "cuda")]
mod cuda;
mod device_kernels;
mod device_ops;
mod ops;
mod path;
mod slice_kernels;
mod tensor;

use candle_core as ct;
use pcrm_core::registry::BackendPlugin;
use pcrm_core::{Backend, DType, Device, Error, HostTensor, Place, Result, Tensor};

/// The name this backend is registered under.
pub const NAME: &str = "candle";

inventory::submit! {
    BackendPlugin { name: NAME, about: ABOUT, open: CandleBackend::open }
}

const ABOUT: &str = match cfg!(feature = "cuda") {
    true => "candle: f32 on the CPU, bf16 and f32 on NVIDIA GPUs",
    false => "candle, pure Rust: f32 on the CPU",
};

/// The candle backend, opened on a device.
#[derive(Debug, Clone)]
pub struct CandleBackend {
    device: Device,
    opened: ct::Device,
}

impl CandleBackend {
    /// Opens the backend.
    ///
    /// # Errors
    /// Fails for a GPU in a build without the feature `cuda`, and if the GPU does not exist.
    pub fn open(place: Place) -> Result<Box<dyn Backend>> {
        let device = place.device;
        let opened = match device {
            Device::Cpu => ct::Device::Cpu,
            Device::Cuda(index) if cfg!(feature = "cuda") => ct::Device::new_cuda(index).map_err(|e| {
                let why = e.to_string();
                let why = why.lines().next().unwrap_or_default(); // a backtrace may follow
                Error::Unsupported(format!("candle cannot open {device}: {why}; nvidia-smi lists the GPUs"))
            })?,
            Device::Cuda(_) => {
                return Err(Error::Unsupported(format!(
                    "the candle backend of this build supports only the device cpu, not {device}; NVIDIA \
                     GPUs need `cargo build --release -p pcrm-cli --features candle-cuda` \
                     (scripts/candle-cuda sets up the build)"
                )));
            }
        };
        #[cfg(feature = "cuda")]
        cuda::prepare(&opened);
        Ok(Box::new(Self { device, opened }))
    }
}

impl Backend for CandleBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn device(&self) -> Device {
        self.device
    }

    fn dtypes(&self) -> &'static [DType] {
        match self.device {
            Device::Cpu => &[DType::F32],
            Device::Cuda(_) => &[DType::BF16, DType::F32],
        }
    }

    fn upload(&self, host: &HostTensor, dtype: DType) -> Result<Tensor> {
        if !matches!(dtype, DType::U32 | DType::U8) && !self.dtypes().contains(&dtype) {
            return Err(Error::Unsupported(format!(
                "the candle backend supports f32 on the device {}, not {dtype}",
                self.device
            )));
        }
        tensor::upload(host, dtype, &self.opened)
    }

    #[cfg(feature = "cuda")]
    fn memory_in_use(&self) -> Option<u64> {
        cuda::memory_in_use(&self.opened)
    }

    fn synchronize(&self) -> Result<()> {
        self.opened.synchronize().map_err(Error::backend(NAME, "synchronize"))
    }
}
