//! Gradient checkpointing: the same gradients from fewer activations.

use std::num::NonZeroUsize;

use anyhow::{Context, Result, ensure};
use pcrm_core::kernels::Ask;
use pcrm_core::model::lora::LoraConfig;
use pcrm_core::model::{
    Checkpoint, Checkpointing, Decoder, Head, LanguageModel, Loading, ModelConfig, RewardModel, Rows,
    TokenQuestions,
};
use pcrm_core::{Backend, DType, Gradients, Packed};
use serde_json::json;

use crate::subject::{Subject, every_backend};
use crate::support::beside;

const FAMILIES: [&str; 12] = [
    "cohere2",
    "gemma2",
    "gemma3",
    "gpt2",
    "gpt_neox",
    "llama-dynamic",
    "mistral-window",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen2_moe",
    "qwen3",
];

/// Returns a prompt with two answers, and a text.
fn batch() -> Result<Packed> {
    let mut packed = Packed::default();
    let prompt = packed.push(&[5, 6, 7, 8, 9, 10, 11], None)?;
    packed.push(&[1, 2, 3], Some(prompt))?;
    packed.push(&[4, 5, 6, 7], Some(prompt))?;
    packed.push(&[9, 8, 7, 6, 5], None)?;
    Ok(packed)
}

fn every(layers: usize) -> Result<Checkpointing> {
    Ok(Checkpointing::Every(NonZeroUsize::new(layers).context("no layers")?))
}

fn check_same(backend: &Subject, got: &Gradients, want: &Gradients) -> Result<()> {
    ensure!(
        got.iter().map(|(name, _)| name).eq(want.iter().map(|(name, _)| name)),
        "the names of the gradients differ"
    );
    for (name, want) in want.iter() {
        let [got, want] = [got.get(name)?, want].map(|gradient| gradient.read());
        backend.check_same(name, &got?.into_f32(), &want?.into_f32())?;
    }
    Ok(())
}

/// Protects: recomputed layers give every parameter the same gradient, for every kind of layer; a frozen
/// layer passes gradients on.
#[test]
fn gradients_of_recomputed_layers_have_the_same_bits() -> Result<()> {
    every_backend(|backend| {
        let packed = batch()?;
        let (rows, targets) = ([0usize, 6, 8, 12, 17], [3, 1, 2, 9, 4]);
        for family in FAMILIES {
            let dir = beside("golden/models").join(family);
            let how = Loading::masters(backend, DType::F32);
            let config = ModelConfig::from_dir(&dir)?;
            let frozen = format!("{}0.", config.family.layers);
            ensure!(config.layers > 1, "a single layer is never recomputed");
            let model = Decoder::read(config, &Checkpoint::open(&dir)?, &[Head::Language], how)?;
            let some = model.with_params(model.params().training(|name| !name.starts_with(&frozen)));
            for model in [model, some] {
                let gradients = |checkpointing| -> Result<Gradients> {
                    let model = model.trainable().checkpointing(checkpointing);
                    let hidden = model.forward(&packed, Rows::Only(&rows))?;
                    let head = model.language_head()?;
                    let ask = Ask::log_probs(&[0, 1, 2, 3, 4], &targets);
                    let stats = hidden.kernels().token_stats(&hidden, head, &ask)?;
                    Ok(backend.backward(&stats.log_probs.sum_all()?, model.params())?)
                };
                check_same(backend, &gradients(every(1)?)?, &gradients(Checkpointing::Off)?)
                    .with_context(|| family.to_owned())?;
            }
        }
        Ok(())
    })
}

/// Protects: with adapters on a frozen base, recomputed layers drop the same elements; this also holds where
/// the frozen embedding leaves the first segment's input without a gradient.
#[test]
fn recomputed_adapters_drop_the_same_elements() -> Result<()> {
    every_backend(|backend| {
        let (packed, rows) = (batch()?, [0usize, 6, 8, 12, 17]);
        let dir = beside("golden/models/llama");
        let base = LanguageModel::load_as(&dir, Loading::masters(backend, DType::F32))?;
        let config = LoraConfig { r: 4, lora_dropout: 0.4, ..LoraConfig::default() };
        let model = base.with_adapters(config, &dir, 3)?;
        let gradients = |checkpointing, step| -> Result<Gradients> {
            let model = model.trainable().at_step(step).checkpointing(checkpointing);
            let hidden = model.decoder().forward(&packed, Rows::Only(&rows))?;
            Ok(backend.backward(&hidden.square()?.sum_all()?, model.params())?)
        };
        let (got, want) = (gradients(every(1)?, 7)?, gradients(Checkpointing::Off, 7)?);
        ensure!(want.iter().count() >= 8, "expected adapters of two layers");
        check_same(backend, &got, &want)?;
        let (other, name) = (gradients(every(1)?, 8)?, "model.layers.0.self_attn.q_proj.lora_B.weight");
        let [got, other] = [got.get(name)?, other.get(name)?].map(|gradient| gradient.read());
        ensure!(got? != other?, "two steps drop the same elements");
        Ok(())
    })
}

/// Protects: with the loss of routers too, recomputed layers give the same numbers and gradients.
#[test]
fn recomputed_layers_have_the_same_loss_of_routers() -> Result<()> {
    every_backend(|backend| {
        let (packed, rows, targets) = (batch()?, [0usize, 6, 8, 12, 17], [3, 1, 2, 9, 4]);
        for family in ["mixtral", "olmoe", "qwen2_moe", "qwen3_moe"] {
            let model = LanguageModel::load(backend, &beside("golden/models").join(family), DType::F32)?;
            let model = model.with_config(|config| {
                if let Some(mixture) = &mut config.mixture {
                    mixture.balance = 0.5;
                }
            });
            let computed = |checkpointing| -> Result<(Vec<f32>, Gradients)> {
                let model = model.trainable().checkpointing(checkpointing);
                let how = TokenQuestions::default();
                let (stats, routers) = model.trained_stats(&packed, &rows, &targets, how)?;
                let routers = routers.context("no loss of routers")?;
                let loss = stats.log_probs.sum_all()?.add(&routers.value.sum_all()?)?;
                let gradients = backend.backward(&loss, model.params())?;
                Ok((
                    [stats.log_probs.read()?.into_f32(), vec![routers.value.read_scalar()?]].concat(),
                    gradients,
                ))
            };
            let (want, gradients) = computed(Checkpointing::Off)?;
            let (got, recomputed) = computed(every(1)?)?;
            backend.check_same(family, &got, &want)?;
            check_same(backend, &recomputed, &gradients).with_context(|| family.to_owned())?;
        }
        Ok(())
    })
}

/// Protects: segments of any length give a deep reward model the same scores and gradients; without trained
/// parameters nothing is recorded.
#[test]
fn segments_of_any_length_give_the_same_scores_and_gradients() -> Result<()> {
    let config = json!({
        "model_type": "qwen2", "vocab_size": 16, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 7, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "initializer_range": 0.3
    });
    let config = ModelConfig::from_json(serde_json::from_value(config)?, "test".as_ref())?;
    every_backend(|backend| {
        let (packed, rows) = (batch()?, [9usize, 13, 18]);
        let model = RewardModel::random(backend, config.clone(), DType::F32, 1)?;
        let computed = |checkpointing| -> Result<(Vec<f32>, Gradients)> {
            let model = model.trainable().checkpointing(checkpointing);
            let scores = model.scores(&packed, &rows)?;
            let gradients = backend.backward(&scores.square()?.sum_all()?, model.params())?;
            Ok((scores.read()?.into_f32(), gradients))
        };
        let (want_scores, want) = computed(Checkpointing::Off)?;
        for checkpointing in [Checkpointing::Root, every(1)?, every(2)?, every(6)?, every(7)?, every(100)?] {
            let (scores, gradients) = computed(checkpointing)?;
            backend.check_same("scores", &scores, &want_scores)?;
            check_same(backend, &gradients, &want).with_context(|| format!("{checkpointing:?}"))?;
        }
        let frozen = model.detached().checkpointing(Checkpointing::Root).scores(&packed, &rows)?;
        ensure!(!frozen.has_history(), "a detached model has a history");
        Ok(())
    })
}
