//! FlashAttention 2, in bf16 or f16.

#![allow(unsafe_code, reason = "C functions")]

use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use tch::{TchError, Tensor as Torch};

use super::{Attended, Handle, Sequences, Slot, Visible, pointer, symbol, taken};
use crate::ops::Torched;

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

/// Returns the function, if this libtorch has it.
pub(super) fn flash() -> Option<Flash> {
    static FLASH: OnceLock<Option<Flash>> = OnceLock::new();
    *FLASH.get_or_init(|| symbol(b"aoti_torch_cuda__flash_attention_forward\0"))
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
    // SAFETY: the arguments match the signature; the tensors live during the call.
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
