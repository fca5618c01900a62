//! Compiled kernels of one GPU, launched on candle's stream.

#![allow(unsafe_code, reason = "a kernel gets bare addresses")]

use std::collections::HashMap;

use candle_core as ct;
use ct::cuda_backend::cudarc::driver::sys::{CUdevice_attribute, CUfunction_attribute};
use ct::cuda_backend::cudarc::driver::{CudaFunction, DevicePtr, LaunchConfig, PushKernelArg};
use ct::cuda_backend::cudarc::nvrtc::Ptx;
use ct::cuda_backend::{CudaDevice, WrapErr};
use half::bf16;
use pcrm_core::cuda::Argument;

use super::nvrtc;

/// The bytes of shared memory that a kernel may use without opting in to more.
const SHARED: usize = 48 * 1024;

/// The kernels of one source, compiled for one GPU.
pub(crate) struct Module {
    functions: HashMap<&'static str, CudaFunction>,
    processors: usize,
}

/// The size of a launch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) blocks: [usize; 3],
    pub(crate) threads: usize,
    /// Bytes of dynamic shared memory.
    pub(crate) shared: usize,
}

impl Grid {
    /// Returns a grid in one dimension.
    pub(crate) fn line(blocks: usize, threads: usize, shared: usize) -> Self {
        Self { blocks: [blocks, 1, 1], threads, shared }
    }
}

impl Module {
    /// Compiles a source for a GPU; `kernels` are the names of its kernels and the most dynamic shared memory
    /// that each is launched with. Fails with the reason if NVRTC is missing or refuses.
    pub(crate) fn compile(
        source: &str,
        options: &[String],
        kernels: &[(&'static str, usize)],
        device: &CudaDevice,
    ) -> Result<Self, String> {
        let stream = device.cuda_stream();
        let context = stream.context();
        let failed = |error: ct::cuda_backend::cudarc::driver::DriverError| error.to_string();
        let (major, minor) = context.compute_capability().map_err(failed)?;
        let count = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let processors = context.attribute(count).map_err(failed)? as usize;
        let ptx = nvrtc::compile(source, 10 * major + minor, options)?;
        let module = context.load_module(Ptx::from_src(ptx)).map_err(failed)?;
        let mut functions = HashMap::new();
        for (name, shared) in kernels {
            let function = module.load_function(name).map_err(failed)?;
            if *shared > SHARED {
                let most = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                function.set_attribute(most, *shared as i32).map_err(failed)?;
            }
            functions.insert(*name, function);
        }
        Ok(Self { functions, processors })
    }

    /// Returns the number of multiprocessors of the GPU.
    pub(crate) fn processors(&self) -> usize {
        self.processors
    }

    /// Launches a kernel after everything that was launched before.
    ///
    /// # Safety
    /// Arguments must match the kernel's parameters in number, order and type, and addresses must point to
    /// large enough tensors on this GPU.
    pub(crate) unsafe fn launch(
        &self,
        device: &CudaDevice,
        name: &str,
        grid: Grid,
        arguments: &[Argument],
    ) -> ct::Result<()> {
        let Some(function) = self.functions.get(name) else { ct::bail!("no kernel {name}") };
        let stream = device.cuda_stream();
        let mut launch = stream.launch_builder(function);
        for argument in arguments {
            match argument {
                Argument::Address(value) => launch.arg(value),
                Argument::I64(value) => launch.arg(value),
                Argument::I32(value) => launch.arg(value),
                Argument::F32(value) => launch.arg(value),
            };
        }
        let config = LaunchConfig {
            grid_dim: grid.blocks.map(|blocks| blocks as u32).into(),
            block_dim: (grid.threads as u32, 1, 1),
            shared_mem_bytes: grid.shared as u32,
        };
        // SAFETY: the caller's promise.
        unsafe { launch.launch(config) }.map(|_| ()).w()
    }
}

/// Returns the GPU of a tensor; `None` on the CPU.
pub(crate) fn device_of(x: &ct::Tensor) -> Option<&CudaDevice> {
    match x.device() {
        ct::Device::Cuda(device) => Some(device),
        _ => None,
    }
}

/// Returns the address of the first element of a contiguous tensor. The memory is freed after all kernels that
/// are launched while the tensor lives.
pub(crate) fn address(x: &ct::Tensor) -> ct::Result<Argument> {
    let (storage, layout) = x.storage_and_layout();
    let ct::Storage::Cuda(cuda) = &*storage else { ct::bail!("a kernel needs a tensor on a GPU") };
    let Some((start, _)) = layout.contiguous_offsets() else {
        ct::bail!("a kernel needs a contiguous tensor")
    };
    let stream = cuda.device.cuda_stream();
    let base = match x.dtype() {
        ct::DType::BF16 => cuda.as_cuda_slice::<bf16>()?.device_ptr(&stream).0,
        ct::DType::F32 => cuda.as_cuda_slice::<f32>()?.device_ptr(&stream).0,
        ct::DType::F64 => cuda.as_cuda_slice::<f64>()?.device_ptr(&stream).0,
        ct::DType::U8 => cuda.as_cuda_slice::<u8>()?.device_ptr(&stream).0,
        ct::DType::U32 => cuda.as_cuda_slice::<u32>()?.device_ptr(&stream).0,
        ct::DType::I64 => cuda.as_cuda_slice::<i64>()?.device_ptr(&stream).0,
        other => ct::bail!("no kernel takes {other:?}"),
    };
    Ok(Argument::Address(base + (start * x.dtype().size_in_bytes()) as u64))
}

/// Allocates a tensor for a kernel that writes all of it.
pub(crate) fn room(
    shape: impl Into<ct::Shape>,
    dtype: ct::DType,
    device: &ct::Device,
) -> ct::Result<ct::Tensor> {
    // SAFETY: the caller's kernel writes every element before anything reads it.
    unsafe { ct::Tensor::empty(shape, dtype, device) }
}
