//! Functions of libtorch's CUDA part that tch does not bind: attention over sequences of many lengths.
//!
//! `libtorch_cuda.so` exports them with a C interface for compiled models (`c_shim_cuda.h`). A handle is a
//! pointer to an `at::Tensor`, as in tch.

#![allow(unsafe_code, reason = "C functions")]

mod efficient;
mod flash;

use std::ptr::null;

use tch::{TchError, Tensor as Torch};
use torch_sys::C_tensor;

use self::efficient::efficient;
pub(crate) use self::efficient::{efficient_attention, efficient_backward};
use self::flash::flash;
pub(crate) use self::flash::{flash_attention, flash_backward};
use crate::ops::Torched;

type Handle = *const C_tensor;
type Slot = *mut *mut C_tensor;

/// Sequences of queries and of keys, each concatenated.
#[derive(Clone, Copy)]
pub(crate) struct Sequences<'a> {
    /// The first query of every sequence and the total, int32 `[sequences + 1]`.
    pub(crate) queries: &'a Torch,
    /// The same for keys.
    pub(crate) keys: &'a Torch,
    /// The most queries of a sequence.
    pub(crate) most_queries: i64,
    /// The most keys of a sequence.
    pub(crate) most_keys: i64,
}

/// The visible keys: the last query of a sequence is aligned with its last key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Visible {
    pub(crate) causal: bool,
    /// The number of keys before a query that it sees, besides its own; `None` for all.
    pub(crate) back: Option<i64>,
    /// The number of keys after a query that it sees, if not causal; `None` for all.
    pub(crate) ahead: Option<i64>,
}

/// The result of attention, with the state that its backward needs.
pub(crate) struct Attended {
    /// `[queries, heads, dim]`
    pub(crate) value: Torch,
    /// ln Σ eˣ
    pub(crate) totals: Torch,
    /// The state of dropout, which is not used.
    pub(crate) random: [Torch; 2],
}

/// Returns whether this libtorch has the functions.
pub(crate) fn are_found() -> bool {
    flash().is_some() && efficient().is_some()
}

#[cfg(unix)]
fn symbol<F: Copy>(name: &[u8]) -> Option<F> {
    use libloading::os::unix::Library;
    // SAFETY: the signatures match libtorch 2.11, the only release that tch links to; the library was loaded
    // globally and is never unloaded.
    unsafe { Library::this().get::<F>(name).ok().map(|symbol| *symbol) }
}

#[cfg(not(unix))]
fn symbol<F: Copy>(_: &[u8]) -> Option<F> {
    None
}

fn pointer<T>(value: &Option<T>) -> *const T {
    value.as_ref().map_or(null(), std::ptr::from_ref)
}

/// Wraps the tensors that a function returned.
///
/// # Safety
/// Every pointer must be null or own a tensor.
unsafe fn taken<const N: usize>(name: &str, code: i32, results: [*mut C_tensor; N]) -> Torched<[Torch; N]> {
    if code != 0 {
        return Err(TchError::Torch(format!("libtorch's {name} failed with code {code}")));
    }
    // An undefined tensor is an empty handle.
    let wrap = |result: *mut C_tensor| match result.is_null() {
        true => Torch::new(),
        // SAFETY: the caller's promise.
        false => unsafe { Torch::from_ptr(result) },
    };
    Ok(results.map(wrap))
}
