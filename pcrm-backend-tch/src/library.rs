//! libtorch as a shared library: loads its parts and checks its devices.

#![allow(
    unsafe_code,
    reason = "loading a shared library runs its initialisers; malloc's options are a C function"
)]

use std::sync::Once;

use pcrm_core::{Device, Error, Result};

/// Loads libtorch's CUDA part if it is installed, before any query about devices: nothing links to it, so that one
/// binary serves machines with and without it. Also makes malloc keep freed memory, and MKL the order of its sums.
pub(crate) fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        load_cuda();
        keep_pages();
        keep_order();
    });
}

#[cfg(unix)]
fn load_cuda() {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: libtorch_cuda's initialisers register kernels with the linked libtorch; both are of one
    // release, because its soname is searched in the folder of that libtorch.
    if let Ok(library) = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
        // Kernels are registered permanently, so the library must never be unloaded.
        std::mem::forget(library);
    }
}

#[cfg(not(unix))]
fn load_cuda() {}

/// Makes malloc keep freed pages: CPU tensors allocate megabytes at a time, and fresh pages from the system
/// would cost a considerable part of a step.
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

/// Makes MKL add up a row of a product in one order, whatever the other rows: its strict mode of "conditional numerical
/// reproducibility". Without it, MKL picks the order by the product's size on Intel's newer CPUs. Must run before MKL's
/// first product, and warns if it comes too late; a mode in the environment (`MKL_CBWR`) is kept. On CPUs of other
/// vendors MKL has no such mode, and keeps the order without it.
#[cfg(all(unix, target_arch = "x86_64"))]
fn keep_order() {
    use libloading::os::unix::Library;
    const BEST_BRANCH: libc::c_int = 2;
    const STRICT: libc::c_int = 0x10000;
    let maker = std::arch::x86_64::__cpuid(0); // the name is in three registers
    let is_intel = [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel";
    if !is_intel || std::env::var_os("MKL_CBWR").is_some() {
        return;
    }
    type Set = unsafe extern "C" fn(libc::c_int) -> libc::c_int;
    // SAFETY: this is mkl_cbwr_set, which sets an integer. A libtorch without MKL does not export it.
    let code = unsafe {
        Library::this().get::<Set>(b"mkl_serv_cbwr_set\0").ok().map(|set| set(BEST_BRANCH | STRICT))
    };
    if let Some(code) = code.filter(|code| *code != 0) {
        tracing::warn!(
            "MKL refuses its strict mode (code {code}), so scores may depend on their batch and on the number of \
             threads; if this process used libtorch before it opened the backend, set MKL_CBWR=AUTO,STRICT"
        );
    }
}

#[cfg(not(all(unix, target_arch = "x86_64")))]
fn keep_order() {}

/// Prepares libtorch and seeds its random numbers. Every test calls this first, because MKL fixes the order of
/// sums once per process, in whichever test computes first. Until the guard is dropped, no other test draws
/// numbers from the same generator or sets the number of threads.
#[cfg(test)]
#[must_use = "other tests draw numbers once it is dropped"]
pub(crate) fn seeded(seed: i64) -> std::sync::MutexGuard<'static, ()> {
    static GENERATOR: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // A failed test leaves no state behind, so a poisoned lock can be used.
    let guard = GENERATOR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    prepare();
    tch::manual_seed(seed);
    guard
}

/// Fails if the GPU of this index cannot be used.
pub(crate) fn check_cuda(index: usize) -> Result<()> {
    let device = Device::Cuda(index);
    if !tch::utils::has_cudart() {
        return Err(Error::Unsupported(format!(
            "{device}: this libtorch has no CUDA; run `scripts/libtorch --cuda` to install one that has"
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

/// Returns the bytes in use on the GPU of this index, by all programs; `None` if CUDA does not report them.
#[cfg(unix)]
pub(crate) fn memory_in_use(index: usize) -> Option<u64> {
    use libloading::os::unix::Library;
    type Get = unsafe extern "C" fn(*mut libc::c_int) -> libc::c_int;
    type Set = unsafe extern "C" fn(libc::c_int) -> libc::c_int;
    type Info = unsafe extern "C" fn(*mut usize, *mut usize) -> libc::c_int;
    let index = libc::c_int::try_from(index).ok()?;
    let this = Library::this();
    let (mut current, mut free, mut total) = (0, 0, 0);
    // SAFETY: these are cudaGetDevice, cudaSetDevice and cudaMemGetInfo of the runtime that libtorch's CUDA part
    // loaded, called with CUDA's signatures. They write to the three numbers, and the thread keeps its device.
    let codes = unsafe {
        let get = this.get::<Get>(b"cudaGetDevice\0").ok()?;
        let set = this.get::<Set>(b"cudaSetDevice\0").ok()?;
        let info = this.get::<Info>(b"cudaMemGetInfo\0").ok()?;
        [get(&raw mut current), set(index), info(&raw mut free, &raw mut total), set(current)]
    };
    (codes == [0; 4]).then(|| total.saturating_sub(free) as u64)
}

#[cfg(not(unix))]
pub(crate) fn memory_in_use(_: usize) -> Option<u64> {
    None
}

/// Returns libtorch's name of a device.
pub(crate) fn device(device: Device) -> tch::Device {
    match device {
        Device::Cpu => tch::Device::Cpu,
        Device::Cuda(index) => tch::Device::Cuda(index),
    }
}
