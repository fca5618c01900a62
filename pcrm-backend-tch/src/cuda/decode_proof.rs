//! The proof of decoding on a GPU: cached attention against the composed cache, sampling against its definition.

use std::sync::Arc;

use pcrm_core::kernels::{Attention, CacheShape, CachedRow, CachedRows, Draw, Drawn, Filters, LayerCache};
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
        // A vocabulary of a few spans, and one of more spans than a warp has threads, with a cap.
        for size in [
            Logits { rows: 64, vocabulary: 1003, soft_cap: None },
            Logits { rows: 16, vocabulary: 40_003, soft_cap: Some(20.0) },
        ] {
            sampled(fused, &size, (kind, device)).map_err(|error| format!("sampling: {error}"))?;
        }
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

/// The logits of a proof of sampling.
struct Logits {
    rows: usize,
    vocabulary: usize,
    soft_cap: Option<f64>,
}

fn sampled(fused: &Fused, size: &Logits, options: (Kind, Device)) -> Result<()> {
    let Logits { rows, vocabulary, soft_cap } = *size;
    let [hidden, head] =
        every([random(&[rows as i64, 16], options), random(&[vocabulary as i64, 16], options)])?;
    let uniforms: Vec<f64> = (0..rows).map(|at| (at as f64 + 0.37) / rows as f64).collect();
    let logits = wide(&crate::ops::linear::forward(&hidden, &head, None).map_err(failed("sample"))?)?;
    let logits = logits.read()?.into_f32();
    let capped = |logit: f64| soft_cap.map_or(logit, |cap| cap * (logit / cap).tanh());
    for filters in [Filters::default(), Filters { temperature: 0.7, ..Filters::default() }, Filters::GREEDY] {
        let how = Draw { filters, soft_cap, uniforms: &uniforms, tokens: &[] };
        let all_drawn = sample(fused, &hidden, &head, &how)?;
        for ((drawn, logits), uniform) in all_drawn.iter().zip(logits.chunks_exact(vocabulary)).zip(&uniforms)
        {
            let shaped = |logit: &f32| capped(f64::from(*logit)) / filters.stated_temperature();
            let z: Vec<f64> = logits.iter().map(shaped).collect();
            if let Some(fault) = fault(&z, drawn, (!filters.is_greedy()).then_some(*uniform)) {
                let message = format!("token {} of {vocabulary} {fault}, by {filters:?}", drawn.id);
                return Err(Error::invalid("proof", message));
            }
        }
    }
    Ok(())
}

/// Returns what is wrong with a token drawn from softmax(z): by a number, it is the one whose share of the cumulative
/// probability holds the number; without one, it is the first of the most likely. Rounding may move a boundary by
/// 1e-5, twenty times what sums in f32 do for such vocabularies, and a logit by 1e-4.
fn fault(z: &[f64], drawn: &Drawn, uniform: Option<f64>) -> Option<String> {
    let id = drawn.id as usize;
    let Some(own) = z.get(id).copied() else { return Some("does not exist".to_owned()) };
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let up_to = |end: usize| z[..end].iter().map(|z| (z - top).exp()).sum::<f64>();
    let sum = up_to(z.len());
    let is_right = match uniform {
        Some(uniform) => {
            let [before, after] = [id, id + 1].map(|end| up_to(end) / sum);
            before - 1e-5 < uniform && uniform < after + 1e-5
        }
        None => z.iter().position(|z| *z == top) == Some(id) || (own < top && top - own < 1e-4),
    };
    let want = own - top - sum.ln();
    match ((f64::from(drawn.log_prob) - want).abs() < 2e-3, is_right) {
        (true, true) => None,
        (_, false) => Some(format!("is the wrong one, at {uniform:?}")),
        (false, _) => Some(format!("has ln p {}, expected {want}", drawn.log_prob)),
    }
}

#[cfg(test)]
mod tests {
    use pcrm_core::slices::sampling::{LogitRow, draw};

    use super::*;

    /// Protects: the proof accepts what the host draws, and refuses the next token, a wrong probability and a later
    /// one of equally likely tokens.
    #[test]
    fn a_wrong_token_is_no_proof() {
        let logits: Vec<f32> = (0..5000_u32).map(|at| (at * 7919 % 1000) as f32 / 200.0).collect();
        let z: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total = top + z.iter().map(|z| (z - f64::from(top)).exp()).sum::<f64>().ln() as f32;
        let row = LogitRow { logits: &logits, total, top, penalised: &[] };
        for uniform in [0.0, 0.2, 0.5, 0.75, 0.999] {
            let drawn = draw(&row, &Filters::default(), uniform);
            assert_eq!(fault(&z, &drawn, Some(uniform)), None);
            let far = Drawn { id: (drawn.id + 2500) % 5000, ..drawn };
            assert!(fault(&z, &far, Some(uniform)).is_some());
            assert!(fault(&z, &Drawn { log_prob: drawn.log_prob + 0.01, ..drawn }, Some(uniform)).is_some());
        }
        let most = draw(&row, &Filters::GREEDY, 0.5);
        assert_eq!(fault(&z, &most, None), None);
        assert_eq!(logits[most.id as usize + 1000], top);
        assert!(fault(&z, &Drawn { id: most.id + 1000, ..most }, None).is_some());
        assert!(fault(&z, &Drawn { id: 5000, ..most }, None).is_some());
    }
}
