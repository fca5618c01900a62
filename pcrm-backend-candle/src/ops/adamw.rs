//! AdamW in place, and sums of squares in f64.

use candle_core as ct;
use ct::{CpuStorage, InplaceOp2, InplaceOp3, Layout};
use multiversion::multiversion;
use pcrm_core::kernels::AdamWStep;
use pcrm_core::{Error, Result};
use rayon::prelude::*;

use super::elementwise::GRAIN;
use super::slices::{dense, floats};

/// Updates param, mean and variance in place; all contiguous f32.
pub(crate) fn step(
    step: &AdamWStep,
    [param, mean, variance]: [&ct::Tensor; 3],
    gradient: &ct::Tensor,
) -> Result<()> {
    const OP: &str = "adamw";
    let gradient = dense(OP, gradient)?;
    if [param, mean, variance].iter().any(|slot| slot.dims() != gradient.dims()) {
        let shapes = [param.dims(), mean.dims(), variance.dims(), gradient.dims()];
        return Err(Error::shape(OP, "expected equal shapes", &shapes));
    }
    let err = || Error::backend(crate::NAME, OP);
    let scale = step.grad_scale as f32;
    mean.inplace_op2(&gradient, &Blend { keep: step.beta1 as f32, scale, power: Power::One })
        .map_err(err())?;
    variance
        .inplace_op2(&gradient, &Blend { keep: step.beta2 as f32, scale, power: Power::Two })
        .map_err(err())?;
    let bias1 = 1.0 - step.beta1.powf(step.step as f64);
    let bias2 = 1.0 - step.beta2.powf(step.step as f64);
    let update = Update {
        decay: (1.0 - step.lr * step.weight_decay) as f32,
        rate: (step.lr / bias1) as f32,
        root_scale: (1.0 / bias2.sqrt()) as f32,
        eps: step.eps as f32,
    };
    param.inplace_op3(mean, variance, &update).map_err(err())
}

/// Overwrites a tensor with another's elements.
pub(crate) fn assign(target: &ct::Tensor, value: &ct::Tensor) -> Result<()> {
    let value = dense("assign", value)?;
    target.inplace_op2(&value, &Overwrite).map_err(Error::backend(crate::NAME, "assign"))
}

/// Computes Σ x²; each part and the sum of the parts are in f64.
pub(crate) fn sum_of_squares(x: &ct::Tensor) -> Result<f64> {
    let x = dense("sum_of_squares", x)?;
    let values = floats("sum_of_squares", &x)?;
    let parts: Vec<f64> = values.par_chunks(GRAIN).map(squares).collect();
    Ok(parts.iter().sum())
}

#[multiversion(targets = "simd")]
fn squares(values: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (heads, tail) = values.as_chunks::<8>();
    for x in heads {
        for lane in 0..8 {
            sums[lane] += f64::from(x[lane]) * f64::from(x[lane]);
        }
    }
    sums.iter().sum::<f64>() + tail.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>()
}

enum Power {
    One,
    Two,
}

/// moment ← keep·moment + (1 − keep)·(scale·g)^power
struct Blend {
    keep: f32,
    scale: f32,
    power: Power,
}

/// θ ← decay·θ − rate·m / (√v·root_scale + eps)
struct Update {
    decay: f32,
    rate: f32,
    root_scale: f32,
    eps: f32,
}

struct Overwrite;

impl InplaceOp2 for Blend {
    fn name(&self) -> &'static str {
        "adamw moment"
    }

    fn cpu_fwd(
        &self,
        dst: &mut CpuStorage,
        dst_l: &Layout,
        src: &CpuStorage,
        src_l: &Layout,
    ) -> ct::Result<()> {
        let (moment, gradient) = (whole_mut(dst, dst_l)?, whole(src, src_l)?);
        let parts = moment.par_chunks_mut(GRAIN).zip(gradient.par_chunks(GRAIN));
        parts.for_each(|(moment, gradient)| blend(moment, gradient, self));
        Ok(())
    }
}

#[multiversion(targets = "simd")]
fn blend(moment: &mut [f32], gradient: &[f32], how: &Blend) {
    let (keep, scale, fresh) = (how.keep, how.scale, 1.0 - how.keep);
    let pairs = moment.iter_mut().zip(gradient);
    match how.power {
        Power::One => pairs.for_each(|(moment, g)| *moment = keep * *moment + fresh * (scale * g)),
        Power::Two => {
            pairs.for_each(|(moment, g)| *moment = keep * *moment + fresh * ((scale * g) * (scale * g)))
        }
    }
}

impl InplaceOp3 for Update {
    fn name(&self) -> &'static str {
        "adamw parameter"
    }

    fn cpu_fwd(
        &self,
        dst: &mut CpuStorage,
        dst_l: &Layout,
        mean: &CpuStorage,
        mean_l: &Layout,
        variance: &CpuStorage,
        variance_l: &Layout,
    ) -> ct::Result<()> {
        let (param, mean, variance) =
            (whole_mut(dst, dst_l)?, whole(mean, mean_l)?, whole(variance, variance_l)?);
        let moments = mean.par_chunks(GRAIN).zip(variance.par_chunks(GRAIN));
        param.par_chunks_mut(GRAIN).zip(moments).for_each(|(param, (mean, variance))| {
            update(param, mean, variance, self);
        });
        Ok(())
    }
}

#[multiversion(targets = "simd")]
fn update(param: &mut [f32], mean: &[f32], variance: &[f32], how: &Update) {
    for ((param, mean), variance) in param.iter_mut().zip(mean).zip(variance) {
        *param = how.decay * *param - how.rate * mean / (variance.sqrt() * how.root_scale + how.eps);
    }
}

impl InplaceOp2 for Overwrite {
    fn name(&self) -> &'static str {
        "assign"
    }

    fn cpu_fwd(
        &self,
        dst: &mut CpuStorage,
        dst_l: &Layout,
        src: &CpuStorage,
        src_l: &Layout,
    ) -> ct::Result<()> {
        whole_mut(dst, dst_l)?.copy_from_slice(whole(src, src_l)?);
        Ok(())
    }
}

fn whole_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> ct::Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => ct::bail!("contiguous f32 is needed"),
    }
}

fn whole<'a>(storage: &'a CpuStorage, layout: &Layout) -> ct::Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => ct::bail!("contiguous f32 is needed"),
    }
}
