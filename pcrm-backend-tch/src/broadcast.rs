//! Element-wise functions of two tensors, and their gradients before broadcasting is summed back.

use pcrm_core::tensor::Binary;
use tch::Tensor as Torch;

use crate::ops::Torched;

/// Combines a and b element by element, with broadcasting.
pub(crate) fn binary(op: Binary, a: &Torch, b: &Torch) -> Torched {
    match op {
        Binary::Add => a.f_add(b),
        Binary::Sub => a.f_sub(b),
        Binary::Mul => a.f_mul(b),
        Binary::Div => a.f_div(b),
        Binary::Maximum => a.f_maximum(b),
        Binary::Minimum => a.f_minimum(b),
    }
}

/// The operands that the backward pass of a binary operation reads. A sum reads neither, so they are freed.
pub(crate) enum Kept {
    Sum,
    Difference,
    Product([Torch; 2]),
    Quotient([Torch; 2]),
    Maximum([Torch; 2]),
    Minimum([Torch; 2]),
}

impl Kept {
    pub(crate) fn new(op: Binary, operands: [&Torch; 2]) -> Self {
        let both = || operands.map(Torch::shallow_clone);
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
    pub(crate) fn gradients(&self, gradient: &Torch) -> Torched<[Torch; 2]> {
        // Where the two are equal, each gets half.
        let share = |first: Torch, tie: &Torch| -> Torched {
            let ties = tie.f_to_kind(gradient.kind())?.f_mul_scalar(0.5)?;
            gradient.f_mul(&first.f_to_kind(gradient.kind())?.f_add(&ties)?)
        };
        Ok(match self {
            Self::Sum => [gradient.shallow_clone(), gradient.shallow_clone()],
            Self::Difference => [gradient.shallow_clone(), gradient.f_neg()?],
            Self::Product([a, b]) => [gradient.f_mul(b)?, gradient.f_mul(a)?],
            Self::Quotient([a, b]) => {
                let over = gradient.f_div(b)?;
                let d_b = over.f_mul(a)?.f_div(b)?.f_neg()?;
                [over, d_b]
            }
            Self::Maximum([a, b]) => {
                let tie = a.f_eq_tensor(b)?;
                [share(a.f_gt_tensor(b)?, &tie)?, share(a.f_lt_tensor(b)?, &tie)?]
            }
            Self::Minimum([a, b]) => {
                let tie = a.f_eq_tensor(b)?;
                [share(a.f_lt_tensor(b)?, &tie)?, share(a.f_gt_tensor(b)?, &tie)?]
            }
        })
    }
}
