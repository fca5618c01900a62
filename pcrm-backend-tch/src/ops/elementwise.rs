//! Element-wise functions of one tensor, and silu(gate)·up.
//!
//! An element gets the same bits whatever its position and the number of threads: libtorch computes the last
//! few elements of a thread's share with other instructions, whose exponential differs, so here shares are
//! pieces of a fixed size, the last one padded.

use pcrm_core::tensor::Unary;
use tch::{Device, Kind, TchError, Tensor as Torch};

use super::Torched;
use crate::cuda::{self, Fused};
use crate::workers;

/// Computes op(x).
pub(crate) fn unary(op: Unary, x: &Torch) -> Torched {
    match op {
        Unary::Neg => x.f_neg(),
        Unary::Exp => x.f_exp(),
        Unary::Log => x.f_log(),
        Unary::Sqrt => x.f_sqrt(),
        Unary::Square => x.f_mul(x),
        Unary::Abs => x.f_abs(),
        Unary::Tanh => steady([x], |[x]| x.f_tanh()),
        Unary::Sigmoid => steady([x], |[x]| x.f_sigmoid()),
        Unary::Softplus => x.f_softplus(),
        Unary::Relu => x.f_relu(),
        Unary::Silu => steady([x], |[x]| x.f_silu()),
        Unary::Gelu => steady([x], |[x]| x.f_gelu("none")),
        Unary::GeluTanh => steady([x], |[x]| x.f_gelu("tanh")),
    }
}

/// Elements of one round of libtorch's vector loops: two AVX-512 registers of f32.
const ROUND: i64 = 32;

/// Applies an element-wise function in f32 on the CPU, in pieces of whole rounds, each on one thread.
fn steady<const N: usize>(inputs: [&Torch; N], op: impl Fn([&Torch; N]) -> Torched + Sync) -> Torched {
    let x = inputs[0];
    if x.kind() != Kind::Float || x.device() != Device::Cpu {
        return op(inputs);
    }
    let out = Torch::f_empty(x.size(), (x.kind(), x.device()))?;
    let flat_out = out.f_view([-1])?;
    let mut flat = Vec::with_capacity(N);
    for input in inputs {
        flat.push(input.f_reshape([-1])?);
    }
    let mut pieces = Vec::new();
    for (start, length) in workers::elements(&flat_out) {
        let cut = |x: &Torch| x.f_narrow(0, start, length);
        pieces.push((cut(&flat_out)?, flat.iter().map(cut).collect::<Torched<Vec<_>>>()?));
    }
    workers::each(Device::Cpu, pieces, |(mut out, inputs)| {
        let inputs: [Torch; N] =
            inputs.try_into().map_err(|_| TchError::Shape("as many pieces as inputs".to_owned()))?;
        out.f_copy_(&in_rounds(inputs.each_ref(), &op)?)
    })?;
    Ok(out)
}

/// Applies an element-wise function to a piece, padded to whole rounds.
fn in_rounds<const N: usize>(inputs: [&Torch; N], op: impl Fn([&Torch; N]) -> Torched) -> Torched {
    let elements = inputs[0].numel() as i64;
    let fill = (ROUND - elements % ROUND) % ROUND;
    if inputs[0].kind() != Kind::Float {
        return op(inputs);
    }
    let mut filled = inputs.map(Torch::shallow_clone);
    for input in &mut filled {
        // Halves of a fused projection have gaps between rows, which make libtorch's loops process row by
        // row.
        let flat = input.f_reshape([-1])?;
        *input = if fill == 0 { flat } else { flat.f_constant_pad_nd([0, fill])? };
    }
    op(filled.each_ref())?.f_narrow(0, 0, elements)?.f_reshape(inputs[0].size())
}

/// Computes the gradient of x from the gradient of op(x).
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
        Unary::Silu => steady([x, gradient], |[x, gradient]| x.f_silu_backward(gradient)),
        Unary::Gelu => steady([x, gradient], |[x, gradient]| x.f_gelu_backward(gradient, "none")),
        Unary::GeluTanh => steady([x, gradient], |[x, gradient]| x.f_gelu_backward(gradient, "tanh")),
    }
}

/// Computes silu(gate)·up, both `[rows, width]`.
pub(crate) fn swiglu(gate: &Torch, up: &Torch) -> Torched {
    if let Some(kernels) = cuda::fused(gate)
        && Fused::serves(&[gate, up], gate.numel() as i64)
    {
        return kernels.swiglu(gate, up);
    }
    let value = Torch::f_empty(gate.size(), (gate.kind(), gate.device()))?;
    let mut pieces = Vec::new();
    for (start, rows) in workers::rows(gate) {
        let cut = |x: &Torch| x.f_narrow(0, start, rows);
        pieces.push((cut(&value)?, [cut(gate)?, cut(up)?]));
    }
    workers::each(gate.device(), pieces, |(value, [gate, up])| {
        in_rounds([&gate], |[gate]| gate.f_silu())?.f_mul_out(&value, &up)
    })?;
    Ok(value)
}

/// Computes the gradients of gate and up.
pub(crate) fn swiglu_backward(gate: &Torch, up: &Torch, gradient: &Torch) -> Torched<[Torch; 2]> {
    if let Some(kernels) = cuda::fused(gate)
        && Fused::serves(&[gate, up, gradient], gate.numel() as i64)
    {
        return kernels.swiglu_backward(gate, up, gradient);
    }
    let like = |x: &Torch| Torch::f_empty(x.size(), (x.kind(), x.device()));
    let (d_gate, d_up) = (like(gate)?, like(up)?);
    let mut pieces = Vec::new();
    for (start, rows) in workers::rows(gate) {
        let cut = |x: &Torch| x.f_narrow(0, start, rows);
        pieces.push(([cut(&d_gate)?, cut(&d_up)?], [cut(gate)?, cut(up)?, cut(gradient)?]));
    }
    workers::each(gate.device(), pieces, |([d_gate, d_up], [gate, up, gradient])| {
        let _ = gate.f_silu()?.f_mul_out(&d_up, &gradient)?;
        gate.f_silu_backward_grad_input(&d_gate, &gradient.f_mul(&up)?)
    })?;
    Ok([d_gate, d_up])
}
