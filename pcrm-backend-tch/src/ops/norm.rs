//! Root-mean-square and layer normalisation over the last dimension. Statistics are f32 whatever the type.
//!
//! Computed in pieces on the CPU (see `workers.rs`). On CUDA by the kernels of `cuda/fused.rs`, and where they do
//! not serve, by libtorch's fused kernels with libtorch's autograd.

use tch::{Device, Kind, TchError, Tensor as Torch};

use super::Torched;
use super::history::{self, Graph};
use crate::cuda::{self, Fused};
use crate::workers;

/// The kind of normalisation, with its parameters `[width]`.
#[derive(Clone, Copy)]
pub(crate) enum Norm<'a> {
    /// x / √(mean(x²) + eps) · w
    Rms(&'a Torch),
    /// (x − mean) / √(var + eps) · w + b
    Layer(&'a Torch, &'a Torch),
}

/// The state of the forward that the backward needs.
pub(crate) enum Saved {
    /// The moments of every row.
    Moments(Moments),
    /// 1/σ of every row, from the fused kernels.
    Fused(&'static Fused, Torch),
    /// libtorch's own history.
    Graph(Graph),
}

/// The moments of every row in f32, `[rows, 1]`: its mean (for a layer norm) and 1/σ.
pub(crate) struct Moments {
    mean: Option<Torch>,
    inverse: Torch,
}

/// Normalises the rows, in x's type; saves nothing unless it `keeps`.
pub(crate) fn forward(norm: Norm<'_>, x: &Torch, eps: f64, keeps: bool) -> Torched<(Torch, Option<Saved>)> {
    if let (Norm::Rms(weight), Some(kernels)) = (norm, cuda::fused(x))
        && Fused::norms(x, weight)
    {
        let (value, inverse) = kernels.rms_norm(x, None, weight, eps)?;
        return Ok((value, keeps.then_some(Saved::Fused(kernels, inverse))));
    }
    if x.device() != Device::Cpu {
        let (value, graph) = fused(norm, x, eps, keeps)?;
        return Ok((value, graph.map(Saved::Graph)));
    }
    let (value, moments) = match norm {
        Norm::Rms(weight) => rms(x, weight, eps)?,
        Norm::Layer(weight, bias) => {
            let width = weight.size()[0];
            let (value, mean, inverse) = Torch::f_native_layer_norm(x, width, Some(weight), Some(bias), eps)?;
            let column = |x: Torch| x.f_to_kind(Kind::Float)?.f_reshape([-1, 1]);
            (value, Moments { mean: Some(column(mean)?), inverse: column(inverse)? })
        }
    };
    Ok((value, keeps.then_some(Saved::Moments(moments))))
}

/// Computes x + y and its root-mean-square norm in one launch, where the fused kernels serve.
pub(crate) fn forward_sum(
    [x, y]: [&Torch; 2],
    weight: &Torch,
    eps: f64,
    keeps: bool,
) -> Torched<Option<([Torch; 2], Option<Saved>)>> {
    match cuda::fused(x) {
        Some(kernels) if Fused::norms(x, weight) && Fused::norms(y, weight) && x.size() == y.size() => {
            let sum = x.f_empty_like()?;
            let (value, inverse) = kernels.rms_norm(x, Some([y, &sum]), weight, eps)?;
            Ok(Some(([sum, value], keeps.then_some(Saved::Fused(kernels, inverse)))))
        }
        _ => Ok(None),
    }
}

/// Computes the gradients of x, weight and bias (the last only for a layer norm).
pub(crate) fn backward(saved: Saved, norm: Norm<'_>, x: &Torch, gradient: &Torch) -> Torched<Vec<Torch>> {
    Ok(match (saved, norm) {
        (Saved::Fused(kernels, inverse), Norm::Rms(weight) | Norm::Layer(weight, _)) => {
            kernels.rms_norm_backward(x, weight, gradient, &inverse)?.into()
        }
        (Saved::Graph(graph), Norm::Rms(_)) => graph.backward::<2>(gradient)?.into(),
        (Saved::Graph(graph), Norm::Layer(..)) => graph.backward::<3>(gradient)?.into(),
        (Saved::Moments(moments), Norm::Rms(weight)) => {
            let [d_x, d_weight, _] = in_pieces(x, weight, gradient, &moments)?;
            vec![d_x, d_weight]
        }
        (Saved::Moments(moments), Norm::Layer(weight, _)) => in_pieces(x, weight, gradient, &moments)?.into(),
    })
}

fn fused(norm: Norm<'_>, x: &Torch, eps: f64, keeps: bool) -> Torched<(Torch, Option<Graph>)> {
    let inputs = match norm {
        Norm::Rms(weight) => vec![x, weight],
        Norm::Layer(weight, bias) => vec![x, weight, bias],
    };
    history::forward(&inputs, keeps, |leaves| match leaves {
        [x, weight] => x.f_rms_norm(weight.size(), Some(weight), eps),
        [x, weight, bias] => x.f_layer_norm(weight.size(), Some(weight), Some(bias), eps, true),
        _ => Err(TchError::Shape("a norm has one or two parameters".to_owned())),
    })
}

fn rms(x: &Torch, weight: &Torch, eps: f64) -> Torched<(Torch, Moments)> {
    let flat = x.f_reshape([-1, weight.size()[0]])?;
    let value = Torch::f_empty(flat.size(), (x.kind(), x.device()))?;
    let mut pieces = Vec::new();
    for (start, rows) in workers::rows(&flat) {
        let cut = |x: &Torch| x.f_narrow(0, start, rows);
        pieces.push((cut(&value)?, cut(&flat)?, weight.f_to_kind(Kind::Float)?));
    }
    let inverses = workers::each(x.device(), pieces, |(mut value, x, weight)| {
        let wide = x.f_to_kind(Kind::Float)?;
        let inverse = wide.f_mul(&wide)?.f_mean_dim(-1i64, true, None)?.f_add_scalar_(eps)?.f_rsqrt_()?;
        value.f_copy_(&wide.f_mul(&inverse)?.f_mul_(&weight)?)?;
        Ok(inverse)
    })?;
    Ok((value.f_reshape(x.size())?, Moments { mean: None, inverse: joined(&inverses)? }))
}

/// Computes the gradients of x, weight and bias.
fn in_pieces(x: &Torch, weight: &Torch, gradient: &Torch, moments: &Moments) -> Torched<[Torch; 3]> {
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
    let sums = workers::each(x.device(), pieces, |(d_x, inputs, moments)| {
        backward_rows(&d_x, inputs.each_ref(), &moments)
    })?;
    // Pieces have a fixed size, so the order of additions does not depend on threads.
    let sum = |at: usize| -> Torched {
        let parts: Vec<&Torch> = sums.iter().map(|sums| &sums[at]).collect();
        joined(&parts)?.f_sum_dim_intlist(0i64, false, None)?.f_to_kind(kind)
    };
    Ok([d_x.f_reshape(x.size())?, sum(0)?, sum(1)?])
}

/// Writes d_x and returns the sums over the rows for weight and bias, `[1, width]` each.
///
/// With n the normalised x and s = g·w: d_x = (s − mean(s) − n·mean(s·n)) / σ; a root-mean-square norm lacks
/// mean(s).
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

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(a: &Torch, b: &Torch) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    /// Protects: both implementations of a norm agree; normally only a GPU uses the fused one.
    #[test]
    fn fused_norms_agree_with_those_in_pieces() -> Result<(), Box<dyn std::error::Error>> {
        let _seed = crate::library::seeded(1);
        let normal = |size: &[i64]| Torch::randn(size, tch::kind::FLOAT_CPU);
        let (x, gradient) = (normal(&[700, 100]), normal(&[700, 100]));
        let (weight, bias) = (normal(&[100]), normal(&[100]));
        for norm in [Norm::Rms(&weight), Norm::Layer(&weight, &bias)] {
            let (want, saved) = forward(norm, &x, 1e-5, true)?;
            let (got, graph) = fused(norm, &x, 1e-5, true)?;
            assert!(difference(&got, &want) < 1e-5);
            let want = backward(saved.ok_or("moments")?, norm, &x, &gradient)?;
            let got = backward(Saved::Graph(graph.ok_or("a graph")?), norm, &x, &gradient)?;
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(&want) {
                assert!(difference(got, want) < 1e-3, "{}", difference(got, want));
            }
            assert!(forward(norm, &x, 1e-5, false)?.1.is_none());
        }
        Ok(())
    }
}
