//! What this backend has on NVIDIA GPUs beside candle's own kernels: kernels of its own, compiled by NVRTC for
//! the GPU at hand.
//!
//! Kernels are compiled when they are first needed, and then prove themselves against the path of candle's
//! operations, in value and in every gradient. If they fail or cannot be had, the backend warns once and takes
//! that path.

#![allow(unsafe_code, reason = "settings of the driver")]

pub(crate) mod attention;
mod module;
mod nvrtc;
mod proof;

use std::sync::OnceLock;

use candle_core as ct;
use ct::cuda_backend::CudaDevice;
use ct::cuda_backend::cudarc::driver::result;
use ct::cuda_backend::cudarc::driver::sys::CUmemPool_attribute;
use pcrm_core::Attention;

use self::attention::Kernels;
use self::module::device_of;

/// The most GPUs of a machine; any others use candle's kernels alone.
const GPUS: usize = 16;

/// The proven kernels of a GPU.
struct Proven {
    /// Attention with heads of 64 and of 128 elements.
    attention: [OnceLock<Option<Kernels>>; 2],
}

static PROVEN: [Proven; GPUS] = [const { Proven { attention: [const { OnceLock::new() }; 2] } }; GPUS];

/// Prepares a GPU that was just opened.
pub(crate) fn prepare(device: &ct::Device) {
    let ct::Device::Cuda(device) = device else { return };
    // SAFETY: candle uses one stream of a thread, so that events between streams order nothing, and creating
    // two for every tensor takes longer than allocating it.
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

/// Returns the attention kernels for the GPU and the head size of q, if they serve it and are proven.
pub(crate) fn attention(q: &ct::Tensor, how: &Attention<'_>) -> Option<&'static Kernels> {
    let device = device_of(q).filter(|_| Kernels::serve(q, how))?;
    let dim = *q.dims().last()?;
    let proven = PROVEN.get(device.cuda_stream().context().ordinal())?;
    let slot = proven.attention.get([64, 128].iter().position(|served| *served == dim)?)?;
    let prove = || {
        let kernels = Kernels::compile(dim, device)?;
        proof::of_attention(&kernels, dim, q.device()).map(|()| kernels)
    };
    let proven = slot.get_or_init(|| prove().map_err(|why| off(device, "attention in one call", &why)).ok());
    proven.as_ref()
}

fn off(device: &CudaDevice, what: &str, why: &str) {
    tracing::warn!("{}: {what} is off, so training is slower: {why}", name(device));
}

fn name(device: &CudaDevice) -> String {
    format!("cuda:{}", device.cuda_stream().context().ordinal())
}
