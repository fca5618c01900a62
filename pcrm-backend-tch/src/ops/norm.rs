//! Root-mean-square and layer normalisation over the last dimension. Statistics are f32 whatever the type.

use tch::{Kind, Tensor as Torch};

use super::Torched;
use crate::workers;

/// Which normalisation.
#[derive(Clone, Copy)]
pub(crate) enum Norm {
    /// x / √(mean(x²) + eps) · w
    Rms,
    /// (x − mean) / √(var + eps) · w + b
    Layer,
}

/// What the backward needs of the forward: per row, in f32, `[rows, 1]`.
pub(crate) struct Moments {
    mean: Option<Torch>,
    inverse: Torch,
}

/// The normalised rows, in x's type.
pub(crate) fn forward(
    norm: Norm,
    x: &Torch,
    weight: &Torch,
    bias: Option<&Torch>,
    eps: f64,
) -> Torched<(Torch, Moments)> {
    let width = weight.size()[0];
    if let (Norm::Layer, Some(bias)) = (norm, bias) {
        let (value, mean, inverse) = Torch::f_native_layer_norm(x, width, Some(weight), Some(bias), eps)?;
        let column = |x: Torch| x.f_to_kind(Kind::Float)?.f_reshape([-1, 1]);
        return Ok((value, Moments { mean: Some(column(mean)?), inverse: column(inverse)? }));
    }
    let flat = x.f_reshape([-1, width])?;
    let value = Torch::f_empty(flat.size(), (x.kind(), x.device()))?;
    let mut pieces = Vec::new();
    for (start, rows) in workers::rows(&flat) {
        let cut = |x: &Torch| x.f_narrow(0, start, rows);
        pieces.push((cut(&value)?, cut(&flat)?, weight.f_to_kind(Kind::Float)?));
    }
    let inverses = workers::each(pieces, |(mut value, x, weight)| {
        let wide = x.f_to_kind(Kind::Float)?;
        let inverse = wide.f_mul(&wide)?.f_mean_dim(-1i64, true, None)?.f_add_scalar_(eps)?.f_rsqrt_()?;
        value.f_copy_(&wide.f_mul(&inverse)?.f_mul_(&weight)?)?;
        Ok(inverse)
    })?;
    Ok((value.f_reshape(x.size())?, Moments { mean: None, inverse: joined(&inverses)? }))
}

/// The gradients of x, weight and bias (the last only of a layer norm).
pub(crate) fn backward(
    x: &Torch,
    weight: &Torch,
    gradient: &Torch,
    moments: &Moments,
) -> Torched<[Torch; 3]> {
    let kind = x.kind();
    let width = weight.size()[0];
    let (flat, gradient) = (x.f_reshape([-1, width])?, gradient.f_reshape([-1, width])?);
    let d_x = Torch::f_empty(flat.size(), (kind, x.device()))?;
    let mut pieces = Vec::new();
    for (start, rows) in workers::rows(&flat) {
        let cut = |x: &Torch| x.f_narrow(0, start, rows);
        let mean = moments.mean.as_ref().map(cut).transpose()?;
        let inputs = [cut(&flat)?, weight.f_to_kind(Kind::Float)?, cut(&gradient)?];
        pieces.push((cut(&d_x)?, inputs, Moments { mean, inverse: cut(&moments.inverse)? }));
    }
    let sums =
        workers::each(pieces, |(d_x, inputs, moments)| backward_rows(&d_x, inputs.each_ref(), &moments))?;
    // Pieces have a fixed size, so threads do not change the order of additions.
    let sum = |at: usize| -> Torched {
        let parts: Vec<&Torch> = sums.iter().map(|sums| &sums[at]).collect();
        joined(&parts)?.f_sum_dim_intlist(0i64, false, None)?.f_to_kind(kind)
    };
    Ok([d_x.f_reshape(x.size())?, sum(0)?, sum(1)?])
}

/// Writes d_x and gives the sums over the rows for weight and bias, `[1, width]` each.
///
/// With n the normalised x and s = g·w: d_x = (s − mean(s) − n·mean(s·n)) / σ; a root-mean-square norm lacks mean(s).
fn backward_rows(d_x: &Torch, [x, weight, gradient]: [&Torch; 3], moments: &Moments) -> Torched<[Torch; 2]> {
    let width = weight.size()[0];
    let (wide, gradient) = (x.f_to_kind(Kind::Float)?, gradient.f_to_kind(Kind::Float)?);
    let normal = match &moments.mean {
        Some(mean) => wide.f_sub(mean)?.f_mul_(&moments.inverse)?,
        None => wide.f_mul(&moments.inverse)?,
    };
    let along = gradient.f_mul(&normal)?; // g·n
    let sums = [along.f_sum_dim_intlist(0i64, true, None)?, gradient.f_sum_dim_intlist(0i64, true, None)?];
    let level = |scaled: &Torch| scaled.f_mv(weight)?.f_mul_scalar_(-1.0 / width as f64)?.f_unsqueeze(-1);
    let mut scaled = gradient.f_mul(weight)?;
    if moments.mean.is_some() {
        scaled = scaled.f_add_(&level(&gradient)?)?;
    }
    let d_wide = scaled.f_addcmul_(&normal, &level(&along)?)?.f_mul_(&moments.inverse)?;
    d_x.shallow_clone().f_copy_(&d_wide)?;
    Ok(sums)
}

fn joined(parts: &[impl std::borrow::Borrow<Torch>]) -> Torched {
    Torch::f_cat(parts, 0)
}
