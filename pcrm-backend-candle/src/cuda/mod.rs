//! Kernels for NVIDIA GPUs that candle lacks, compiled by NVRTC for the opened GPU.
//!
//! Kernels are compiled when they are first needed, and are then compared with candle's operations, in value and
//! in every gradient. If they differ or cannot be compiled, the backend warns once and uses candle's operations.

#![allow(unsafe_code, reason = "settings of the driver")]

mod attention;
mod fused;
mod module;
mod nvrtc;
mod offload;
mod optimiser_proof;
mod proof;
pub(crate) mod recorded;
mod update;

use std::sync::OnceLock;

use candle_core as ct;
use ct::cuda_backend::CudaDevice;
use ct::cuda_backend::cudarc::driver::result;
use ct::cuda_backend::cudarc::driver::sys::CUmemPool_attribute;
use pcrm_core::Attention;

use self::attention::Kernels;
use self::fused::Fused;
use self::module::device_of;

/// The most GPUs of a machine; any others use candle's kernels alone.
const GPUS: usize = 16;

/// The proven kernels of a GPU.
struct Proven {
    /// Attention with heads of 64 and of 128 elements.
    attention: [OnceLock<Option<Kernels>>; 2],
    fused: OnceLock<Option<Fused>>,
    /// True if the fused kernels for 8-bit AdamW and stochastic rounding passed their proof.
    optimiser: OnceLock<bool>,
}

impl Proven {
    const fn new() -> Self {
        Self { attention: [const { OnceLock::new() }; 2], fused: OnceLock::new(), optimiser: OnceLock::new() }
    }
}

static PROVEN: [Proven; GPUS] = [const { Proven::new() }; GPUS];

/// Prepares a GPU that was just opened.
pub(crate) fn prepare(device: &ct::Device) {
    let ct::Device::Cuda(device) = device else { return };
    // SAFETY: candle uses one stream for each thread, and a thread's tensors are its own: events between streams
    // would order nothing, and creating two for every tensor takes longer than allocating it. Whoever gives a
    // tensor to another thread calls `Backend::synchronize` first, and leaves dropping it to that thread.
    unsafe { device.disable_event_tracking() };
    if let Err(why) = keep_memory(device) {
        tracing::warn!(
            "{}: freed memory goes back to the driver, so training is slower: {why}",
            name(device)
        );
    }
}

/// Keeps freed memory for the next allocation: by default, every read of a result returns it to the driver.
fn keep_memory(device: &CudaDevice) -> Result<(), String> {
    let stream = device.cuda_stream();
    let mut all = u64::MAX;
    // SAFETY: the device exists, and the attribute is a number of 64 bits.
    let kept = unsafe {
        result::device::get_default_mem_pool(stream.context().cu_device()).and_then(|pool| {
            let threshold = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            result::mem_pool::set_attribute(pool, threshold, (&raw mut all).cast())
        })
    };
    kept.map_err(|error| error.to_string())
}

/// Returns the bytes in use on a GPU, by all programs; `None` if the driver does not report them.
pub(crate) fn memory_in_use(device: &ct::Device) -> Option<u64> {
    let ct::Device::Cuda(device) = device else { return None };
    let (free, total) = device.cuda_stream().context().mem_get_info().ok()?;
    Some(total.saturating_sub(free) as u64)
}

/// Returns the attention kernels for the GPU and the head size of q, if they serve it and are proven.
fn attention(q: &ct::Tensor, how: &Attention<'_>) -> Option<&'static Kernels> {
    let device = device_of(q).filter(|_| Kernels::serve(q, how))?;
    let dim = *q.dims().last()?;
    let slot = of(device)?.attention.get([64, 128].iter().position(|served| *served == dim)?)?;
    let prove = || {
        let kernels = Kernels::compile(dim, device)?;
        proof::of_attention(&kernels, dim, q.device()).map(|()| kernels)
    };
    slot.get_or_init(|| prove().map_err(|why| off(device, "attention in one call", &why)).ok()).as_ref()
}

/// Returns the fused kernels for the GPU of x, if they are proven.
fn fused(x: &ct::Tensor) -> Option<&'static Fused> {
    let device = device_of(x)?;
    let prove = || {
        let fused = Fused::compile(device)?;
        proof::of_fused(&fused, x.device()).map(|()| fused)
    };
    let slot = &of(device)?.fused;
    slot.get_or_init(|| prove().map_err(|why| off(device, "the use of fused kernels", &why)).ok()).as_ref()
}

/// Returns the kernels of AdamW with 8-bit moments and of stochastic rounding for the GPU of x, if they are proven.
fn optimiser(x: &ct::Tensor) -> Option<&'static Fused> {
    let (device, fused) = (device_of(x)?, fused(x)?);
    let what = "AdamW with 8-bit moments or stochastic rounding on the GPU";
    let prove = || optimiser_proof::of_optimiser(fused, x.device()).map_err(|why| off(device, what, &why));
    of(device)?.optimiser.get_or_init(|| prove().is_ok()).then_some(fused)
}

fn of(device: &CudaDevice) -> Option<&'static Proven> {
    PROVEN.get(device.cuda_stream().context().ordinal())
}

fn off(device: &CudaDevice, what: &str, why: &str) {
    tracing::warn!("{}: {what} is off, so training is slower: {why}", name(device));
}

fn name(device: &CudaDevice) -> String {
    format!("cuda:{}", device.cuda_stream().context().ordinal())
}
