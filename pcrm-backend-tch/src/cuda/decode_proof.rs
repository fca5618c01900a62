//! The proof of decoding on a GPU: cached attention against the composed cache, sampling against that of the host.

use std::sync::Arc;

use pcrm_core::kernels::{Attention, CacheShape, CachedRow, CachedRows, Draw, Filters, LayerCache};
use pcrm_core::slices::sampling::{LogitRow, draw};
use pcrm_core::{Error, Mask, Result, Tensor, composed};
use tch::{Device, Kind, Tensor as Torch};

use super::decode::{BlockCache, sample};
use super::fused::Fused;
use super::proof::{every, near, random, wide};
use crate::failed;
use crate::tensor::TchTensor;

/// Proves cached attention and sampling.
pub(super) fn of_decoding(fused: &Arc<Fused>, device: Device) -> std::result::Result<(), String> {
    for kind in [Kind::BFloat16, Kind::Float] {
        for (dim, window, cap) in
            [(64, None, None), (128, Some(90), None), (256, None, Some(5.0)), (80, None, None)]
        {
            let mask = Mask::Causal { window };
            let how = Attention { scale: 0.3, cap, mask, queries: None };
            cached(fused, dim, &how, (kind, device)).map_err(|error| format!("cached attention: {error}"))?;
        }
        sampled(fused, (kind, device)).map_err(|error| format!("sampling: {error}"))?;
    }
    Ok(())
}

fn cached(fused: &Arc<Fused>, dim: i64, how: &Attention<'_>, options: (Kind, Device)) -> Result<()> {
    let shape = CacheShape { blocks: 7, kv_heads: 2, dim: dim as usize };
    let row = |position, blocks: &[u32]| CachedRow { position, blocks: blocks.into() };
    let rows =
        CachedRows::from(vec![row(150, &[5, 2, 6]), row(70, &[5, 1]), row(10, &[3]), row(127, &[0, 4])]);
    let [k, v, q, own_k, own_v] = every([
        random(&[7 * 64, 2, dim], options),
        random(&[7 * 64, 2, dim], options),
        random(&[4, 18, dim], options),
        random(&[4, 2, dim], options),
        random(&[4, 2, dim], options),
    ])?;
    let all: Vec<u32> = (0..7 * 64).collect();
    let mut cache = BlockCache::new(&k, shape, Arc::clone(fused)).map_err(failed("cache"))?;
    let mut reference = composed::cache(&wide(&k)?, shape)?;
    let own = |x: &Torch| Tensor::new(TchTensor::constant(x.shallow_clone()));
    cache.write(&all, &own(&k), &own(&v))?;
    reference.write(&all, &wide(&k)?, &wide(&v)?)?;
    let got = cache.step([&own(&q), &own(&own_k), &own(&own_v)], &rows, how)?;
    let want = reference.step([&wide(&q)?, &wide(&own_k)?, &wide(&own_v)?], &rows, how)?;
    let value = |x: &Tensor| Ok(x.downcast::<TchTensor>("proof", crate::NAME)?.value.shallow_clone());
    near(options.0, &value(&got)?, &value(&want)?)
}

/// Draws as the host does from the same logits. A number near the boundary of two tokens may give either.
fn sampled(fused: &Fused, options: (Kind, Device)) -> Result<()> {
    const ROWS: usize = 64;
    let [hidden, head] = every([random(&[ROWS as i64, 16], options), random(&[1003, 16], options)])?;
    let uniforms: Vec<f64> = (0..ROWS).map(|at| (at as f64 + 0.37) / ROWS as f64).collect();
    let logits = wide(&crate::ops::linear::forward(&hidden, &head, None).map_err(failed("sample"))?)?;
    let logits = logits.read()?.into_f32();
    for filters in [Filters::default(), Filters { temperature: 0.7, ..Filters::default() }, Filters::GREEDY] {
        let how = Draw { filters, soft_cap: None, uniforms: &uniforms, tokens: &[] };
        let drawn = sample(fused, &hidden, &head, &how)?;
        let mut others = 0;
        for ((drawn, logits), uniform) in drawn.iter().zip(logits.chunks_exact(1003)).zip(&uniforms) {
            let z: Vec<f32> =
                logits.iter().map(|logit| logit / filters.stated_temperature() as f32).collect();
            let top = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = z.iter().map(|z| f64::from(z - top).exp()).sum();
            let total = top + sum.ln() as f32;
            let want = draw(&LogitRow { logits: &z, total, top, penalised: &[] }, &filters, *uniform);
            others += usize::from(drawn.id != want.id);
            let log_prob = z.get(drawn.id as usize).map(|z| z - total);
            if log_prob.is_none_or(|want| (drawn.log_prob - want).abs() > 2e-3) {
                let message =
                    format!("token {} has ln p {}, expected {log_prob:?}", drawn.id, drawn.log_prob);
                return Err(Error::invalid("proof", message));
            }
        }
        if others > ROWS / 20 {
            return Err(Error::invalid("proof", format!("{others} of {ROWS} tokens differ from the host's")));
        }
    }
    Ok(())
}
