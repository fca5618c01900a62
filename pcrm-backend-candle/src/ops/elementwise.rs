//! Element-wise functions and their derivatives, on all cores.

use candle_core as ct;
use multiversion::multiversion;
use pcrm_core::tensor::Unary;
use pcrm_core::{Error, Result};
use rayon::prelude::*;

use super::slices::{dense, floats, tensor};
use pcrm_core::slices::lanes;

/// Elements per task: enough to hide the overhead of scheduling, few enough to stay in cache.
pub(crate) const GRAIN: usize = 16 * 1024;

/// Computes a + b for equal shapes.
pub(crate) fn add(a: &ct::Tensor, b: &ct::Tensor) -> Result<ct::Tensor> {
    const OP: &str = "add";
    if a.dims() != b.dims() {
        return Err(Error::shape(OP, "expected equal shapes", &[a.dims(), b.dims()]));
    }
    let (a, b) = (dense(OP, a)?, dense(OP, b)?);
    let mut sum = vec![0.0; a.elem_count()];
    {
        let (x, y) = (floats(OP, &a)?, floats(OP, &b)?);
        let parts = sum.par_chunks_mut(GRAIN).zip(x.par_chunks(GRAIN)).zip(y.par_chunks(GRAIN));
        parts.for_each(|((sum, x), y)| add_into(sum, x, y));
    }
    tensor(OP, sum, a.dims())
}

#[multiversion(targets = "simd")]
fn add_into(sum: &mut [f32], a: &[f32], b: &[f32]) {
    for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
        *sum = a + b;
    }
}

/// Computes f(x) of every element.
pub(crate) fn unary(op: Unary, x: &ct::Tensor) -> Result<ct::Tensor> {
    const OP: &str = "unary";
    let x = dense(OP, x)?;
    let mut values = vec![0.0; x.elem_count()];
    {
        let input = floats(OP, &x)?;
        let parts = values.par_chunks_mut(GRAIN).zip(input.par_chunks(GRAIN));
        parts.for_each(|(values, input)| unary_into(op, values, input));
    }
    tensor(OP, values, x.dims())
}

/// Computes g·f'(x) of every element.
pub(crate) fn unary_backward(op: Unary, x: &ct::Tensor, gradient: &ct::Tensor) -> Result<ct::Tensor> {
    const OP: &str = "unary backward";
    let (x, gradient) = (dense(OP, x)?, dense(OP, gradient)?);
    let mut values = vec![0.0; x.elem_count()];
    {
        let (input, gradient) = (floats(OP, &x)?, floats(OP, &gradient)?);
        let parts = values.par_chunks_mut(GRAIN).zip(input.par_chunks(GRAIN)).zip(gradient.par_chunks(GRAIN));
        parts.for_each(|((values, input), gradient)| derivative_into(op, values, input, gradient));
    }
    tensor(OP, values, x.dims())
}

/// Computes silu(gate)·up.
pub(crate) fn swiglu(gate: &ct::Tensor, up: &ct::Tensor) -> Result<ct::Tensor> {
    const OP: &str = "swiglu";
    let mut values = vec![0.0; gate.elem_count()];
    {
        let (gate, up) = (floats(OP, gate)?, floats(OP, up)?);
        let parts = values.par_chunks_mut(GRAIN).zip(gate.par_chunks(GRAIN)).zip(up.par_chunks(GRAIN));
        parts.for_each(|((values, gate), up)| swiglu_into(values, gate, up));
    }
    tensor(OP, values, gate.dims())
}

/// Computes the gradients of gate and up.
pub(crate) fn swiglu_backward(
    gate: &ct::Tensor,
    up: &ct::Tensor,
    gradient: &ct::Tensor,
) -> Result<(ct::Tensor, ct::Tensor)> {
    const OP: &str = "swiglu backward";
    let gradient = dense(OP, gradient)?;
    let (mut d_gate, mut d_up) = (vec![0.0; gate.elem_count()], vec![0.0; gate.elem_count()]);
    {
        let (gate, up, gradient) = (floats(OP, gate)?, floats(OP, up)?, floats(OP, &gradient)?);
        let inputs = gate.par_chunks(GRAIN).zip(up.par_chunks(GRAIN)).zip(gradient.par_chunks(GRAIN));
        let outputs = d_gate.par_chunks_mut(GRAIN).zip(d_up.par_chunks_mut(GRAIN));
        outputs.zip(inputs).for_each(|(outputs, ((gate, up), gradient))| {
            swiglu_backward_into(outputs, gate, up, gradient);
        });
    }
    Ok((tensor(OP, d_gate, gate.dims())?, tensor(OP, d_up, gate.dims())?))
}

#[multiversion(targets = "simd")]
fn swiglu_into(values: &mut [f32], gate: &[f32], up: &[f32]) {
    for ((value, gate), up) in values.iter_mut().zip(gate).zip(up) {
        *value = gate * lanes::sigmoid(*gate) * up;
    }
}

#[multiversion(targets = "simd")]
fn swiglu_backward_into(outputs: (&mut [f32], &mut [f32]), gate: &[f32], up: &[f32], gradient: &[f32]) {
    let inputs = gate.iter().zip(up).zip(gradient);
    for ((d_gate, d_up), ((gate, up), gradient)) in outputs.0.iter_mut().zip(outputs.1).zip(inputs) {
        let sigma = lanes::sigmoid(*gate);
        let silu = gate * sigma;
        *d_up = gradient * silu;
        *d_gate = gradient * up * (sigma + silu * (1.0 - sigma));
    }
}

#[inline(always)]
fn map(values: &mut [f32], input: &[f32], f: impl Fn(f32) -> f32) {
    for (value, x) in values.iter_mut().zip(input) {
        *value = f(*x);
    }
}

#[multiversion(targets = "simd")]
fn unary_into(op: Unary, values: &mut [f32], input: &[f32]) {
    match op {
        Unary::Neg => map(values, input, |x| -x),
        Unary::Exp => map(values, input, f32::exp),
        Unary::Log => map(values, input, f32::ln),
        Unary::Sqrt => map(values, input, f32::sqrt),
        Unary::Square => map(values, input, |x| x * x),
        Unary::Abs => map(values, input, f32::abs),
        Unary::Tanh => map(values, input, lanes::tanh),
        Unary::Sigmoid => map(values, input, lanes::sigmoid),
        Unary::Softplus => map(values, input, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        Unary::Relu => map(values, input, |x| if x > 0.0 { x } else { 0.0 }),
        Unary::Silu => map(values, input, |x| x * lanes::sigmoid(x)),
        Unary::Gelu => map(values, input, |x| x * normal_distribution(x)),
        Unary::GeluTanh => map(values, input, |x| 0.5 * x * (1.0 + lanes::tanh(gelu_inner(x)))),
    }
}

#[inline(always)]
fn map_derivative(values: &mut [f32], input: &[f32], gradient: &[f32], f: impl Fn(f32) -> f32) {
    for ((value, x), g) in values.iter_mut().zip(input).zip(gradient) {
        *value = g * f(*x);
    }
}

#[multiversion(targets = "simd")]
fn derivative_into(op: Unary, values: &mut [f32], input: &[f32], gradient: &[f32]) {
    match op {
        Unary::Neg => map_derivative(values, input, gradient, |_| -1.0),
        Unary::Exp => map_derivative(values, input, gradient, f32::exp),
        Unary::Log => map_derivative(values, input, gradient, |x| 1.0 / x),
        Unary::Sqrt => map_derivative(values, input, gradient, |x| 0.5 / x.sqrt()),
        Unary::Square => map_derivative(values, input, gradient, |x| 2.0 * x),
        Unary::Abs => map_derivative(values, input, gradient, |x| if x == 0.0 { 0.0 } else { x.signum() }),
        Unary::Tanh => map_derivative(values, input, gradient, |x| {
            let y = lanes::tanh(x);
            1.0 - y * y
        }),
        Unary::Sigmoid => map_derivative(values, input, gradient, |x| {
            let y = lanes::sigmoid(x);
            y * (1.0 - y)
        }),
        Unary::Softplus => map_derivative(values, input, gradient, lanes::sigmoid),
        Unary::Relu => map_derivative(values, input, gradient, |x| if x > 0.0 { 1.0 } else { 0.0 }),
        Unary::Silu => map_derivative(values, input, gradient, |x| {
            let sigma = lanes::sigmoid(x);
            sigma + x * sigma * (1.0 - sigma)
        }),
        Unary::Gelu => map_derivative(values, input, gradient, |x| {
            const INVERSE_ROOT_TAU: f32 = 0.398_942_3;
            normal_distribution(x) + x * INVERSE_ROOT_TAU * lanes::exp(-0.5 * x * x)
        }),
        Unary::GeluTanh => map_derivative(values, input, gradient, |x| {
            let y = lanes::tanh(gelu_inner(x));
            let slope = ROOT_2_OVER_PI * (1.0 + 3.0 * 0.044_715 * x * x);
            0.5 * (1.0 + y) + 0.5 * x * (1.0 - y * y) * slope
        }),
    }
}

const ROOT_2_OVER_PI: f32 = 0.797_884_6;

#[inline(always)]
fn gelu_inner(x: f32) -> f32 {
    ROOT_2_OVER_PI * (x + 0.044_715 * x * x * x)
}

#[inline(always)]
fn normal_distribution(x: f32) -> f32 {
    0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}
