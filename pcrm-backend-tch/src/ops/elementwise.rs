//! Element-wise functions of one tensor, and silu(gate)·up.
//!
//! An element gets the same bits wherever it stands: libtorch computes the last few elements of a thread's share with
//! other instructions, whose exponential differs, so activations are filled up until nobody's share has such a rest.

use pcrm_core::tensor::Unary;
use tch::{Device, Kind, Tensor as Torch};

use super::Torched;
use crate::workers;

/// op(x)
pub(crate) fn unary(op: Unary, x: &Torch) -> Torched {
    match op {
        Unary::Neg => x.f_neg(),
        Unary::Exp => x.f_exp(),
        Unary::Log => x.f_log(),
        Unary::Sqrt => x.f_sqrt(),
        Unary::Square => x.f_mul(x),
        Unary::Abs => x.f_abs(),
        Unary::Tanh => x.f_tanh(),
        Unary::Sigmoid => x.f_sigmoid(),
        Unary::Softplus => x.f_softplus(),
        Unary::Relu => x.f_relu(),
        Unary::Silu => steady(x, Torch::f_silu),
        Unary::Gelu => steady(x, |x| x.f_gelu("none")),
        Unary::GeluTanh => steady(x, |x| x.f_gelu("tanh")),
    }
}

/// Elements of one round of libtorch's vector loops: two AVX-512 registers of f32.
const ROUND: i64 = 32;
/// Elements below which libtorch employs no further thread (`at::internal::GRAIN_SIZE`).
const GRAIN: i64 = 32 * 1024;

/// An activation in f32 on the CPU over elements filled up to whole rounds for every thread.
fn steady(x: &Torch, op: impl Fn(&Torch) -> Torched) -> Torched {
    if x.kind() != Kind::Float || x.device() != Device::Cpu {
        return op(x);
    }
    let elements = x.numel() as i64;
    let threads = i64::from(tch::get_num_threads()).min((elements + GRAIN - 1) / GRAIN).max(1);
    let rest = elements % (ROUND * threads);
    if rest == 0 && x.is_contiguous() {
        return op(x);
    }
    let fill = if rest == 0 { 0 } else { ROUND * threads - rest };
    let filled = op(&x.f_reshape([-1])?.f_constant_pad_nd([0, fill])?)?;
    filled.f_narrow(0, 0, elements)?.f_reshape(x.size())
}

/// The gradient of x from that of op(x).
pub(crate) fn unary_backward(op: Unary, x: &Torch, gradient: &Torch) -> Torched {
    match op {
        Unary::Neg => gradient.f_neg(),
        Unary::Exp => gradient.f_mul(&x.f_exp()?),
        Unary::Log => gradient.f_div(x),
        Unary::Sqrt => gradient.f_div(&x.f_sqrt()?.f_mul_scalar(2.0)?),
        Unary::Square => gradient.f_mul(&x.f_mul_scalar(2.0)?),
        Unary::Abs => gradient.f_mul(&x.f_sgn()?),
        Unary::Tanh => Torch::f_tanh_backward(gradient, &x.f_tanh()?),
        Unary::Sigmoid => Torch::f_sigmoid_backward(gradient, &x.f_sigmoid()?),
        Unary::Softplus => gradient.f_mul(&x.f_sigmoid()?),
        Unary::Relu => x.f_threshold_backward(gradient, 0.0),
        Unary::Silu => x.f_silu_backward(gradient),
        Unary::Gelu => x.f_gelu_backward(gradient, "none"),
        Unary::GeluTanh => x.f_gelu_backward(gradient, "tanh"),
    }
}

/// silu(gate)·up, both `[rows, width]`.
pub(crate) fn swiglu(gate: &Torch, up: &Torch) -> Torched {
    let value = Torch::f_empty(gate.size(), (gate.kind(), gate.device()))?;
    let mut pieces = Vec::new();
    for (start, rows) in workers::rows(gate) {
        let cut = |x: &Torch| x.f_narrow(0, start, rows);
        pieces.push((cut(&value)?, [cut(gate)?, cut(up)?]));
    }
    workers::each(pieces, |(value, [gate, up])| unary(Unary::Silu, &gate)?.f_mul_out(&value, &up))?;
    Ok(value)
}

/// The gradients of gate and up.
pub(crate) fn swiglu_backward(gate: &Torch, up: &Torch, gradient: &Torch) -> Torched<[Torch; 2]> {
    let like = |x: &Torch| Torch::f_empty(x.size(), (x.kind(), x.device()));
    let (d_gate, d_up) = (like(gate)?, like(up)?);
    let mut pieces = Vec::new();
    for (start, rows) in workers::rows(gate) {
        let cut = |x: &Torch| x.f_narrow(0, start, rows);
        pieces.push(([cut(&d_gate)?, cut(&d_up)?], [cut(gate)?, cut(up)?, cut(gradient)?]));
    }
    workers::each(pieces, |([d_gate, d_up], [gate, up, gradient])| {
        let _ = gate.f_silu()?.f_mul_out(&d_up, &gradient)?;
        gate.f_silu_backward_grad_input(&d_gate, &gradient.f_mul(&up)?)
    })?;
    Ok([d_gate, d_up])
}
