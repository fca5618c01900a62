//! The allocator. Tensors are allocated and freed by the megabyte, and fetching fresh pages from the system takes a
//! tenth of a step.

#![allow(unsafe_code, reason = "mimalloc's options are a C function")]

use std::ffi::c_long;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3. The bindings do not name it, which is why their version is pinned.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Milliseconds before freed memory returns to the system.
const KEPT: c_long = 10_000;

/// Keeps freed memory for the next step, unless mimalloc's environment variable sets another delay.
pub fn keep_pages() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_some() {
        return;
    }
    // SAFETY: sets an integer that mimalloc reads; called before any other thread exists.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, KEPT) }
}
