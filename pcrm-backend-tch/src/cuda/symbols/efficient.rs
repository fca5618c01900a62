//! libtorch's memory-efficient attention, in f32 or bf16.

#![allow(unsafe_code, reason = "C functions")]

use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use tch::{TchError, Tensor as Torch};

use super::{Attended, Handle, Sequences, Slot, Visible, symbol, taken};
use crate::ops::Torched;

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

/// Returns the function, if this libtorch has it.
pub(super) fn efficient() -> Option<Efficient> {
    static EFFICIENT: OnceLock<Option<Efficient>> = OnceLock::new();
    *EFFICIENT.get_or_init(|| symbol(b"aoti_torch_cuda__efficient_attention_forward\0"))
}

/// Computes libtorch's memory-efficient attention in f32 or bf16: q, k and v `[1, rows, heads, dim]` with equal heads.
/// It supports no window.
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
    // SAFETY: the arguments match the signature; the tensors live during the call.
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
