//! Root-mean-square and layer normalisation over the last dimension.

use candle_core as ct;
use multiversion::multiversion;
use pcrm_core::Result;
use rayon::prelude::*;

use super::slices::{dense, floats, tensor};
use pcrm_core::slices::lanes::{fold, fold2};

/// Rows per task; also the unit in which gradients of weights are summed, so it must not depend on the number
/// of threads.
const ROWS: usize = 64;

/// The kind of normalisation.
#[derive(Clone, Copy)]
pub(crate) enum Norm {
    /// x / √(mean(x²) + eps) · w
    Rms,
    /// (x − mean) / √(var + eps) · w + b
    Layer,
}

/// Normalises the rows.
pub(crate) fn forward(
    norm: Norm,
    x: &ct::Tensor,
    weight: &ct::Tensor,
    bias: Option<&ct::Tensor>,
    eps: f32,
) -> Result<ct::Tensor> {
    const OP: &str = "norm";
    let width = weight.elem_count();
    let mut values = vec![0.0; x.elem_count()];
    {
        let (x, weight) = (floats(OP, x)?, floats(OP, weight)?);
        let bias = bias.map(|bias| floats(OP, bias)).transpose()?;
        let bias: &[f32] = bias.as_deref().unwrap_or_default();
        let parts = values.par_chunks_mut(ROWS * width).zip(x.par_chunks(ROWS * width));
        parts.for_each(|(values, x)| forward_rows(norm, values, x, [&weight, bias], eps));
    }
    tensor(OP, values, x.dims())
}

#[multiversion(targets = "simd")]
fn forward_rows(norm: Norm, values: &mut [f32], x: &[f32], [weight, bias]: [&[f32]; 2], eps: f32) {
    let width = weight.len();
    for (values, x) in values.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let (mean, inverse) = moments(norm, x, eps);
        for ((value, x), weight) in values.iter_mut().zip(x).zip(weight) {
            *value = (x - mean) * inverse * weight;
        }
        for (value, bias) in values.iter_mut().zip(bias) {
            *value += bias;
        }
    }
}

/// Returns the shift and the factor of a row's normalisation.
#[inline(always)]
fn moments(norm: Norm, x: &[f32], eps: f32) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = match norm {
        Norm::Rms => 0.0,
        Norm::Layer => fold(x, |x| x) / width,
    };
    let variance = fold(x, |x| (x - mean) * (x - mean)) / width;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// Computes the gradients of x, weight and bias (the last only for a layer norm).
pub(crate) fn backward(
    norm: Norm,
    x: &ct::Tensor,
    weight: &ct::Tensor,
    gradient: &ct::Tensor,
    eps: f32,
) -> Result<[ct::Tensor; 3]> {
    const OP: &str = "norm backward";
    let gradient = dense(OP, gradient)?;
    let width = weight.elem_count();
    let mut d_x = vec![0.0; x.elem_count()];
    let (mut d_weight, mut d_bias) = (vec![0.0; width], vec![0.0; width]);
    {
        let (x, weight, gradient) = (floats(OP, x)?, floats(OP, weight)?, floats(OP, &gradient)?);
        let inputs = x.par_chunks(ROWS * width).zip(gradient.par_chunks(ROWS * width));
        let parts: Vec<(Vec<f32>, Vec<f32>)> = d_x
            .par_chunks_mut(ROWS * width)
            .zip(inputs)
            .map(|(d_x, (x, gradient))| {
                let (mut d_weight, mut d_bias) = (vec![0.0; width], vec![0.0; width]);
                backward_rows(norm, [d_x, &mut d_weight, &mut d_bias], [x, &weight, gradient], eps);
                (d_weight, d_bias)
            })
            .collect();
        for (weight, bias) in parts {
            d_weight.iter_mut().zip(weight).for_each(|(sum, part)| *sum += part);
            d_bias.iter_mut().zip(bias).for_each(|(sum, part)| *sum += part);
        }
    }
    Ok([tensor(OP, d_x, x.dims())?, tensor(OP, d_weight, &[width])?, tensor(OP, d_bias, &[width])?])
}

#[multiversion(targets = "simd")]
fn backward_rows(norm: Norm, outputs: [&mut [f32]; 3], inputs: [&[f32]; 3], eps: f32) {
    let [d_x, d_weight, d_bias] = outputs;
    let [x, weight, gradient] = inputs;
    let width = weight.len();
    let mut scaled = vec![0.0; width]; // g·w
    let mut normal = vec![0.0; width]; // (x − mean) / √(var + eps)
    let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width));
    for (d_x, (x, gradient)) in d_x.chunks_exact_mut(width).zip(rows) {
        let (mean, inverse) = moments(norm, x, eps);
        for at in 0..width {
            normal[at] = (x[at] - mean) * inverse;
            scaled[at] = gradient[at] * weight[at];
            d_weight[at] += gradient[at] * normal[at];
            d_bias[at] += gradient[at];
        }
        let along = fold2(&scaled, &normal, |a, b| a * b) / width as f32;
        let level = match norm {
            Norm::Rms => 0.0,
            Norm::Layer => fold(&scaled, |x| x) / width as f32,
        };
        for at in 0..width {
            d_x[at] = inverse * (scaled[at] - level - normal[at] * along);
        }
    }
}
