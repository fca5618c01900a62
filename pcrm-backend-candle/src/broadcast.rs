//! Element-wise functions of two tensors that broadcast, and their gradients.

use candle_core as ct;
use pcrm_core::tensor::Binary;

/// Combines a and b element by element, with broadcasting.
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

/// The operands that the backward pass of a binary operation reads. A sum reads neither, so they are freed.
pub(crate) enum Kept {
    Sum,
    Difference,
    Product([ct::Tensor; 2]),
    Quotient([ct::Tensor; 2]),
    Maximum([ct::Tensor; 2]),
    Minimum([ct::Tensor; 2]),
}

impl Kept {
    pub(crate) fn new(op: Binary, operands: [&ct::Tensor; 2]) -> Self {
        let both = || operands.map(ct::Tensor::clone);
        match op {
            Binary::Add => Self::Sum,
            Binary::Sub => Self::Difference,
            Binary::Mul => Self::Product(both()),
            Binary::Div => Self::Quotient(both()),
            Binary::Maximum => Self::Maximum(both()),
            Binary::Minimum => Self::Minimum(both()),
        }
    }

    /// Returns the gradients of both operands in the shape of the result, before broadcasting is summed back.
    pub(crate) fn gradients(&self, gradient: &ct::Tensor) -> ct::Result<[ct::Tensor; 2]> {
        // Where the two are equal, each gets half.
        let share = |first: ct::Tensor, tie: &ct::Tensor| -> ct::Result<ct::Tensor> {
            let ties = tie.to_dtype(gradient.dtype())?.affine(0.5, 0.0)?;
            gradient.mul(&first.to_dtype(gradient.dtype())?.add(&ties)?)
        };
        Ok(match self {
            Self::Sum => [gradient.clone(), gradient.clone()],
            Self::Difference => [gradient.clone(), gradient.neg()?],
            Self::Product([a, b]) => [gradient.broadcast_mul(b)?, gradient.broadcast_mul(a)?],
            Self::Quotient([a, b]) => {
                let over = gradient.broadcast_div(b)?;
                let d_b = over.broadcast_mul(a)?.broadcast_div(b)?.neg()?;
                [over, d_b]
            }
            Self::Maximum([a, b]) => {
                let tie = a.broadcast_eq(b)?;
                [share(a.broadcast_gt(b)?, &tie)?, share(a.broadcast_lt(b)?, &tie)?]
            }
            Self::Minimum([a, b]) => {
                let tie = a.broadcast_eq(b)?;
                [share(a.broadcast_lt(b)?, &tie)?, share(a.broadcast_gt(b)?, &tie)?]
            }
        })
    }
}

/// Sums the elements that broadcasting repeated, back to `shape`.
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
