//! x·Wᵀ + b.
//!
//! In f32 on the CPU a row gets the same bits whatever stands beside it: libtorch's product has other paths for the
//! last few of a number of rows that is no multiple of [`STEP`], so those rows go through a product of their own,
//! filled up with zeros.

use tch::{Device, Kind, Tensor as Torch};

use super::Torched;

/// Rows come in multiples of this: measured with libtorch 2.11 over widths of 40 to 4864, see the test
/// `a_row_has_the_same_bits_whatever_stands_beside_it`.
pub(crate) const STEP: i64 = 8;

/// x `[rows, in]`, weight `[out, in]`, bias `[out]` → `[rows, out]`.
pub(crate) fn forward(x: &Torch, weight: &Torch, bias: Option<&Torch>) -> Torched {
    let rows = x.size()[0];
    let rest = rows % STEP;
    if rest == 0 || x.kind() != Kind::Float || x.device() != Device::Cpu {
        return x.f_linear(weight, bias);
    }
    let filled = x.f_narrow(0, rows - rest, rest)?.f_constant_pad_nd([0, 0, 0, STEP - rest])?;
    let last = filled.f_linear(weight, bias)?.f_narrow(0, 0, rest)?;
    if rest == rows {
        return Ok(last);
    }
    let out = Torch::f_empty([rows, weight.size()[0]], (x.kind(), x.device()))?;
    let (whole, turned) = (rows - rest, weight.f_transpose(0, 1)?);
    let first = out.f_narrow(0, 0, whole)?;
    let _ = match bias {
        Some(bias) => bias.f_addmm_out(&first, &x.f_narrow(0, 0, whole)?, &turned)?,
        None => x.f_narrow(0, 0, whole)?.f_mm_out(&first, &turned)?,
    };
    out.f_narrow(0, whole, rest)?.f_copy_(&last)?;
    Ok(out)
}

/// g·W `[rows, in]`: the gradient of x.
pub(crate) fn backward_x(gradient: &Torch, weight: &Torch) -> Torched {
    gradient.f_mm(weight)
}

/// gᵀ·x `[out, in]`: the gradient of W.
pub(crate) fn backward_weight(gradient: &Torch, x: &Torch) -> Torched {
    gradient.f_transpose(0, 1)?.f_mm(x)
}

/// Σ g over the rows `[out]`: the gradient of b.
pub(crate) fn backward_bias(gradient: &Torch) -> Torched {
    gradient.f_sum_dim_intlist(0i64, false, None)
}
