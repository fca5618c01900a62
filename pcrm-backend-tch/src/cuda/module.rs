//! Kernels compiled at run time by NVRTC, launched on libtorch's stream.

#![allow(unsafe_code, reason = "a kernel gets bare addresses; finding the driver loads it")]

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::{CudaContext, CudaFunction, CudaStream, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use pcrm_core::cuda::Argument;
use tch::{TchError, Tensor as Torch};

use super::nvrtc;
use crate::ops::Torched;

/// The kernels of one source, compiled for one GPU.
pub(crate) struct Module {
    functions: HashMap<&'static str, CudaFunction>,
    stream: Arc<CudaStream>,
    processors: usize,
}

/// Returns the address of a tensor.
pub(crate) fn address(tensor: &Torch) -> Argument {
    Argument::Address(tensor.data_ptr() as u64)
}

/// Returns the address of a tensor, or null.
pub(crate) fn address_or_null(tensor: Option<&Torch>) -> Argument {
    tensor.map_or(Argument::Address(0), address)
}

/// The size of a launch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) blocks: usize,
    /// The second dimension of the grid.
    pub(crate) parts: usize,
    pub(crate) threads: usize,
    /// Bytes of dynamic shared memory.
    pub(crate) shared: usize,
}

impl Grid {
    pub(crate) fn new(blocks: usize, threads: usize) -> Self {
        Self { blocks, parts: 1, threads, shared: 0 }
    }
}

impl Module {
    /// Compiles these kernels of a source for this GPU. Fails if NVRTC or the driver is missing, with the reason.
    pub(crate) fn compile(source: &str, kernels: &[&'static str], index: usize) -> Result<Self, String> {
        // SAFETY: this only tries to load a library.
        if !unsafe { cudarc::driver::sys::is_culib_present() } {
            return Err("libcuda is not found".to_owned());
        }
        let failed = |error: cudarc::driver::DriverError| error.to_string();
        let context = CudaContext::new(index).map_err(failed)?;
        let attribute = |which: Attribute| context.attribute(which).map_err(failed);
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let processors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let options = [format!("--gpu-architecture=compute_{major}{minor}"), "--std=c++17".to_owned()];
        let ptx = nvrtc::compile(source, &options)?;
        let module = context.load_module(Ptx::from_src(ptx)).map_err(failed)?;
        let function = |name: &&'static str| Ok((*name, module.load_function(name).map_err(failed)?));
        let functions = kernels.iter().map(function).collect::<Result<_, String>>()?;
        Ok(Self { functions, stream: context.default_stream(), processors: processors as usize })
    }

    /// Returns the number of multiprocessors of the GPU.
    pub(crate) fn processors(&self) -> usize {
        self.processors
    }

    /// Launches a kernel after everything that libtorch has launched on its default stream.
    ///
    /// # Safety
    /// Arguments must match the kernel's parameters in number, order and type, and addresses must point to
    /// large enough tensors on this GPU.
    pub(crate) unsafe fn launch(&self, name: &str, grid: Grid, arguments: &[Argument]) -> Torched<()> {
        let failed =
            |error: cudarc::driver::DriverError| TchError::Torch(format!("the kernel {name}: {error}"));
        let Some(function) = self.functions.get(name) else {
            return Err(TchError::Torch(format!("the kernel {name} was not compiled")));
        };
        let mut launch = self.stream.launch_builder(function);
        for argument in arguments {
            match argument {
                Argument::Address(value) => launch.arg(value),
                Argument::I64(value) => launch.arg(value),
                Argument::I32(value) => launch.arg(value),
                Argument::F32(value) => launch.arg(value),
            };
        }
        let config = LaunchConfig {
            grid_dim: (grid.blocks as u32, grid.parts as u32, 1),
            block_dim: (grid.threads as u32, 1, 1),
            shared_mem_bytes: grid.shared as u32,
        };
        // SAFETY: the caller's promise.
        unsafe { launch.launch(config) }.map(|_| ()).map_err(failed)
    }
}
