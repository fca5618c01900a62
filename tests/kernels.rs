//! Each fused operation of every backend against the composed reference, in value and gradients.

use anyhow::{Context, Result, ensure};
use pcrm_core::kernels::{
    AdamWStep, Ask, Attention, CacheShape, CachedRow, CachedRows, Composed, Mask, Slots,
};
use pcrm_core::tensor::Unary;
use pcrm_core::{Backend, DType, Gradients, HostTensor, Kernels, Params, SequenceTree, Tensor};

use crate::cases::kernels::{self, tree};
use crate::subject::{every_backend, every_backend_with_bf16};
use crate::support::{check_gradients, random};

/// Protects: a backend's own kernel agrees with the reference in value and in the gradient of every operand.
#[test]
fn fused_operations_agree_with_the_composed_reference() -> Result<()> {
    let cases = kernels::all()?;
    every_backend(|backend| {
        for case in &cases {
            let ((got, got_gradients), (want, want_gradients)) =
                (case.own(backend)?, case.reference(backend)?);
            let check = |what: String, got: &[f32], want: &[f32]| {
                backend.check_close(&format!("{}: {what}", case.name), got, want, case.tolerance)
            };
            check("value".to_owned(), &got, &want)?;
            for (at, (got, want)) in got_gradients.iter().zip(&want_gradients).enumerate() {
                check(format!("gradient of operand {at}"), got, want)?;
            }
        }
        Ok(())
    })
}

/// Protects: a batch without rows is an error or gives an empty result with zero gradients for the weights;
/// it never panics or produces numbers.
#[test]
fn empty_batches_are_empty_or_refused() -> Result<()> {
    let cases = kernels::empty()?;
    every_backend(|backend| {
        for case in &cases {
            match case.own(backend) {
                Ok((value, gradients)) => {
                    ensure!(value.is_empty(), "{}: {value:?}", case.name);
                    let numbers = gradients.iter().flatten().find(|gradient| **gradient != 0.0);
                    ensure!(numbers.is_none(), "{}: a gradient of {numbers:?}", case.name);
                }
                Err(error) => println!("{} is refused: {error}", case.name),
            }
        }
        Ok(())
    })
}

/// Protects: the gradients of the reference itself are the slopes of its value, with a temperature, a cap,
/// entropies and a repeated row.
#[test]
fn the_reference_of_token_stats_has_the_slopes_of_its_value() -> Result<()> {
    let inputs = [random(&[4, 5], 1)?, random(&[6, 5], 2)?];
    every_backend(|backend| {
        check_gradients(backend, &inputs, &|x| {
            let (temperature, soft_cap) = (0.8, Some(1.5));
            let ask =
                Ask { rows: &[2, 0, 2, 3], targets: &[5, 1, 0, 1], temperature, soft_cap, entropy: true };
            let stats = Composed.token_stats(&x[0], &x[1], &ask)?;
            let mut parts = vec![&stats.log_probs];
            parts.extend(&stats.entropy);
            Tensor::concat(&parts, 0)
        })
    })
}

/// Protects: a token is correct if no other is more likely, and all backends agree; missing rows and targets
/// are refused by name.
#[test]
fn correct_tokens_are_the_most_likely_and_bad_questions_are_refused() -> Result<()> {
    every_backend(|backend| {
        let hidden = backend.upload(&HostTensor::f32([2, 2], vec![1.0, 0.0, 0.0, 1.0])?, DType::F32)?;
        let head =
            backend.upload(&HostTensor::f32([3, 2], vec![1.0, 2.0, 3.0, 1.0, 1.0, 2.0])?, DType::F32)?;
        for kernels in [hidden.kernels(), &Composed] {
            let ask = Ask::log_probs(&[0, 0, 1, 1, 1], &[0, 1, 0, 1, 2]); // logits 1 3 1 and 2 1 2
            let correct = kernels.token_stats(&hidden, &head, &ask)?.correct.read()?.into_f32();
            ensure!(correct == [0.0, 1.0, 1.0, 0.0, 1.0], "{}: {correct:?}", kernels.name());
            for (rows, targets, temperature, message) in [
                (&[2][..], &[0][..], 1.0, "row 2 is outside the hidden rows"),
                (&[0], &[3], 1.0, "target 3 is outside the vocabulary"),
                (&[0, 1], &[0], 1.0, "2 rows and 1 targets"),
                (&[0], &[0], 0.0, "temperature: 0, expected more than 0"),
            ] {
                let ask = Ask { rows, targets, temperature, soft_cap: None, entropy: false };
                let refusal = kernels.token_stats(&hidden, &head, &ask).err().map(|error| error.to_string());
                ensure!(refusal.as_ref().is_some_and(|refusal| refusal.contains(message)), "{refusal:?}");
            }
        }
        Ok(())
    })
}

/// Protects: freezing the head or the hidden states does not change the gradient of the other.
#[test]
fn token_stats_with_one_operand_frozen_have_the_same_gradient_of_the_other() -> Result<()> {
    every_backend(|backend| {
        let upload = |host: &HostTensor| backend.upload(host, DType::F32);
        let (hidden, head) = (upload(&random(&[200, 12], 1)?)?, upload(&random(&[37, 12], 2)?)?);
        let rows: Vec<u32> = (0..200).filter(|row| row % 3 > 0).collect();
        let targets: Vec<u32> = rows.iter().map(|row| row * 7 % 37).collect();
        let gradients = |[trained_hidden, trained_head]: [bool; 2]| -> Result<Gradients> {
            let mut params = Params::default();
            let mut leaf = |name: &str, tensor: &Tensor, trained: bool| match trained {
                true => {
                    params.insert(name, tensor.variable());
                    params.get(name).cloned()
                }
                false => Ok(tensor.detach()),
            };
            let operands = [leaf("hidden", &hidden, trained_hidden)?, leaf("head", &head, trained_head)?];
            let ask = Ask { entropy: true, ..Ask::log_probs(&rows, &targets) };
            let stats = hidden.kernels().token_stats(&operands[0], &operands[1], &ask)?;
            let entropies = stats.entropy.context("no entropies")?.affine(0.5, 0.0)?;
            Ok(backend.backward(&stats.log_probs.add(&entropies)?.square()?.sum_all()?, &params)?)
        };
        let both = gradients([true, true])?;
        for (name, alone) in [("hidden", gradients([true, false])?), ("head", gradients([false, true])?)] {
            ensure!(alone.iter().count() == 1, "expected one gradient");
            let [got, want] = [alone.get(name)?, both.get(name)?].map(|gradient| gradient.read());
            backend.check_same(name, &got?.into_f32(), &want?.into_f32())?;
        }
        Ok(())
    })
}

/// An operation that computes each row independently.
type RowOperation<'a> = &'a dyn Fn(&Tensor) -> pcrm_core::Result<Tensor>;

/// Protects: a row's bits depend only on its own sequence, not on the rest of the batch.
#[test]
fn a_row_has_the_same_bits_whatever_stands_beside_it() -> Result<()> {
    every_backend(|backend| {
        let upload = |host: &HostTensor| backend.upload(host, DType::F32);
        // Linear: the first rows alone, and among others.
        for (width, outputs) in [(40, 1), (40, 24), (600, 64), (600, 65), (1100, 128)] {
            let (x, w) = (upload(&random(&[300, width], 1)?)?, upload(&random(&[outputs, width], 2)?)?);
            let whole = x.kernels().linear(&x, &w, None)?.read()?.into_f32();
            for rows in [1, 2, 3, 7, 8, 9, 64, 65, 129] {
                let part = x.kernels().linear(&x.narrow(0, 0, rows)?, &w, None)?.read()?.into_f32();
                let what = format!("linear to {outputs}: {rows} rows of {width}");
                backend.check_same(&what, &part, &whole[..part.len()])?;
            }
        }
        // Norms and activations, also with widths that are no multiple of a vector register.
        for width in [16, 24, 40, 384] {
            let (x, w) = (upload(&random(&[300, width], 1)?)?, upload(&random(&[width], 2)?)?);
            let by_row: [(&str, RowOperation<'_>); 5] = [
                ("rms_norm", &|x| x.kernels().rms_norm(x, &w, 1e-6)),
                ("layer_norm", &|x| x.kernels().layer_norm(x, &w, &w, 1e-6)),
                ("swiglu", &|x| x.kernels().swiglu(x, x)),
                ("gelu", &|x| x.kernels().gelu(x, Unary::Gelu)),
                ("gelu by tanh", &|x| x.kernels().gelu(x, Unary::GeluTanh)),
            ];
            for (what, op) in by_row {
                let whole = op(&x)?.read()?.into_f32();
                for (start, rows) in [(0, 1), (0, 9), (1, 2), (3, 7), (8, 16), (100, 130)] {
                    let part = op(&x.narrow(0, start, rows)?)?.read()?.into_f32();
                    let what = format!("{what}: {rows} rows of {width} from {start}");
                    backend.check_same(&what, &part, &whole[start * width..][..rows * width])?;
                }
            }
        }
        // Log-probabilities and entropies, also with vocabularies that are no multiple of a vector register.
        for (width, vocabulary) in [(40, 24), (40, 37), (64, 500), (384, 1003), (24, 8192), (8, 40_001)] {
            let (x, w) = (upload(&random(&[300, width], 1)?)?, upload(&random(&[vocabulary, width], 2)?)?);
            let stats = |start: u32, rows: u32| -> Result<[Vec<f32>; 2]> {
                let asked: Vec<u32> = (start..start + rows).collect();
                let targets: Vec<u32> = asked.iter().map(|row| row * 7 % vocabulary as u32).collect();
                let ask = Ask { temperature: 0.7, entropy: true, ..Ask::log_probs(&asked, &targets) };
                let stats = x.kernels().token_stats(&x, &w, &ask)?;
                let entropies = stats.entropy.context("no entropies")?;
                Ok([stats.log_probs.read()?.into_f32(), entropies.read()?.into_f32()])
            };
            let whole = stats(0, 300)?;
            for (start, rows) in [(0, 1), (0, 9), (1, 2), (3, 7), (8, 16), (100, 130), (299, 1)] {
                let part = stats(start, rows)?;
                for (at, what) in ["log-probabilities", "entropies"].into_iter().enumerate() {
                    let what = format!("{what} of {vocabulary}: {rows} rows of {width} from {start}");
                    backend.check_same(&what, &part[at], &whole[at][start as usize..][..rows as usize])?;
                }
            }
        }
        // Attention: a prompt shared by two answers, and each answer's sequence alone.
        let lengths = [(1, 1, 1), (5, 3, 7), (9, 1, 1), (30, 50, 3), (64, 64, 65), (300, 400, 250)];
        let cases = lengths
            .into_iter()
            .flat_map(|lengths| [(4, 2, 8), (4, 2, 6), (2, 2, 16), (3, 1, 80)].map(|sizes| (lengths, sizes)));
        for ((prompt, first, second), (heads, kv_heads, dim)) in cases {
            let shared = tree(&[(9, None), (prompt, None), (first, Some(1)), (second, Some(1))])?;
            let rows = shared.rows();
            let qkv = [
                random(&[rows, heads, dim], 1)?,
                random(&[rows, kv_heads, dim], 2)?,
                random(&[rows, kv_heads, dim], 3)?,
            ];
            let qkv = [upload(&qkv[0])?, upload(&qkv[1])?, upload(&qkv[2])?];
            let how =
                Attention { scale: 0.35, cap: None, mask: Mask::Causal { window: None }, queries: None };
            let packed = qkv[0].kernels().attention(qkv.each_ref(), &shared.clone().into(), &how)?;
            let prompt_rows = 9..9 + prompt;
            let alone_rows = |answer: std::ops::Range<usize>| -> Result<[Tensor; 3]> {
                let cut = |x: &Tensor| -> pcrm_core::Result<Tensor> {
                    let prompt = x.narrow(0, prompt_rows.start, prompt)?;
                    Tensor::concat(&[&prompt, &x.narrow(0, answer.start, answer.len())?], 0)
                };
                Ok([cut(&qkv[0])?, cut(&qkv[1])?, cut(&qkv[2])?])
            };
            let begin = 9 + prompt;
            for answer in [begin..begin + first, begin + first..begin + first + second] {
                let alone = alone_rows(answer.clone())?;
                let sequence = SequenceTree::sequence(prompt + answer.len())?;
                let values = qkv[0].kernels().attention(alone.each_ref(), &sequence.into(), &how)?;
                let got = packed.narrow(0, answer.start, answer.len())?.read()?.into_f32();
                let want = values.narrow(0, prompt, answer.len())?.read()?.into_f32();
                let what = format!(
                    "a shared prompt of {prompt}, then {answer:?}, {heads}/{kv_heads} heads of {dim}"
                );
                backend.check_same(&what, &got, &want)?;
            }
        }
        Ok(())
    })
}

/// Protects: under a full mask, a text has the same bits alone and beside others.
#[test]
fn a_text_under_a_full_mask_has_the_same_bits_beside_others() -> Result<()> {
    every_backend(|backend| {
        let lengths = [1, 5, 9, 30, 63, 64, 65, 8, 300, 2];
        let flat = tree(&lengths.map(|length| (length, None)))?;
        let how = Attention { scale: 0.35, cap: None, mask: Mask::Full, queries: None };
        for (heads, kv_heads, dim) in [(12, 12, 32), (4, 2, 8), (4, 2, 6), (3, 1, 80)] {
            let upload = |heads: usize, seed| -> Result<Tensor> {
                Ok(backend.upload(&random(&[flat.rows(), heads, dim], seed)?, DType::F32)?)
            };
            let qkv = [upload(heads, 1)?, upload(kv_heads, 2)?, upload(kv_heads, 3)?];
            let packed = qkv[0].kernels().attention(qkv.each_ref(), &flat.clone().into(), &how)?;
            for segment in flat.segments() {
                let (start, rows) = (segment.rows.start, segment.rows.len());
                let cut = |x: &Tensor| x.narrow(0, start, rows);
                let own = [cut(&qkv[0])?, cut(&qkv[1])?, cut(&qkv[2])?];
                let sequence = SequenceTree::sequence(rows)?.into();
                let alone = own[0].kernels().attention(own.each_ref(), &sequence, &how)?;
                let (got, want) = (cut(&packed)?.read()?.into_f32(), alone.read()?.into_f32());
                backend.check_same(
                    &format!("{rows} rows, {heads}/{kv_heads} heads of {dim}"),
                    &got,
                    &want,
                )?;
            }
        }
        Ok(())
    })
}

/// Returns a parameter and its moments after three AdamW steps.
pub fn after_adamw(backend: &dyn Backend, kernels: &dyn Kernels) -> Result<[Vec<f32>; 3]> {
    let upload = |seed| -> Result<Tensor> { Ok(backend.upload(&random(&[5, 7], seed)?, DType::F32)?) };
    let slots = Slots { param: upload(1)?, mean: upload(2)?, variance: upload(3)?.square()? };
    for step in 1..4 {
        let (lr, eps) = (0.1, 1e-6);
        let how = AdamWStep { lr, beta1: 0.9, beta2: 0.95, eps, weight_decay: 0.1, step, grad_scale: 0.5 };
        kernels.adamw(&how, &slots, &upload(4)?)?;
    }
    let read = |tensor: &Tensor| Ok::<_, anyhow::Error>(tensor.read()?.into_f32());
    Ok([read(&slots.param)?, read(&slots.mean)?, read(&slots.variance)?])
}

/// Protects: the optimiser's kernel agrees with the reference and updates parameter and moments in place.
#[test]
fn adamw_agrees_and_updates_in_place() -> Result<()> {
    every_backend(|backend| {
        let gradient = backend.upload(&random(&[5, 7], 4)?, DType::F32)?;
        let got = after_adamw(backend, gradient.kernels())?;
        let want = after_adamw(backend, &Composed)?;
        for (at, what) in ["parameter", "mean", "variance"].into_iter().enumerate() {
            backend.check_close(what, &got[at], &want[at], 2e-6)?;
            ensure!(got[at] != random(&[5, 7], at as u64 + 1)?.into_f32(), "the {what} was not updated");
        }
        let squares = gradient.read()?.into_f32().iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        let off = (gradient.kernels().sum_of_squares(&[&gradient, &gradient])? - 2.0 * squares).abs();
        ensure!(off < 1e-6 * squares, "the sum of squares is off by {off:e}");
        Ok(())
    })
}

/// Protects: a cache refuses keys, values and queries of another type, or computes the same as if they were cast to its
/// own type.
#[test]
fn a_cache_reads_nothing_in_another_type() -> Result<()> {
    let shape = CacheShape { blocks: 1, kv_heads: 2, dim: 64 };
    let slots: Vec<u32> = (0..8).collect();
    let rows = CachedRows::from(vec![CachedRow { position: 7, blocks: vec![0] }]);
    let how = Attention { scale: 0.2, cap: None, mask: Mask::Causal { window: None }, queries: None };
    every_backend_with_bf16(|backend| {
        for [own, other] in [[DType::BF16, DType::F32], [DType::F32, DType::BF16]] {
            let upload =
                |rows, seed| -> Result<Tensor> { Ok(backend.upload(&random(&[rows, 2, 64], seed)?, other)?) };
            let others = [upload(8, 1)?, upload(8, 2)?, upload(1, 3)?];
            let [k, v, q] = [others[0].cast(own)?, others[1].cast(own)?, others[2].cast(own)?];
            let mut cache = k.kernels().cache(&k, shape)?;
            let mut attended = |[k, v, q]: [&Tensor; 3]| -> Result<Vec<f32>> {
                cache.write(&slots, k, v)?;
                Ok(cache.attend(q, &rows, &how)?.cast(DType::F32)?.read()?.into_f32())
            };
            let want = attended([&k, &v, &q])?;
            for (what, given) in [
                ("keys", [&others[0], &v, &q]),
                ("values", [&k, &others[1], &q]),
                ("queries", [&k, &v, &others[2]]),
            ] {
                let what = format!("{what} in {other} of a cache in {own}");
                match attended(given) {
                    Ok(got) => backend.check_norm(&what, &got, &want, 2e-2)?,
                    Err(error) => println!("{what} are refused: {error}"),
                }
            }
        }
        Ok(())
    })
}

/// Protects: an opened GPU computes by its fast paths. Where a proof fails or a library is missing, numbers stay right
/// and every other test passes.
#[cfg(feature = "tch")]
#[test]
fn every_fast_path_of_a_gpu_is_on() -> Result<()> {
    every_backend(|backend| {
        if let (pcrm_backend_tch::NAME, pcrm_core::Device::Cuda(index)) = (backend.name(), backend.device()) {
            let off = pcrm_backend_tch::paths_off(index);
            ensure!(off.is_empty(), "{}", off.join("; "));
        }
        Ok(())
    })
}
