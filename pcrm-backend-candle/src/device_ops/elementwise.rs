//! Element-wise functions and their derivatives, in f32.

use candle_core as ct;
use pcrm_core::tensor::Unary;

use super::float::{sigmoid, single};

const ROOT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
const INVERSE_ROOT_TAU: f64 = 0.398_942_280_401_432_7;

/// Computes f(x) of every element, in the type of x.
pub(crate) fn unary(op: Unary, x: &ct::Tensor) -> ct::Result<ct::Tensor> {
    let whole = single(x)?;
    let value = match op {
        Unary::Neg => whole.neg(),
        Unary::Exp => whole.exp(),
        Unary::Log => whole.log(),
        Unary::Sqrt => whole.sqrt(),
        Unary::Square => whole.sqr(),
        Unary::Abs => whole.abs(),
        Unary::Tanh => whole.tanh(),
        Unary::Sigmoid => sigmoid(&whole),
        Unary::Softplus => whole.relu()?.add(&whole.abs()?.neg()?.exp()?.affine(1.0, 1.0)?.log()?),
        Unary::Relu => whole.relu(),
        Unary::Silu => whole.silu(),
        Unary::Gelu => whole.gelu_erf(),
        Unary::GeluTanh => whole.gelu(),
    };
    value?.to_dtype(x.dtype())
}

/// Computes g·f'(x) of every element, in the type of x.
pub(crate) fn unary_backward(op: Unary, x: &ct::Tensor, gradient: &ct::Tensor) -> ct::Result<ct::Tensor> {
    single(gradient)?.mul(&derivative(op, &single(x)?)?)?.to_dtype(x.dtype())
}

fn derivative(op: Unary, x: &ct::Tensor) -> ct::Result<ct::Tensor> {
    match op {
        Unary::Neg => x.ones_like()?.neg(),
        Unary::Exp => x.exp(),
        Unary::Log => x.recip(),
        Unary::Sqrt => x.sqrt()?.recip()?.affine(0.5, 0.0),
        Unary::Square => x.affine(2.0, 0.0),
        Unary::Abs => positive(x)?.sub(&positive(&x.neg()?)?),
        Unary::Tanh => x.tanh()?.sqr()?.affine(-1.0, 1.0),
        Unary::Sigmoid => {
            let y = sigmoid(x)?;
            y.sub(&y.sqr()?)
        }
        Unary::Softplus => sigmoid(x),
        Unary::Relu => positive(x),
        Unary::Silu => {
            let y = sigmoid(x)?;
            y.mul(&x.mul(&y.affine(-1.0, 1.0)?)?.affine(1.0, 1.0)?)
        }
        Unary::Gelu => {
            let distribution = x.affine(std::f64::consts::FRAC_1_SQRT_2, 0.0)?.erf()?.affine(0.5, 0.5)?;
            let density = x.sqr()?.affine(-0.5, 0.0)?.exp()?.affine(INVERSE_ROOT_TAU, 0.0)?;
            distribution.add(&x.mul(&density)?)
        }
        Unary::GeluTanh => {
            let square = x.sqr()?;
            let y = x.mul(&square.affine(0.044_715 * ROOT_2_OVER_PI, ROOT_2_OVER_PI)?)?.tanh()?;
            let slope = square.affine(3.0 * 0.044_715 * ROOT_2_OVER_PI, ROOT_2_OVER_PI)?;
            let bend = x.mul(&y.sqr()?.affine(-1.0, 1.0)?)?.mul(&slope)?;
            y.add(&bend)?.affine(0.5, 0.5)
        }
    }
}

/// Returns 1 where x > 0, 0 elsewhere.
fn positive(x: &ct::Tensor) -> ct::Result<ct::Tensor> {
    x.gt(0.0f32)?.to_dtype(x.dtype())
}

/// Computes silu(gate)·up.
pub(crate) fn swiglu(gate: &ct::Tensor, up: &ct::Tensor) -> ct::Result<ct::Tensor> {
    gate.silu()?.mul(up)
}

/// Computes the gradients of gate and up; silu and its derivative in f32, the products in the tensors' type.
pub(crate) fn swiglu_backward(
    gate: &ct::Tensor,
    up: &ct::Tensor,
    gradient: &ct::Tensor,
) -> ct::Result<[ct::Tensor; 2]> {
    let whole = single(gate)?;
    let sigma = sigmoid(&whole)?;
    let silu = whole.mul(&sigma)?;
    let slope = sigma.add(&silu.sub(&silu.mul(&sigma)?)?)?.to_dtype(gate.dtype())?;
    let d_up = gradient.mul(&silu.to_dtype(gate.dtype())?)?;
    Ok([gradient.mul(up)?.mul(&slope)?, d_up])
}
