//! Root-mean-square and layer normalisation over the last dimension. Statistics are f32 whatever the type.

use tch::{Kind, Tensor as Torch};

use super::Torched;

/// Which normalisation.
#[derive(Clone, Copy)]
pub(crate) enum Norm {
    /// x / √(mean(x²) + eps) · w
    Rms,
    /// (x − mean) / √(var + eps) · w + b
    Layer,
}

/// What the backward needs of the forward: per row, in f32, `[.., 1]`.
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
        let f32 = |x: Torch| x.f_to_kind(Kind::Float);
        return Ok((value, Moments { mean: Some(f32(mean)?), inverse: f32(inverse)? }));
    }
    let wide = x.f_to_kind(Kind::Float)?;
    let mut squares = wide.f_mul(&wide)?.f_mean_dim(-1i64, true, None)?;
    let inverse = squares.f_add_scalar_(eps)?.f_rsqrt_()?;
    let value = wide.f_mul(&inverse)?.f_mul_(&weight.f_to_kind(Kind::Float)?)?.f_to_kind(x.kind())?;
    Ok((value, Moments { mean: None, inverse }))
}

/// The gradients of x, weight and bias (the last only of a layer norm).
///
/// With n the normalised x and s = g·w: d_x = (s − mean(s) − n·mean(s·n)) / σ; a root-mean-square norm lacks mean(s).
pub(crate) fn backward(
    x: &Torch,
    weight: &Torch,
    gradient: &Torch,
    moments: &Moments,
) -> Torched<[Torch; 3]> {
    let kind = x.kind();
    let width = weight.size()[0];
    let wide = x.f_to_kind(Kind::Float)?;
    let gradient = gradient.f_to_kind(Kind::Float)?;
    let normal = match &moments.mean {
        Some(mean) => wide.f_sub(mean)?.f_mul_(&moments.inverse)?,
        None => wide.f_mul(&moments.inverse)?,
    };
    let over_rows =
        |x: &Torch| x.f_reshape([-1, width])?.f_sum_dim_intlist(0i64, false, None)?.f_to_kind(kind);
    let along = gradient.f_mul(&normal)?; // g·n
    let d_weight = over_rows(&along)?;
    let d_bias = over_rows(&gradient)?;
    let wide_weight = weight.f_to_kind(Kind::Float)?;
    let level =
        |scaled: &Torch| scaled.f_matmul(&wide_weight)?.f_mul_scalar_(-1.0 / width as f64)?.f_unsqueeze(-1);
    let along = level(&along)?; // −mean(s·n), [.., 1]
    let mut d_x = gradient.f_mul(&wide_weight)?;
    if moments.mean.is_some() {
        d_x = d_x.f_add_(&level(&gradient)?)?;
    }
    let d_x = d_x.f_addcmul_(&normal, &along)?.f_mul_(&moments.inverse)?;
    Ok([d_x.f_to_kind(kind)?, d_weight, d_bias])
}
