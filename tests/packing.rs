//! Packed, prefix-shared batches equal separately computed sequences.
//!
//! The reference uses neither packing nor sharing: each of a pair's two sequences is a batch of its own,
//! computed in one piece, and the loss is written out.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::encode::EncodedSet;
use pcrm_core::data::preference::Comparison;
use pcrm_core::model::{ModelConfig, RewardModel};
use pcrm_core::{Backend, DType, Packed, Tensor};
use pcrm_rl::batch::ScoreAt;
use pcrm_rl::loss::LossConfig;
use pcrm_rl::objective::reward::RewardConfig;
use pcrm_rl::objective::{Gradient, evaluate};
use pcrm_rl::pairs::Pairs;
use pcrm_rl::score::{score_pairs, score_sequences};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::planted::{Drawn, gradient, objective};
use crate::subject::{Subject, every_backend};
use crate::support::tokens;

const VOCABULARY: u32 = 40;
const TOLERANCE: f64 = 1e-5;
const CENTER: f64 = 0.05;
const ALL_AT_ONCE: usize = 1 << 20;

/// The usual spread of weights: larger than in practice, so that attention is far from uniform.
pub const SPREAD: f64 = 0.3;

/// Returns models that compute in `compute`, with weights drawn with this spread.
pub fn models(
    backend: &dyn Backend,
    compute: DType,
    spread: f64,
) -> Result<Vec<(&'static str, RewardModel)>> {
    let llama = json!({
        "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
        "max_position_embeddings": 256, "initializer_range": spread
    });
    let dynamic = json!({
        "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
        "max_position_embeddings": 64, "initializer_range": spread,
        "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}
    });
    let qwen3 = json!({
        "model_type": "qwen3", "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
        "max_position_embeddings": 256, "initializer_range": spread
    });
    let gemma3 = json!({
        "model_type": "gemma3_text", "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
        "max_position_embeddings": 256, "initializer_range": spread, "query_pre_attn_scalar": 6,
        "sliding_window": 9, "sliding_window_pattern": 2
    });
    let gpt_neox = json!({
        "model_type": "gpt_neox", "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 256,
        "initializer_range": spread
    });
    let gpt2 = json!({
        "model_type": "gpt2", "vocab_size": VOCABULARY, "n_embd": 16, "n_head": 2, "n_layer": 2,
        "n_positions": 256, "initializer_range": spread
    });
    let model = |(name, json): (&'static str, Value)| {
        let json = json.as_object().cloned().context("an object")?;
        let config = ModelConfig::from_json(json, Path::new(name))?;
        Ok((name, RewardModel::random(backend, config, compute, 11)?.trainable()))
    };
    [
        ("llama", llama),
        ("dynamic", dynamic),
        ("qwen3", qwen3),
        ("gemma3", gemma3),
        ("gpt_neox", gpt_neox),
        ("gpt2", gpt2),
    ]
    .into_iter()
    .map(model)
    .collect()
}

/// Lengths of prompt and answers: none, one, a few, and beyond 64, the size of a block of rows.
const LENGTHS: [(usize, usize, usize); 8] =
    [(5, 3, 7), (0, 4, 2), (9, 1, 1), (70, 5, 3), (3, 67, 2), (64, 65, 66), (0, 1, 9), (12, 6, 6)];

pub fn ragged() -> Result<Pairs> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let encoded = |(row, (prompt, chosen, rejected)): (usize, &(usize, usize, usize))| {
        let prompt = tokens(*prompt, VOCABULARY, &mut rng);
        let mut chosen = tokens(*chosen, VOCABULARY, &mut rng);
        let rejected = tokens(*rejected, VOCABULARY, &mut rng);
        chosen[0] = (rejected[0] + 1) % VOCABULARY; // the prompt ends where the answers diverge
        Drawn::pair(prompt, chosen, rejected).set(row)
    };
    Ok(bounded(LENGTHS.iter().enumerate().map(encoded).collect::<Result<_>>()?))
}

/// Gives every third pair no bound, and the others a growing one.
fn bounded(sets: Vec<EncodedSet>) -> Pairs {
    let count = sets.iter().map(|set| set.comparisons.len()).sum();
    let bound = |row| if row % 3 == 1 { f32::INFINITY } else { 0.5 + row as f32 };
    Pairs::new(sets, (0..count).map(bound).collect())
}

/// The answers of each ranked set: the number of tokens they share with the first answer after a prompt of
/// 20, and their own.
const SETS: [&[(usize, usize)]; 4] = [
    &[(0, 4), (2, 3), (0, 70), (1, 1)],
    &[(0, 5), (0, 2)],
    &[(0, 3), (3, 4), (0, 1)],
    &[(0, 66), (64, 9), (0, 7)],
];

/// Returns ranked sets with all their pairs; some answers begin alike, so their pairs diverge at different
/// tokens.
pub fn ranked() -> Result<Pairs> {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let encoded = |(row, answers): (usize, &&[(usize, usize)])| {
        let mut drawn = |count| tokens(count, VOCABULARY, &mut rng);
        let prompt = drawn(20);
        let first = drawn(answers[0].1);
        let mut all: Vec<Vec<u32>> = vec![first.clone()];
        for (number, (shared, own)) in answers.iter().enumerate().skip(1) {
            let mut own = drawn(*own);
            // No two answers begin alike by chance.
            own[0] = first.get(*shared).map_or(0, |id| (id + number as u32) % VOCABULARY);
            all.push([&first[..*shared], &own].concat());
        }
        let count = all.len() as u32;
        let pairs = (0..count).flat_map(|chosen| (chosen + 1..count).map(move |other| (chosen, other)));
        let comparisons = pairs.map(|(chosen, other)| Comparison::preferring(chosen, other)).collect();
        Drawn { prompt, answers: all, comparisons }.set(row)
    };
    Ok(bounded(SETS.iter().enumerate().map(encoded).collect::<Result<_>>()?))
}

/// Returns the loss of these checks.
pub fn centred(score_at: ScoreAt) -> RewardConfig {
    // Centring keeps the gradients of the two answers from cancelling where the loss depends only on their
    // difference.
    let loss = LossConfig { center_rewards: CENTER, ..LossConfig::default() };
    RewardConfig { score_at, loss, ignore_margin: true }
}

/// Returns the scores of a sequence computed alone, at its last token or at `rows`.
fn alone(model: &RewardModel, ids: &[u32], rows: std::ops::Range<usize>) -> Result<Tensor> {
    let mut packed = Packed::default();
    packed.push(ids, None)?;
    Ok(model.scores(&packed, &rows.collect::<Vec<_>>())?)
}

/// Computes the mean loss over sets (for each, the mean over its pairs) and the gradients, sequence by
/// sequence.
fn separately(
    backend: &dyn Backend,
    model: &RewardModel,
    data: &Pairs,
    score_at: ScoreAt,
) -> Result<(f64, BTreeMap<String, Vec<f32>>)> {
    let (mut loss, mut sums) = (0.0, BTreeMap::<String, Vec<f64>>::new());
    let of_sets = data.sets.iter().flat_map(|set| set.pairs().map(move |pair| (set, pair)));
    for ((set, pair), bound) in of_sets.zip(&data.bounds) {
        let count = (data.sets.len() * set.comparisons.len()) as f64;
        let both = pair.chosen.len().min(pair.rejected.len());
        let scores = |answer: &[u32]| {
            let ids = [pair.prompt, answer].concat();
            let rows = match score_at {
                ScoreAt::Last => ids.len() - 1..ids.len(),
                ScoreAt::DivergentMean => pair.prompt.len()..pair.prompt.len() + both,
            };
            alone(model, &ids, rows)
        };
        let (chosen, rejected) = (scores(pair.chosen)?, scores(pair.rejected)?);
        let margin = chosen.sub(&rejected)?;
        let centring = chosen.add(&rejected)?.square()?.affine(CENTER, 0.0)?;
        let mut losses = centring.sub(&margin.log_sigmoid()?)?;
        if bound.is_finite() {
            losses = losses.sub(&margin.affine(-1.0, f64::from(*bound))?.log_sigmoid()?)?;
        }
        let mean = losses.sum_all()?.affine(1.0 / losses.size() as f64, 0.0)?;
        loss += f64::from(mean.read_scalar()?) / count;
        for (name, gradient) in backend.backward(&mean, model.params())?.iter() {
            let values = gradient.read()?.into_f32();
            let sum = sums.entry(name.to_owned()).or_insert_with(|| vec![0.0; values.len()]);
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(value) / count);
        }
    }
    let narrow = |(name, sum): (String, Vec<f64>)| (name, sum.into_iter().map(|x| x as f32).collect());
    Ok((loss, sums.into_iter().map(narrow).collect()))
}

fn check_equal(
    backend: &Subject,
    got: &Gradient,
    loss: f64,
    gradients: &BTreeMap<String, Vec<f32>>,
) -> Result<()> {
    let found = got.metrics.summary().loss();
    ensure!((found - loss).abs() <= backend.tolerance(TOLERANCE) * loss, "loss {found}, expected {loss}");
    ensure!(got.gradients.iter().count() == gradients.len(), "a parameter has no gradient");
    for (name, want) in gradients {
        ensure!(want.iter().any(|value| *value != 0.0), "{name}: the expected gradient is all zero");
        backend.check_norm(name, &got.gradients.get(name)?.read()?.into_f32(), want, TOLERANCE)?;
    }
    Ok(())
}

/// Protects: packing, sharing prompts and micro-batches change neither the loss nor any gradient.
#[test]
fn loss_and_every_gradient_are_those_of_separate_sequences() -> Result<()> {
    let (single, sets) = (ragged()?, ranked()?);
    ensure!(single.sets.len() == single.count() && sets.sets.len() == SETS.len(), "{} sets", sets.sets.len());
    every_backend(|backend| {
        for data in [&single, &sets] {
            equal_separate_sequences(backend, data)?;
        }
        Ok(())
    })
}

fn equal_separate_sequences(backend: &Subject, data: &Pairs) -> Result<()> {
    let all: Vec<usize> = (0..data.sets.len()).collect();
    for (name, model) in models(backend, DType::F32, SPREAD)? {
        for score_at in [ScoreAt::Last, ScoreAt::DivergentMean] {
            let (loss, gradients) = separately(backend, &model, data, score_at)?;
            for micro_tokens in [ALL_AT_ONCE, 150, 1] {
                let at = || format!("{name}, {score_at:?}, {micro_tokens} tokens at once");
                let config = centred(score_at);
                let got = gradient(backend, &model, data, config, &all, micro_tokens).with_context(at)?;
                check_equal(backend, &got, loss, &gradients).with_context(at)?;
                let seen = evaluate(&objective(config), &model, data, micro_tokens)?.summary().loss();
                let off = (seen - loss).abs();
                ensure!(off <= backend.tolerance(TOLERANCE) * loss, "{}: evaluated {seen}", at());
            }
        }
    }
    Ok(())
}

/// Protects: the token counts in the metrics are those computed by hand from `LENGTHS`.
#[test]
fn tokens_are_counted_as_separate_shared_and_padded() -> Result<()> {
    let data = ragged()?;
    every_backend(|backend| {
        let model = &models(backend, DType::F32, SPREAD)?[0].1;
        let some = [0, 3, 1]; // prompts of 5, 70 and 0 tokens; the longest sequence has 75
        for micro_tokens in [ALL_AT_ONCE, 1] {
            let config = centred(ScoreAt::Last);
            let tokens = gradient(backend, model, &data, config, &some, micro_tokens)?.tokens;
            ensure!(tokens.unique == (5 + 3 + 7) + (70 + 5 + 3) + (4 + 2), "{tokens:?}");
            ensure!(tokens.separate == tokens.unique + 5 + 70, "{tokens:?}");
            ensure!(tokens.padded() == 6 * 75, "{tokens:?}");
        }
        Ok(())
    })
}

/// Protects: each answer of a ranked set is computed once, and the token counts are those computed by hand
/// from `SETS`.
#[test]
fn every_answer_of_a_set_is_computed_once() -> Result<()> {
    let data = ranked()?;
    every_backend(|backend| {
        let model = &models(backend, DType::F32, SPREAD)?[0].1;
        let tokens = gradient(backend, model, &data, centred(ScoreAt::Last), &[0], ALL_AT_ONCE)?.tokens;
        // After the prompt of 20: 4, 2 + 3, 70, and 1 + 1 tokens.
        ensure!(tokens.unique == 20 + 4 + 5 + 70 + 2, "{tokens:?}");
        ensure!(tokens.separate == tokens.unique + 3 * 20, "{tokens:?}");
        ensure!(tokens.padded() == 4 * 90 && tokens.sequences == 4, "{tokens:?}");
        Ok(())
    })
}

/// Protects: a score depends only on its sequence, not on the batch, the order, or a shared prompt.
#[test]
fn scores_have_the_same_bits_in_every_batch_and_order() -> Result<()> {
    let data = ragged()?;
    let mut order: Vec<usize> = (0..data.sets.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(8));
    let whole = |set: &EncodedSet| set.answers.iter().map(|answer| answer.ids.clone()).collect::<Vec<_>>();
    every_backend(|backend| {
        for (name, model) in models(backend, DType::F32, SPREAD)? {
            let mut want = Vec::new();
            for ids in data.sets.iter().flat_map(whole) {
                want.extend(alone(&model.detached(), &ids, ids.len() - 1..ids.len())?.read()?.into_f32());
            }
            for micro_tokens in [1, 100, 300, ALL_AT_ONCE] {
                for order in [(0..data.sets.len()).collect::<Vec<_>>(), order.clone()] {
                    let pairs: Vec<&EncodedSet> = order.iter().map(|row| &data.sets[*row]).collect();
                    let sequences: Vec<Vec<u32>> = pairs.iter().flat_map(|set| whole(set)).collect();
                    let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
                    let want: Vec<f32> =
                        order.iter().flat_map(|row| [want[2 * row], want[2 * row + 1]]).collect();
                    let paired = score_pairs(&model, &pairs, micro_tokens)?;
                    let paired: Vec<f32> = paired.into_iter().flat_map(<[f32; 2]>::from).collect();
                    let single = score_sequences(&model, &sequences, micro_tokens)?;
                    let at = format!("{micro_tokens} tokens at once, {order:?}");
                    backend.check_same(&format!("{name}: sequences, {at}"), &single, &want)?;
                    backend.check_same(&format!("{name}: pairs, {at}"), &paired, &want)?;
                }
            }
        }
        Ok(())
    })
}

/// Protects: an answer without tokens is an error, not the score of another text.
#[test]
fn empty_sequences_are_refused() -> Result<()> {
    every_backend(|backend| {
        let model = &models(backend, DType::F32, SPREAD)?[0].1;
        let mut empty = Drawn::pair(vec![1, 2], vec![3], vec![4]).set(0)?;
        empty.answers[1].ids.pop();
        ensure!(score_pairs(model, &[&empty], ALL_AT_ONCE).is_err());
        ensure!(score_sequences(model, &[&[1, 2], &[]], ALL_AT_ONCE).is_err());
        backend.check_close("nothing", &score_sequences(model, &[], ALL_AT_ONCE)?, &[], 0.0)
    })
}
