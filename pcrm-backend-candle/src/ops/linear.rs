//! x·Wᵀ + b, with the gradient of W made contiguous in W's own shape.
//!
//! A row gets the same bits whatever the other rows of its batch: few rows are padded with zeros to
//! [`steady_rows`], and products of fewer than [`FEW`] outputs are plain dot products.

use candle_core as ct;
use multiversion::multiversion;
use pcrm_core::Result;
use rayon::prelude::*;

use super::slices::{dense, floats, tensor};
use pcrm_core::slices::lanes::fold2;
use pcrm_core::slices::product::{Cores, Matrix, product, steady_rows};

const FEW: usize = 8;
const ROWS: usize = 64;
/// The most rows whose product is computed as (W·xᵀ)ᵀ. gemm reorders the matrix that follows the columns of its
/// result, here W, with one scalar load per element, which so few rows do not repay: x is reordered in its place.
/// An element is the same sum in the same order.
const TURNED: usize = 48;

/// Computes x `[rows, in]`, weight `[out, in]`, bias `[out]` → `[rows, out]`.
pub(crate) fn forward(x: &ct::Tensor, weight: &ct::Tensor, bias: Option<&ct::Tensor>) -> Result<ct::Tensor> {
    const OP: &str = "linear";
    let (rows, width, outputs) = (x.dims()[0], x.dims()[1], weight.dims()[0]);
    let (x, weight) = (floats(OP, x)?, floats(OP, weight)?);
    let mut values = x_times_wt(&x, &weight, [rows, width, outputs]);
    if let Some(bias) = bias {
        let bias = floats(OP, bias)?;
        values.par_chunks_mut(ROWS * outputs).for_each(|rows| {
            for row in rows.chunks_exact_mut(outputs) {
                row.iter_mut().zip(&*bias).for_each(|(value, bias)| *value += bias);
            }
        });
    }
    tensor(OP, values, &[rows, outputs])
}

/// Computes x·Wᵀ: x `[rows, width]`, weight `[outputs, width]` → `[rows, outputs]`.
pub(crate) fn x_times_wt(x: &[f32], weight: &[f32], [rows, width, outputs]: [usize; 3]) -> Vec<f32> {
    let times = |x: &[f32], rows: usize| {
        let (x, weight) = (Matrix::new(x, rows, width), Matrix::new(weight, outputs, width));
        match rows <= TURNED {
            true => transposed(&product(weight, x.transposed(), Cores::All), outputs, rows),
            false => product(x, weight.transposed(), Cores::All),
        }
    };
    match steady_rows(outputs) {
        _ if outputs < FEW => dots(x, weight, rows, width),
        steady if rows < steady => {
            let mut filled = x.to_vec();
            filled.resize(steady * width, 0.0);
            let mut values = times(&filled, steady);
            values.truncate(rows * outputs);
            values
        }
        _ => times(x, rows),
    }
}

/// Transposes `[rows, columns]`, which must not be empty, to `[columns, rows]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const BLOCK: usize = 16;
    let mut turned = vec![0.0; values.len()];
    turned.par_chunks_mut(BLOCK * rows).enumerate().for_each(|(block, turned)| {
        for start in (0..rows).step_by(BLOCK) {
            for (at, line) in turned.chunks_exact_mut(rows).enumerate() {
                for (row, value) in (start..).zip(line[start..].iter_mut().take(BLOCK)) {
                    *value = values[row * columns + block * BLOCK + at];
                }
            }
        }
    });
    turned
}

fn dots(x: &[f32], weight: &[f32], rows: usize, width: usize) -> Vec<f32> {
    let outputs = weight.len() / width.max(1);
    let mut values = vec![0.0; rows * outputs];
    let parts = values.par_chunks_mut(ROWS * outputs.max(1)).zip(x.par_chunks(ROWS * width.max(1)));
    parts.for_each(|(values, x)| dots_into(values, x, weight, width));
    values
}

#[multiversion(targets = "simd")]
fn dots_into(values: &mut [f32], x: &[f32], weight: &[f32], width: usize) {
    let pairs = x.chunks_exact(width).flat_map(|x| weight.chunks_exact(width).map(move |weight| (x, weight)));
    for (value, (x, weight)) in values.iter_mut().zip(pairs) {
        *value = fold2(x, weight, |a, b| a * b);
    }
}

/// Computes g·W `[rows, in]`, the gradient of x.
pub(crate) fn backward_x(gradient: &ct::Tensor, weight: &ct::Tensor) -> Result<ct::Tensor> {
    const OP: &str = "linear backward";
    let gradient = dense(OP, gradient)?;
    let (rows, outputs, width) = (gradient.dims()[0], weight.dims()[0], weight.dims()[1]);
    let (gradient, weight) = (floats(OP, &gradient)?, floats(OP, weight)?);
    let values =
        product(Matrix::new(&gradient, rows, outputs), Matrix::new(&weight, outputs, width), Cores::All);
    tensor(OP, values, &[rows, width])
}

/// Computes gᵀ·x `[out, in]`, the gradient of W.
pub(crate) fn backward_weight(gradient: &ct::Tensor, x: &ct::Tensor) -> Result<ct::Tensor> {
    const OP: &str = "linear backward";
    let gradient = dense(OP, gradient)?;
    let (rows, outputs, width) = (x.dims()[0], gradient.dims()[1], x.dims()[1]);
    let (gradient, x) = (floats(OP, &gradient)?, floats(OP, x)?);
    let turned = Matrix::new(&gradient, rows, outputs).transposed();
    tensor(OP, product(turned, Matrix::new(&x, rows, width), Cores::All), &[outputs, width])
}

/// Computes Σ g over the rows `[out]`, the gradient of b.
pub(crate) fn backward_bias(gradient: &ct::Tensor) -> Result<ct::Tensor> {
    const OP: &str = "linear backward";
    let gradient = dense(OP, gradient)?;
    let outputs = gradient.dims()[1];
    let mut sum = vec![0.0; outputs];
    {
        let gradient = floats(OP, &gradient)?;
        // Summed in parts of a fixed number of rows, so that the order of additions does not depend on
        // threads.
        let parts: Vec<Vec<f32>> = gradient
            .par_chunks(ROWS * outputs)
            .map(|rows| {
                let mut part = vec![0.0; outputs];
                for row in rows.chunks_exact(outputs) {
                    part.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                }
                part
            })
            .collect();
        for part in parts {
            sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
    }
    tensor(OP, sum, &[outputs])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a row has the same bits whatever the number of rows, on both sides of every change of path, and
    /// is near the sum of its products in double precision.
    #[test]
    fn a_row_has_the_same_bits_among_any_number_of_rows() {
        let number = |at: usize, prime: usize| ((at * prime) % 1009) as f32 / 1009.0 - 0.5;
        for (width, outputs) in
            [(384, 65), (33, 1003), (1030, 96), (3, 200), (2, 200), (1, 70), (48, 64), (40, 7)]
        {
            let x: Vec<f32> = (0..130 * width).map(|at| number(at, 7919)).collect();
            let weight: Vec<f32> = (0..outputs * width).map(|at| number(at, 104_729)).collect();
            let whole = x_times_wt(&x, &weight, [130, width, outputs]);
            for (at, value) in whole.iter().enumerate() {
                let (row, output) = (at / outputs, at % outputs);
                let (x, weight) = (&x[row * width..][..width], &weight[output * width..][..width]);
                let exact: f64 = x.iter().zip(weight).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                assert!(
                    (f64::from(*value) - exact).abs() < 1e-4,
                    "{width} to {outputs}, {at}: {value}, {exact}"
                );
            }
            for rows in [1, 2, 7, 8, 9, 15, 16, 17, 31, 47, 48, 49, 64, 65, 66, 129] {
                let some = x_times_wt(&x[..rows * width], &weight, [rows, width, outputs]);
                let same = some.iter().zip(&whole).all(|(one, other)| one.to_bits() == other.to_bits());
                assert!(same && some.len() == rows * outputs, "{width} to {outputs}: {rows} rows");
            }
        }
    }
}
