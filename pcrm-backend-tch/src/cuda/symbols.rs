//! Functions of libtorch's CUDA part that tch does not bind: attention over sequences of many lengths.
//!
//! `libtorch_cuda.so` exports them with a C interface for compiled models (`c_shim_cuda.h`). A handle is a
//! pointer to an `at::Tensor`, as in tch.

#![allow(unsafe_code, reason = "C functions")]

use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use tch::{TchError, Tensor as Torch};
use torch_sys::C_tensor;

use crate::ops::Torched;

type Handle = *const C_tensor;
type Slot = *mut *mut C_tensor;

type Flash = unsafe extern "C" fn(
    Handle,
    Handle,
    Handle,
    *const Handle,
    *const Handle,
    i64,
    i64,
    f64,
    i32,
    i32,
    *const f64,
    *const i64,
    *const i64,
    *const Handle,
    *const Handle,
    Slot,
    Slot,
    Slot,
    Slot,
    Slot,
) -> i32;
type Efficient = unsafe extern "C" fn(
    Handle,
    Handle,
    Handle,
    *const Handle,
    *const Handle,
    *const Handle,
    *const i64,
    *const i64,
    f64,
    i64,
    i32,
    *const f64,
    *const Handle,
    *const i64,
    Slot,
    Slot,
    Slot,
    Slot,
    *mut i64,
    *mut i64,
) -> i32;

/// Sequences of queries and keys that lie one behind the other.
#[derive(Clone, Copy)]
pub(crate) struct Sequences<'a> {
    /// The first query of every sequence and the total, int32 `[sequences + 1]`.
    pub(crate) queries: &'a Torch,
    /// The same of keys.
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

fn flash() -> Option<Flash> {
    static FLASH: OnceLock<Option<Flash>> = OnceLock::new();
    *FLASH.get_or_init(|| symbol(b"aoti_torch_cuda__flash_attention_forward\0"))
}

fn efficient() -> Option<Efficient> {
    static EFFICIENT: OnceLock<Option<Efficient>> = OnceLock::new();
    *EFFICIENT.get_or_init(|| symbol(b"aoti_torch_cuda__efficient_attention_forward\0"))
}

#[cfg(unix)]
fn symbol<F: Copy>(name: &[u8]) -> Option<F> {
    use libloading::os::unix::Library;
    // SAFETY: the signatures are those of libtorch 2.11, the only release that tch links to; the library was
    // loaded globally and is never unloaded.
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

/// FlashAttention 2 in bf16 or f16: q `[queries, heads, dim]`, k and v `[keys, kv_heads, dim]`, dim at most 256
/// and a multiple of 8.
pub(crate) fn flash_attention(
    [q, k, v]: [&Torch; 3],
    at: Sequences<'_>,
    scale: f64,
    visible: Visible,
) -> Torched<Attended> {
    let Some(function) = flash() else {
        return Err(TchError::Torch("this libtorch has no flash attention".to_owned()));
    };
    let (queries, keys) = (at.queries.as_ptr(), at.keys.as_ptr());
    let ahead = if visible.causal { Some(0) } else { visible.ahead };
    let mut results = [null_mut(); 5];
    let [out, totals, random, unused, debug] = &mut results;
    // SAFETY: the arguments are those of the signature; the tensors live during the call.
    let results = unsafe {
        let code = function(
            q.as_ptr(),
            k.as_ptr(),
            v.as_ptr(),
            &queries,
            &keys,
            at.most_queries,
            at.most_keys,
            0.0,
            i32::from(visible.causal),
            0,
            &scale,
            pointer(&visible.back),
            pointer(&ahead.filter(|_| visible.back.is_some() || visible.ahead.is_some())),
            null(), // all keys up to those of the next sequence
            null(),
            out,
            totals,
            random,
            unused,
            debug,
        );
        taken("flash attention", code, results)?
    };
    let [value, totals, random, unused, _] = results;
    Ok(Attended { value, totals, random: [random, unused] })
}

/// Computes the gradients of q, k and v.
pub(crate) fn flash_backward(
    [q, k, v]: [&Torch; 3],
    attended: &Attended,
    gradient: &Torch,
    at: Sequences<'_>,
    scale: f64,
    visible: Visible,
) -> Torched<[Torch; 3]> {
    let ahead = if visible.causal { Some(0) } else { visible.ahead };
    let windowed = visible.back.is_some() || visible.ahead.is_some();
    let (d_q, d_k, d_v) = Torch::f_internal_flash_attention_backward(
        gradient,
        q,
        k,
        v,
        &attended.value,
        &attended.totals,
        at.queries,
        at.keys,
        at.most_queries,
        at.most_keys,
        0.0,
        visible.causal,
        &attended.random[0],
        &attended.random[1],
        scale,
        visible.back,
        ahead.filter(|_| windowed),
    )?;
    Ok([d_q, d_k, d_v])
}

/// libtorch's memory-efficient attention in f32 or bf16: q, k and v `[1, rows, heads, dim]` with equal heads.
/// No window.
pub(crate) fn efficient_attention(
    [q, k, v]: [&Torch; 3],
    at: Sequences<'_>,
    scale: f64,
    visible: Visible,
) -> Torched<Attended> {
    let Some(function) = efficient() else {
        return Err(TchError::Torch("this libtorch has no efficient attention".to_owned()));
    };
    let (queries, keys) = (at.queries.as_ptr(), at.keys.as_ptr());
    let mut results = [null_mut(); 4];
    let [out, totals, seed, offset] = &mut results;
    let mut most = [0_i64; 2];
    let [most_queries, most_keys] = &mut most;
    // SAFETY: as above.
    let [value, totals, seed, offset] = unsafe {
        let code = function(
            q.as_ptr(),
            k.as_ptr(),
            v.as_ptr(),
            null(),
            &queries,
            &keys,
            &at.most_queries,
            &at.most_keys,
            0.0,
            kind_of(visible),
            1,
            &scale,
            null(),
            null(),
            out,
            totals,
            seed,
            offset,
            most_queries,
            most_keys,
        );
        taken("efficient attention", code, results)?
    };
    Ok(Attended { value, totals, random: [seed, offset] })
}

/// Computes the gradients of q, k and v.
pub(crate) fn efficient_backward(
    [q, k, v]: [&Torch; 3],
    attended: &Attended,
    gradient: &Torch,
    at: Sequences<'_>,
    scale: f64,
    visible: Visible,
) -> Torched<[Torch; 3]> {
    let (d_q, d_k, d_v, _) = Torch::f_internal_efficient_attention_backward(
        gradient,
        q,
        k,
        v,
        None,
        &attended.value,
        Some(at.queries),
        Some(at.keys),
        at.most_queries,
        at.most_keys,
        &attended.totals,
        0.0,
        &attended.random[0],
        &attended.random[1],
        kind_of(visible),
        false,
        scale,
        None,
        None,
        false,
    )?;
    Ok([d_q, d_k, d_v])
}

/// Returns libtorch's number of the mask: 0 for none, 2 for causal from the last query and key.
fn kind_of(visible: Visible) -> i64 {
    if visible.causal { 2 } else { 0 }
}
