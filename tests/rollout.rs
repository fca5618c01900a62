//! Samples have the log-probabilities of training and do not depend on the batch.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_core::kernels::{Composed, Draw, Filters};
use pcrm_core::model::lora::Modules;
use pcrm_core::model::{LanguageModel, LoraConfig, ModelConfig, TokenQuestions};
use pcrm_core::{Backend, DType, HostTensor, Kernels, Packed};
use pcrm_rl::rollout::{Budget, Engine, Finish, Progress, Prompt, Sample, Sampling, Stop, Watch};

use crate::subject::{Subject, every_backend};
use crate::support::{beside, random};

/// A model for each way of encoding positions, sharing heads and limiting attention.
const FAMILIES: [&str; 29] = [
    "cohere2",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3-linear",
    "glm4",
    "gpt2",
    "gpt_neox-yarn",
    "granite",
    "llama",
    "llama-tied-linear",
    "llama3",
    "ministral",
    "mistral-window",
    "mixtral",
    "olmo2",
    "olmo3",
    "olmoe",
    "opt",
    "opt-350m",
    "phi3",
    "qwen2-window",
    "qwen2_moe",
    "qwen2_moe-window",
    "qwen3-yarn",
    "qwen3_moe",
    "qwen3_moe-window",
    "smollm3",
    "smollm3-window",
];

/// The families tested with adapters on every linear layer: each way of projecting, and experts.
const ADAPTED: [&str; 8] =
    ["gemma2", "glm4", "mixtral", "opt-350m", "phi3", "qwen2", "qwen2_moe", "qwen3_moe"];

/// Collects samples by prompt.
#[derive(Default)]
struct Collected(Vec<Vec<Sample>>);

impl Watch for Collected {
    fn done(&mut self, prompt: usize, samples: Vec<Sample>) -> pcrm_rl::Result<()> {
        assert_eq!(prompt, self.0.len(), "prompts are out of order");
        self.0.push(samples);
        Ok(())
    }
}

fn load(backend: &dyn Backend, family: &str) -> Result<LanguageModel> {
    Ok(LanguageModel::load(backend, &beside("golden/models").join(family), DType::F32)?)
}

/// Loads a model with adapters that change its output.
fn adapted(backend: &dyn Backend, family: &str) -> Result<LanguageModel> {
    let targets = Some(Modules::Pattern("all-linear".to_owned()));
    let config = LoraConfig { r: 4, target_modules: targets, ..LoraConfig::default() };
    let model = load(backend, family)?.with_adapters(config, Path::new("base"), 3)?;
    for (at, (_, param)) in model.params().iter_trained().enumerate() {
        param.assign(&param.constant(&random(&param.shape(), at as u64)?)?)?;
    }
    Ok(model)
}

/// Returns prompts of several lengths near that of a block, within the model's positions.
fn prompts(config: &ModelConfig, answer: usize) -> Vec<Prompt> {
    let most = config.max_positions.min(256) - answer;
    let lengths = [3, 63, 64, 65, 40, 130, 1, 100].map(|length: usize| length.min(most));
    let id = |number: usize, at: usize| ((at * 31 + number * 7) % 60) as u32 + 5;
    let prompt = |(number, length): (usize, usize)| Prompt {
        number: number as u64,
        ids: (0..length).map(|at| id(number, at)).collect(),
    };
    lengths.into_iter().enumerate().map(prompt).collect()
}

fn sample(
    model: &LanguageModel,
    prompts: &[Prompt],
    samples: usize,
    how: &Sampling,
    budget: Budget,
) -> Result<(Vec<Vec<Sample>>, Progress)> {
    let mut collected = Collected::default();
    let mut engine = Engine::new(model.decoder(), budget)?;
    let stop = Stop::at([2]);
    let progress = engine.run(model.decoder(), prompts, samples, how, &stop, &mut collected)?;
    Ok((collected.0, progress))
}

/// Returns ln p of every token of a prompt's samples in one tree, as training computes it.
fn trained(
    model: &LanguageModel,
    prompt: &Prompt,
    samples: &[Sample],
    temperature: f64,
) -> Result<Vec<Vec<f32>>> {
    let mut batch = Packed::default();
    let segment = batch.push(&prompt.ids, None)?;
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for sample in samples {
        let start = batch.ids.len();
        batch.push(&sample.ids, Some(segment))?;
        rows.push(prompt.ids.len() - 1);
        rows.extend(start..batch.ids.len() - 1);
        targets.extend(&sample.ids);
    }
    let how = TokenQuestions { temperature, entropy: false };
    let all = model.trainable().token_stats(&batch, &rows, &targets, how)?.log_probs.read()?.into_f32();
    let mut all = all.into_iter();
    Ok(samples.iter().map(|sample| all.by_ref().take(sample.ids.len()).collect()).collect())
}

fn check(subject: &Subject, what: &str, got: &[Vec<Sample>], want: &[Vec<Sample>]) -> Result<()> {
    if subject.exact() {
        ensure!(got == want, "{what}: the samples differ");
    }
    Ok(())
}

/// Protects: the importance ratio of a first update is exactly 1: sampled tokens have the log-probabilities
/// of the training pass over the same trees, to the bit, for every family and with adapters.
#[test]
fn sampled_tokens_have_the_log_probabilities_of_training() -> Result<()> {
    every_backend(|backend| {
        for (family, with_adapters) in
            FAMILIES.into_iter().map(|family| (family, false)).chain(ADAPTED.map(|family| (family, true)))
        {
            let model = if with_adapters { adapted(backend, family)? } else { load(backend, family)? };
            let answer = 24;
            let prompts = prompts(model.config(), answer);
            let filters = Filters { temperature: 1.3, ..Filters::default() };
            let how = Sampling { filters, max_tokens: answer, seed: 5 };
            let (samples, _) = sample(&model, &prompts, 3, &how, Budget::default())?;
            let mut lengths = BTreeMap::new();
            for (prompt, samples) in prompts.iter().zip(&samples) {
                ensure!(samples.len() == 3, "{family}: {} samples", samples.len());
                let want = trained(&model, prompt, samples, filters.temperature)?;
                for (sample, want) in samples.iter().zip(&want) {
                    let what = format!("{family}, a prompt of {}", prompt.ids.len());
                    match backend.exact() {
                        true => ensure!(
                            sample.log_probs == *want,
                            "{what}: ratios {:?}",
                            sample.log_probs.iter().zip(want).map(|(a, b)| a - b).collect::<Vec<_>>()
                        ),
                        false => backend.check_close(&what, &sample.log_probs, want, 1e-4)?,
                    }
                    ensure!(sample.filtered.is_none());
                    let ended = sample.ids.last() == Some(&2);
                    ensure!(sample.finish == if ended { Finish::Token(2) } else { Finish::Length });
                    ensure!(ended || sample.ids.len() == answer);
                    *lengths.entry(sample.ids.len()).or_insert(0) += 1;
                }
            }
            // Random adapters may make the end improbable.
            ensure!(with_adapters || lengths.len() > 1, "{family}: all samples have the same length");
        }
        Ok(())
    })
}

/// Protects: a sample is the same alone, among others, in another order, in small passes, with few rows at a
/// time, and with a cache so small that samples are evicted and recomputed.
#[test]
fn a_sample_depends_on_nothing_beside_it() -> Result<()> {
    every_backend(|backend| {
        let filters = Filters { top_p: 0.95, repetition_penalty: 1.1, ..Filters::default() };
        for family in ["qwen2", "gemma3", "gpt2"] {
            let model = load(backend, family)?;
            let answer = 30;
            let how = Sampling { filters, max_tokens: answer, seed: 9 };
            let prompts = prompts(model.config(), answer);
            let (want, _) = sample(&model, &prompts, 4, &how, Budget::default())?;
            let tight = Budget { cache_tokens: 320, ..Budget::default() };
            let (small, progress) = sample(&model, &prompts, 4, &how, tight)?;
            if family != "gpt2" {
                ensure!(progress.preempted > 0, "{family}: no sample was evicted");
            }
            check(backend, &format!("{family}, a cache of 320"), &small, &want)?;
            for budget in [Budget { rows: 3, ..tight }, Budget { prefill_tokens: 1, rows: 1, ..tight }] {
                let (got, _) = sample(&model, &prompts, 4, &how, budget)?;
                check(backend, &format!("{family}, {budget:?}"), &got, &want)?;
            }
            let mut order: Vec<usize> = (0..prompts.len()).collect();
            order.reverse();
            let turned: Vec<Prompt> = order.iter().map(|at| prompts[*at].clone()).collect();
            let (got, _) = sample(&model, &turned, 4, &how, Budget::default())?;
            let back: Vec<Vec<Sample>> = got.into_iter().rev().collect();
            check(backend, &format!("{family}, in another order"), &back, &want)?;
            for (prompt, want) in prompts.iter().zip(&want) {
                let (alone, _) = sample(&model, std::slice::from_ref(prompt), 1, &how, Budget::default())?;
                check(backend, &format!("{family}, alone"), &alone, &[vec![want[0].clone()]])?;
            }
        }
        Ok(())
    })
}

/// Protects: a backend draws the tokens that the reference draws, with every filter.
#[test]
fn tokens_are_drawn_as_the_reference_draws_them() -> Result<()> {
    let all = Filters::default();
    let filters = [
        all,
        Filters::GREEDY,
        Filters { temperature: 0.5, ..all },
        Filters { top_k: 5, ..all },
        Filters { top_p: 0.6, ..all },
        Filters { min_p: 0.1, ..all },
        Filters { repetition_penalty: 1.5, ..all },
        Filters { repetition_penalty: 1.5, ..Filters::GREEDY },
    ];
    every_backend(|backend| {
        let rows = 140;
        let hidden = backend.upload(&random(&[rows, 24], 1)?, DType::F32)?;
        let head = backend.upload(&random(&[600, 24], 2)?, DType::F32)?;
        let uniforms: Vec<f64> = (0..rows).map(|row| (row as f64 + 0.37) / rows as f64).collect();
        let seen: Vec<Vec<u32>> = (0..rows as u32).map(|row| vec![row, 2 * row, 599]).collect();
        let tokens: Vec<&[u32]> = seen.iter().map(Vec::as_slice).collect();
        for filters in filters {
            for soft_cap in [None, Some(2.0)] {
                let how = Draw { filters, soft_cap, uniforms: &uniforms, tokens: &tokens };
                let got = hidden.kernels().sample(&hidden, &head, &how)?;
                let want = Composed.sample(&hidden, &head, &how)?;
                let others = got.iter().zip(&want).filter(|(got, want)| got.id != want.id).count();
                // A uniform number may fall between two orders of summation.
                ensure!(others <= 1, "{filters:?}: {others} tokens differ");
                for (got, want) in got.iter().zip(&want).filter(|(got, want)| got.id == want.id) {
                    let of = |drawn: &pcrm_core::kernels::Drawn| [drawn.log_prob, drawn.filtered];
                    backend.check_close(&format!("{filters:?}"), &of(got), &of(want), 1e-5)?;
                }
            }
        }
        Ok(())
    })
}

/// Protects: numbers that are not finite give a token of the vocabulary without a finite log-probability, for
/// which the engine refuses the sample, however tokens are chosen; other rows are unharmed.
#[test]
fn tokens_of_broken_rows_have_no_log_probability() -> Result<()> {
    let all = Filters::default();
    let filters = [
        all,
        Filters::GREEDY,
        Filters { top_k: 5, ..all },
        Filters { top_p: 0.6, ..all },
        Filters { repetition_penalty: 1.5, ..Filters::GREEDY },
    ];
    every_backend(|backend| {
        let upload = |shape: [usize; 2], values| backend.upload(&HostTensor::f32(shape, values)?, DType::F32);
        let mut rows = random(&[2, 24], 1)?.into_f32();
        rows[7] = f32::NAN;
        let hidden = upload([2, 24], rows)?;
        let mut weights = random(&[600, 24], 2)?.into_f32();
        let head = upload([600, 24], weights.clone())?;
        weights[5 * 24] = f32::NAN;
        let broken = upload([600, 24], weights)?;
        for filters in filters {
            let how = Draw { filters, soft_cap: None, uniforms: &[0.3, 0.7], tokens: &[&[1], &[1]] };
            for (head, whole) in [(&head, true), (&broken, false)] {
                for kernels in [hidden.kernels(), &Composed] {
                    let drawn = kernels.sample(&hidden, head, &how)?;
                    ensure!(drawn.iter().all(|drawn| drawn.id < 600), "{filters:?}: {drawn:?}");
                    ensure!(drawn[0].log_prob.is_nan(), "{filters:?}: {drawn:?}");
                    ensure!(drawn[1].log_prob.is_finite() == whole, "{filters:?}: {drawn:?}");
                }
            }
        }
        Ok(())
    })
}

/// Protects: prompts that cannot be continued are refused by name.
#[test]
fn prompts_that_do_not_fit_are_refused() -> Result<()> {
    every_backend(|backend| {
        let refusal = |family: &str, ids: Vec<u32>, how: &Sampling, budget: Budget| -> Result<String> {
            let prompts = [Prompt { number: 0, ids }];
            let found = sample(&load(backend, family)?, &prompts, 1, how, budget);
            Ok(found.err().context("a refusal")?.to_string())
        };
        let how = Sampling { max_tokens: 10, ..Sampling::default() };
        let small = Budget { cache_tokens: 64, ..Budget::default() };
        let cases = [
            (refusal("llama", vec![], &how, Budget::default())?, "prompt: 1: has no token"),
            (refusal("gpt2", vec![5; 50], &how, Budget::default())?, "the 56 positions of the model"),
            (
                refusal("llama-dynamic", vec![5; 15], &how, Budget::default())?,
                "the 20 positions of the model",
            ),
            (refusal("llama", vec![5; 60], &how, small)?, "do not fit into a cache of 64 tokens"),
            (refusal("llama", vec![99], &how, Budget::default())?, "99 is outside the model's vocabulary"),
        ];
        for (found, want) in cases {
            ensure!(found.contains(want), "{found:?} has no {want:?}");
        }
        Ok(())
    })
}

/// Protects: greedy answers match `transformers.generate`, token for token: in one batch, with sliding
/// windows, a repetition penalty, and several end tokens.
#[test]
fn greedy_answers_are_those_of_transformers() -> Result<()> {
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(beside("golden/generation/greedy.json"))?)?;
    let runs = golden["runs"].as_array().context("runs")?;
    let ids = |value: &serde_json::Value| -> Result<Vec<u32>> { Ok(serde_json::from_value(value.clone())?) };
    every_backend(|backend| {
        let mut answers = 0;
        for run in runs {
            let family = run["family"].as_str().context("a family")?;
            let model = load(backend, family)?;
            let cases = run["cases"].as_array().context("cases")?;
            let prompts = cases.iter().map(|case| ids(&case["prompt"])).collect::<Result<Vec<_>>>()?;
            let prompts = pcrm_rl::rollout::numbered(prompts);
            let penalty = run["penalty"].as_f64().context("a penalty")?;
            let filters = Filters { repetition_penalty: penalty, ..Filters::GREEDY };
            let how = Sampling { filters, max_tokens: 20, seed: 0 };
            let mut engine = Engine::new(model.decoder(), Budget::default())?;
            let (stop, mut got) = (Stop::at(ids(&run["ends"])?), Collected::default());
            engine.run(model.decoder(), &prompts, 1, &how, &stop, &mut got)?;
            for (case, got) in cases.iter().zip(got.0) {
                let (got, want) = (&got[0].ids, ids(&case["new"])?);
                ensure!(*got == want, "{family}, {case}: {got:?}");
                answers += 1;
            }
        }
        ensure!(answers > 600, "{answers} answers");
        Ok(())
    })
}

/// Returns the probabilities of the next token in f64, by the definitions of the filters.
fn distribution(logits: &[f32], filters: &Filters) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|logit| f64::from(*logit) / filters.temperature).collect();
    let mut order: Vec<usize> = (0..scaled.len()).collect();
    order.sort_by(|a, b| scaled[*b].total_cmp(&scaled[*a]));
    let softmax = |kept: &[usize]| -> Vec<f64> {
        let weight = |id: usize| (scaled[id] - scaled[order[0]]).exp();
        let total: f64 = kept.iter().map(|id| weight(*id)).sum();
        (0..scaled.len()).map(|id| if kept.contains(&id) { weight(id) / total } else { 0.0 }).collect()
    };
    let mut kept = order.clone();
    if filters.top_k > 0 {
        kept.truncate(filters.top_k);
    }
    let p = softmax(&kept);
    let mut sum = 0.0;
    kept.retain(|id| {
        let before = sum;
        sum += p[*id];
        before < filters.top_p
    });
    let p = softmax(&kept);
    kept.retain(|id| p[*id] >= filters.min_p * p[order[0]]);
    softmax(&kept)
}

/// Protects: tokens are sampled with their probabilities, at every temperature and with every filter, and a
/// token without probability is never sampled.
#[test]
fn sampled_tokens_have_their_frequencies() -> Result<()> {
    let all = Filters::default();
    let filters = [
        Filters { temperature: 0.5, ..all },
        all,
        Filters { temperature: 1.5, ..all },
        Filters { top_k: 6, ..all },
        Filters { top_p: 0.5, ..all },
        Filters { min_p: 0.3, temperature: 1.2, ..all },
        Filters { top_k: 20, top_p: 0.8, min_p: 0.1, ..all },
    ];
    every_backend(|backend| {
        let model = load(backend, "llama")?;
        let prompt = Prompt { number: 3, ids: vec![5, 9, 31] };
        let mut batch = Packed::default();
        batch.push(&prompt.ids, None)?;
        let logits = model.logits(&batch, pcrm_core::model::Rows::Only(&[2]))?.read()?.into_f32();
        let count = 4000;
        for filters in filters {
            let how = Sampling { filters, max_tokens: 1, seed: 11 };
            let (samples, _) = sample(&model, std::slice::from_ref(&prompt), count, &how, Budget::default())?;
            let mut found = vec![0.0; logits.len()];
            samples[0].iter().for_each(|sample| found[sample.ids[0] as usize] += 1.0);
            let want = distribution(&logits, &filters);
            let (mut chi, mut bins) = (0.0, 0.0);
            let mut rest = [0.0, 0.0];
            for (found, want) in found.iter().zip(&want) {
                ensure!(*want > 0.0 || *found == 0.0, "{filters:?}: an impossible token was sampled");
                let expected = want * count as f64;
                if expected >= 5.0 {
                    chi += (found - expected) * (found - expected) / expected;
                    bins += 1.0;
                } else {
                    rest = [rest[0] + found, rest[1] + expected];
                }
            }
            if rest[1] >= 5.0 {
                chi += (rest[0] - rest[1]).powi(2) / rest[1];
                bins += 1.0;
            }
            // χ² of k bins has mean k − 1 and variance 2 (k − 1): allow five standard deviations.
            let degrees: f64 = bins - 1.0;
            ensure!(
                chi < degrees + 5.0 * (2.0 * degrees).sqrt(),
                "{filters:?}: χ² {chi} of {degrees} degrees"
            );
        }
        Ok(())
    })
}
