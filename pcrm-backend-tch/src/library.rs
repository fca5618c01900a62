//! libtorch as a shared library: which parts are loaded, and what devices it then has.

#![allow(
    unsafe_code,
    reason = "loading a shared library runs its initialisers; malloc's options are a C function"
)]

use std::sync::Once;

use pcrm_core::{Device, Error, Result};

/// Loads libtorch's CUDA part where there is one, before anything asks about devices: nothing links to it, so that
/// one binary serves machines with and without it. Also keeps freed memory for the next step.
pub(crate) fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        load_cuda();
        keep_pages();
    });
}

#[cfg(unix)]
fn load_cuda() {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: libtorch_cuda's initialisers register kernels with the libtorch that is linked; both are of one release,
    // as its soname is looked for where that libtorch lies.
    if let Ok(library) = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
        // Kernels are registered for good: it must never be unloaded.
        std::mem::forget(library);
    }
}

#[cfg(not(unix))]
fn load_cuda() {}

/// Tensors of the CPU come and go by the megabyte through malloc; fresh pages from the system cost a good part of a step.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_pages() {
    const KEPT: libc::c_int = 1 << 30;
    if std::env::var_os("MALLOC_TRIM_THRESHOLD_").is_some() {
        return;
    }
    // SAFETY: both set an integer that malloc reads.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_pages() {}

/// Whether the GPU of this index can be used.
pub(crate) fn check_cuda(index: usize) -> Result<()> {
    let device = Device::Cuda(index);
    if !tch::utils::has_cudart() {
        return Err(Error::Unsupported(format!(
            "{device}: the libtorch at hand has no CUDA; `scripts/libtorch --cuda` installs one that has"
        )));
    }
    match tch::Cuda::device_count() {
        0 => Err(Error::Unsupported(format!(
            "{device}: libtorch finds no GPU (is NVIDIA's driver installed?)"
        ))),
        count if (index as i64) < count => Ok(()),
        count => Err(Error::Unsupported(format!(
            "{device}: there is no such GPU; this machine has cuda:0{}",
            if count > 1 { format!(" to cuda:{}", count - 1) } else { String::new() }
        ))),
    }
}

/// libtorch's name of a device.
pub(crate) fn device(device: Device) -> tch::Device {
    match device {
        Device::Cpu => tch::Device::Cpu,
        Device::Cuda(index) => tch::Device::Cuda(index),
    }
}
