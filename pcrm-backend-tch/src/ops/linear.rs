//! x·Wᵀ + b, and its gradients.
//!
//! In f32 on the CPU a row gets the same bits whatever the other rows of its batch and the number of threads.
//! libtorch divides a product among threads according to its size and their number, and sums depend on the
//! division. So a product is divided here into shares, each computed by one thread: whole rounds of [`STEP`]
//! rows, and of [`COLUMNS`] columns if there are too few rows for all threads. The last rows are padded to a
//! round with zeros.

use tch::{Device, Kind, Tensor as Torch};

use super::Torched;
use crate::cuda::{self, Fused};
use crate::workers;

/// The unit of rows, measured with libtorch 2.11 over widths of 40 to 4864; see the test
/// `a_row_has_the_same_bits_whatever_stands_beside_it`.
pub(crate) const STEP: i64 = 8;
/// Products of fewer columns are padded to this many: their sums depend on a row's position and alignment.
const NARROW: i64 = 16;
/// The unit of columns of a share, except for the last ones.
const COLUMNS: i64 = 64;

/// x `[rows, in]`, weight `[out, in]`, bias `[out]` → `[rows, out]`.
pub(crate) fn forward(x: &Torch, weight: &Torch, bias: Option<&Torch>) -> Torched {
    match in_shares(x) {
        true => product(x, &weight.f_transpose(0, 1)?, bias),
        false => x.f_linear(weight, bias),
    }
}

/// Computes g·W `[rows, in]`, the gradient of x.
pub(crate) fn backward_x(gradient: &Torch, weight: &Torch) -> Torched {
    match in_shares(gradient) {
        true => product(gradient, weight, None),
        false => gradient.f_mm(weight),
    }
}

/// Computes gᵀ·x `[out, in]`, the gradient of W.
pub(crate) fn backward_weight(gradient: &Torch, x: &Torch) -> Torched {
    let gradient = gradient.f_transpose(0, 1)?;
    match in_shares(x) {
        true => product(&gradient, x, None),
        false => gradient.f_mm(x),
    }
}

/// Computes Σ g over the rows `[out]`, the gradient of b.
pub(crate) fn backward_bias(gradient: &Torch) -> Torched {
    if let Some(kernels) = cuda::fused(gradient)
        && Fused::serves(&[gradient], gradient.size()[1])
    {
        return kernels.column_sums(gradient);
    }
    gradient.f_sum_dim_intlist(0i64, false, None)
}

fn in_shares(x: &Torch) -> bool {
    x.kind() == Kind::Float && x.device() == Device::Cpu
}

/// Computes a `[rows, inner]` · b `[inner, columns]` + bias `[columns]`.
fn product(a: &Torch, b: &Torch, bias: Option<&Torch>) -> Torched {
    let fill = NARROW - b.size()[1];
    if fill > 0 {
        let bias = bias.map(|bias| bias.f_constant_pad_nd([0, fill])).transpose()?;
        let wide = product(a, &b.f_constant_pad_nd([0, fill])?, bias.as_ref())?;
        return wide.f_narrow(1, 0, b.size()[1])?.f_contiguous();
    }
    let (rows, columns) = (a.size()[0], b.size()[1]);
    let out = Torch::f_empty([rows, columns], (Kind::Float, Device::Cpu))?;
    let (whole, rest) = (rows - rows % STEP, rows % STEP);
    let threads = workers::threads() as i64;
    let mut pieces = Vec::new();
    let mut cut = |a: &Torch, out: &Torch, parts: i64| -> Torched<()> {
        for (start, length) in shares(columns, parts, COLUMNS) {
            let of = |x: &Torch, dim: i64| x.f_narrow(dim, start, length);
            let bias = bias.map(|bias| of(bias, 0)).transpose()?;
            pieces.push((a.shallow_clone(), of(b, 1)?, bias, of(out, 1)?));
        }
        Ok(())
    };
    let by_rows = shares(whole, threads, STEP);
    let by_columns = threads / (by_rows.len().max(1) as i64);
    for (start, length) in by_rows {
        cut(&a.f_narrow(0, start, length)?, &out.f_narrow(0, start, length)?, by_columns)?;
    }
    let last = Torch::f_empty([if rest == 0 { 0 } else { STEP }, columns], (Kind::Float, Device::Cpu))?;
    if rest != 0 {
        cut(&a.f_narrow(0, whole, rest)?.f_constant_pad_nd([0, 0, 0, STEP - rest])?, &last, threads)?;
    }
    workers::each(Device::Cpu, pieces, |(a, b, bias, out)| match bias {
        Some(bias) => bias.f_addmm_out(&out, &a, &b),
        None => a.f_mm_out(&out, &b),
    })?;
    if rest != 0 {
        out.f_narrow(0, whole, rest)?.f_copy_(&last.f_narrow(0, 0, rest)?)?;
    }
    Ok(out)
}

/// Divides `length` into at most `parts` shares of whole steps (start, length); the last one includes the
/// remainder.
fn shares(length: i64, parts: i64, step: i64) -> Vec<(i64, i64)> {
    let steps = length / step;
    let parts = parts.clamp(1, steps.max(1));
    let mut shares = Vec::with_capacity(parts as usize);
    let mut start = 0;
    for part in 0..parts {
        let end = if part + 1 == parts { length } else { steps * (part + 1) / parts * step };
        if end > start {
            shares.push((start, end - start));
        }
        start = end;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: shares cover everything, consist of whole steps except for the last, and reach the requested
    /// number if there is enough.
    #[test]
    fn shares_are_whole_steps_that_cover_all() {
        assert_eq!(shares(24, 2, 8), [(0, 8), (8, 16)]);
        assert_eq!(shares(131, 2, 64), [(0, 64), (64, 67)]);
        assert_eq!(shares(7, 4, 64), [(0, 7)]);
        assert_eq!(shares(0, 4, 8), []);
        for (length, parts) in [(8 * 100, 3), (8 * 5, 16), (64, 4)] {
            let cut = shares(length, parts, 8);
            assert_eq!(cut.len() as i64, parts.min(length / 8));
            let mut next = 0;
            for (start, size) in cut {
                assert!(start == next && size % 8 == 0, "{length} in {parts}");
                next += size;
            }
            assert_eq!(next, length);
        }
    }

    /// Protects: products have the same bits with any number of threads.
    #[test]
    fn products_have_the_same_bits_with_any_number_of_threads() -> Torched<()> {
        let _seed = crate::library::seeded(3);
        let before = tch::get_num_threads();
        for (rows, inner, columns) in [(3, 40, 130), (8, 384, 1003), (129, 96, 65), (200, 600, 1)] {
            let x = Torch::randn([rows, inner], tch::kind::FLOAT_CPU);
            let w = Torch::randn([columns, inner], tch::kind::FLOAT_CPU);
            let bias = Torch::randn([columns], tch::kind::FLOAT_CPU);
            let all = |threads: i32| -> Torched<[Torch; 3]> {
                tch::set_num_threads(threads);
                let y = forward(&x, &w, Some(&bias))?;
                Ok([backward_x(&y, &w)?, backward_weight(&y, &x)?, y])
            };
            let want = all(1)?;
            for threads in [2, 3, 4, 8, 16] {
                for (got, want) in all(threads)?.iter().zip(&want) {
                    assert!(got.equal(want), "{rows}·{inner}·{columns} on {threads} threads");
                }
            }
            assert!((&want[2] - (x.matmul(&w.tr()) + &bias)).abs().max().double_value(&[]) < 1e-3);
        }
        tch::set_num_threads(before);
        Ok(())
    }
}
