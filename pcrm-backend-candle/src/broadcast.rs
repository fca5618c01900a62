//! Element-wise functions of two tensors that broadcast, and their gradients.

use candle_core as ct;
use pcrm_core::tensor::Binary;

/// a and b combined element by element.
pub(crate) fn binary(op: Binary, a: &ct::Tensor, b: &ct::Tensor) -> ct::Result<ct::Tensor> {
    match op {
        Binary::Add => a.broadcast_add(b),
        Binary::Sub => a.broadcast_sub(b),
        Binary::Mul => a.broadcast_mul(b),
        Binary::Div => a.broadcast_div(b),
        Binary::Maximum => a.broadcast_maximum(b),
        Binary::Minimum => a.broadcast_minimum(b),
    }
}

/// The gradients of both operands in the shape of the result `g`: [`reduce_to`] brings them back to their own.
pub(crate) fn binary_gradients(
    op: Binary,
    [a, b]: [&ct::Tensor; 2],
    g: &ct::Tensor,
) -> ct::Result<[ct::Tensor; 2]> {
    // Where the two are equal each gets half.
    let share = |first: ct::Tensor, tie: ct::Tensor| -> ct::Result<ct::Tensor> {
        let ties = tie.to_dtype(g.dtype())?.affine(0.5, 0.0)?;
        g.mul(&first.to_dtype(g.dtype())?.add(&ties)?)
    };
    Ok(match op {
        Binary::Add => [g.clone(), g.clone()],
        Binary::Sub => [g.clone(), g.neg()?],
        Binary::Mul => [g.broadcast_mul(b)?, g.broadcast_mul(a)?],
        Binary::Div => {
            let over = g.broadcast_div(b)?;
            let d_b = over.broadcast_mul(a)?.broadcast_div(b)?.neg()?;
            [over, d_b]
        }
        Binary::Maximum => {
            let tie = a.broadcast_eq(b)?;
            [share(a.broadcast_gt(b)?, tie.clone())?, share(a.broadcast_lt(b)?, tie)?]
        }
        Binary::Minimum => {
            let tie = a.broadcast_eq(b)?;
            [share(a.broadcast_lt(b)?, tie.clone())?, share(a.broadcast_gt(b)?, tie)?]
        }
    })
}

/// Adds up what broadcasting repeated, back to `shape`.
pub(crate) fn reduce_to(gradient: &ct::Tensor, shape: &[usize]) -> ct::Result<ct::Tensor> {
    let mut sum = gradient.clone();
    while sum.rank() > shape.len() {
        sum = sum.sum(0)?;
    }
    for (dim, length) in shape.iter().enumerate() {
        if *length == 1 && sum.dims()[dim] != 1 {
            sum = sum.sum_keepdim(dim)?;
        }
    }
    Ok(sum)
}
