//! Language models: saved folders, and log-probabilities of tokens that share rows.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_core::model::{
    Checkpoint, Decoder, LanguageModel, Loading, LoraConfig, ModelConfig, RewardModel, Rows, weights,
};
use pcrm_core::{Backend, DType, HostTensor, Packed};
use serde_json::{Value, json};

use crate::subject::{every_backend, every_backend_with_bf16};
use crate::support::{beside, run_python};

/// A model for each way of naming, tying and storing weights.
const FAMILIES: [&str; 29] = [
    "cohere2",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3-linear",
    "glm4",
    "gpt2",
    "gpt_neox",
    "granite",
    "llama",
    "llama-tied-linear",
    "ministral",
    "mistral-window",
    "mixtral",
    "olmo2",
    "olmo3",
    "olmoe",
    "opt",
    "opt-350m",
    "phi3",
    "phi3-long",
    "qwen2",
    "qwen2_moe",
    "qwen2_moe-window",
    "qwen3-yarn",
    "qwen3_moe",
    "qwen3_moe-window",
    "smollm3",
    "smollm3-window",
];

fn sequence() -> Packed {
    let mut packed = Packed::default();
    packed.push(&[5, 9, 31, 7, 44, 12, 8], None).map_or_else(|error| panic!("{error}"), |_| packed)
}

/// Protects: a saved folder loads with the same bits, has the config of a causal model, keeps the generation
/// defaults, and stores a tied head once.
#[test]
fn a_saved_language_model_is_the_one_that_was_loaded() -> Result<()> {
    every_backend(|backend| {
        for family in FAMILIES {
            let base = beside("golden/models").join(family);
            let model = LanguageModel::load(backend, &base, DType::F32)?;
            let dir = tempfile::tempdir()?;
            model.save(dir.path())?;
            let again = LanguageModel::load(backend, dir.path(), DType::F32)?;
            let logits = |model: &LanguageModel| -> Result<Vec<f32>> {
                Ok(model.logits(&sequence(), Rows::All)?.read()?.into_f32())
            };
            backend.check_same(family, &logits(&again)?, &logits(&model)?)?;
            let stored = Checkpoint::open(dir.path())?;
            ensure!(
                stored.names().eq(Checkpoint::open(&base)?.names()),
                "{family}: the names of the tensors differ"
            );
            let read = |name: &str| fs::read(dir.path().join(name));
            ensure!(read("generation_config.json")? == fs::read(base.join("generation_config.json"))?);
            let config: Value = serde_json::from_slice(&read("config.json")?)?;
            ensure!(config["architectures"] == serde_json::json!([model.config().family.language_model]));
            ensure!(config["tie_word_embeddings"] == model.config().tied, "{family}");
        }
        Ok(())
    })
}

/// Protects: `transformers` loads a saved model with no weight missing, unexpected or of another shape, and
/// computes the logits of the golden files.
#[test]
fn transformers_loads_what_is_saved() -> Result<()> {
    let backend = crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let root = tempfile::tempdir()?;
    for family in FAMILIES {
        let base = beside("golden/models").join(family);
        LanguageModel::load(&backend, &base, DType::F32)?.save(&root.path().join(family))?;
    }
    run_python("golden/models/check_saved.py", &[root.path().as_os_str()])?;
    Ok(())
}

/// Protects: a stored head with its own values is not tied, even if the config ties it; `transformers` does
/// the same.
#[test]
fn a_head_with_values_of_its_own_is_not_tied() -> Result<()> {
    every_backend(|backend| {
        let base = beside("golden/models/llama");
        let dir = tempfile::tempdir()?;
        fs::copy(base.join("model.safetensors"), dir.path().join("model.safetensors"))?;
        let text = fs::read_to_string(base.join("config.json"))?;
        let tied = text.replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
        ensure!(tied != text, "the config has no tie_word_embeddings");
        fs::write(dir.path().join("config.json"), tied)?;
        let (own, base) = (
            LanguageModel::load(backend, dir.path(), DType::F32)?,
            LanguageModel::load(backend, &base, DType::F32)?,
        );
        ensure!(!own.config().tied && own.params().contains("lm_head.weight"));
        let logits = |model: &LanguageModel| -> Result<Vec<f32>> {
            Ok(model.logits(&sequence(), Rows::All)?.read()?.into_f32())
        };
        backend.check_same("logits", &logits(&own)?, &logits(&base)?)
    })
}

/// Protects: a reward model's folder is refused as a language model, also where the config ties the head to the
/// embedding and no weight is missing: by its head, or by its class alone. A head of its own serves, and a value
/// head beside a language model is no head of scores.
#[test]
fn a_reward_model_is_not_taken_for_a_language_model() -> Result<()> {
    const SAID: &str = "the folder holds a reward model, whose head gives scores: expected a language model";
    let backend = crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let said = |dir: &Path| {
        let loaded = LanguageModel::load(&backend, dir, DType::F32).map(drop);
        loaded.err().map(|error| error.to_string()).unwrap_or_default()
    };
    for name in ["gemma3", "gpt2", "gpt_neox", "llama", "llama-tied-linear", "qwen2"] {
        let found = said(&beside("golden/models").join(format!("{name}-reward")));
        ensure!(found.contains(SAID), "{name}: {found:?}");
    }
    let base = beside("golden/models/qwen2");
    let (text, shape) = (fs::read_to_string(base.join("config.json"))?, ModelConfig::from_dir(&base)?);
    ensure!(shape.tied && text.contains("Qwen2ForCausalLM"), "{text}");
    let score = ("score.weight", [1, shape.outer_width]);
    let head = ("lm_head.weight", [shape.vocabulary, shape.outer_width]);
    let value = ("v_head.summary.weight", [1, shape.outer_width]);
    for (class, added, part) in [
        ("Qwen2ForSequenceClassification", vec![], "Qwen2ForSequenceClassification"),
        ("Qwen2ForCausalLM", vec![score], "has score.weight and no lm_head.weight"),
        ("Qwen2ForSequenceClassification", vec![score], "has score.weight and no lm_head.weight"),
        ("Qwen2ForCausalLM", vec![score, head], ""),
        ("Qwen2ForCausalLM", vec![value], ""),
    ] {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("config.json"), text.replace("Qwen2ForCausalLM", class))?;
        let mut tensors = weights::load_file(&base.join("model.safetensors"))?;
        for (name, shape) in &added {
            let values = vec![0.5; shape.iter().product()];
            tensors.insert((*name).to_owned(), HostTensor::f32(*shape, values)?);
        }
        weights::save(&dir.path().join("model.safetensors"), &tensors)?;
        let found = said(dir.path());
        let is_refused = !part.is_empty();
        ensure!(found.contains(part) && found.contains(SAID) == is_refused, "{class} {added:?}: {found:?}");
        ensure!(found.is_empty() != is_refused, "{class} {added:?}: {found:?}");
    }
    Ok(())
}

/// Protects: two answers to one prompt share its last row and get the log-probabilities they get alone.
#[test]
fn answers_share_the_row_that_predicts_their_first_token() -> Result<()> {
    every_backend(|backend| {
        for family in ["llama", "gpt2"] {
            let model = LanguageModel::load(backend, &beside("golden/models").join(family), DType::F32)?;
            let (prompt, answers) = ([5, 9, 31], [[7, 44], [12, 8]]);
            let mut shared = Packed::default();
            let root = shared.push(&prompt, None)?;
            let mut alone = Vec::new();
            for answer in &answers {
                shared.push(answer, Some(root))?;
                let mut single = Packed::default();
                single.push(&[&prompt[..], answer].concat(), None)?;
                alone.extend(model.log_probs(&single, &[2, 3], answer)?.read()?.into_f32());
            }
            let got = model.log_probs(&shared, &[2, 3, 2, 5], &answers.concat())?;
            backend.check_same(family, &got.read()?.into_f32(), &alone)?;
        }
        Ok(())
    })
}

/// Protects: a checkpoint's weights are restored in place, and a set that does not fit changes nothing.
#[test]
fn weights_are_restored() -> Result<()> {
    every_backend(|backend| {
        let config = ModelConfig::from_dir(&beside("golden/models/gpt2"))?;
        let one = LanguageModel::random(backend, config.clone(), DType::F32, 1)?;
        let two = LanguageModel::random(backend, config, DType::F32, 2)?;
        let mut tensors = one.tensors()?;
        ensure!(tensors != two.tensors()?);
        two.restore(tensors.clone())?;
        ensure!(two.tensors()? == tensors);
        let before = tensors.clone();
        tensors.remove("transformer.wpe.weight");
        let error = two.restore(tensors).map(drop).map_err(|error| error.to_string());
        ensure!(error == Err("transformer.wpe.weight: is missing from the weights".to_owned()));
        ensure!(two.tensors()? == before);
        Ok(())
    })
}

/// Protects: weights cast once for many passes compute the bits of weights cast by each, also where tables are
/// scaled or added in f32 and norms are around one.
#[test]
fn weights_cast_once_compute_what_masters_compute() -> Result<()> {
    every_backend_with_bf16(|backend| {
        let hidden = |decoder: &Decoder| -> Result<Vec<f32>> {
            Ok(decoder.forward(&sequence(), Rows::All)?.read()?.to_f32())
        };
        for name in ["qwen2", "gemma", "gemma3", "gpt2", "granite"] {
            let dir = beside("golden/models").join(name);
            let model = LanguageModel::load(backend, &dir, DType::BF16)?;
            let once = model.decoder().cast_once()?;
            let narrow = once.params().iter().filter(|(_, param)| param.dtype() == DType::BF16).count();
            ensure!(narrow > 10, "{name}: {narrow} parameters are bf16");
            ensure!(hidden(&once)? == hidden(&model.decoder().detached())?, "{name}: the bits differ");
        }
        let dir = beside("golden/models/qwen2");
        let base = LanguageModel::load_as(&dir, Loading::frozen(backend, DType::BF16))?;
        let config: LoraConfig = serde_json::from_value(json!({"target_modules": "all-linear"}))?;
        let adapted = base.with_adapters(config, &dir, 1)?;
        ensure!(
            hidden(&adapted.decoder().cast_once()?)? == hidden(&adapted.decoder().detached())?,
            "with adapters: the bits differ"
        );
        Ok(())
    })
}

/// Protects: a model stored in its compute type is frozen, and in f32 it computes the bits of the masters.
#[test]
fn a_frozen_model_computes_what_masters_compute() -> Result<()> {
    every_backend(|backend| {
        let dir = beside("golden/models/gemma3");
        let model = LanguageModel::load(backend, &dir, DType::F32)?;
        let frozen = LanguageModel::load_as(&dir, Loading::frozen(backend, DType::F32))?;
        ensure!(frozen.trained().iter().count() == 0 && model.trained().iter().count() > 10);
        let logits = |model: &LanguageModel| -> Result<Vec<f32>> {
            Ok(model.logits(&sequence(), Rows::All)?.read()?.into_f32())
        };
        backend.check_same("logits", &logits(&frozen)?, &logits(&model)?)?;
        if !backend.dtypes().contains(&DType::BF16) {
            return Ok(());
        }
        let frozen = LanguageModel::load_as(&dir, Loading::frozen(backend, DType::BF16))?;
        let names = |dtype| frozen.params().iter().filter(move |(_, param)| param.dtype() == dtype);
        ensure!(names(DType::BF16).all(|(_, param)| param.shape().len() == 2));
        ensure!(names(DType::F32).all(|(_, param)| param.shape().len() == 1));
        ensure!(frozen.logits(&sequence(), Rows::All)?.read()?.to_f32().iter().all(|x| x.is_finite()));
        let reward = RewardModel::load_as(
            &beside("golden/models/gemma3-reward"),
            Loading::frozen(backend, DType::BF16),
        )?;
        ensure!(reward.params().get("score.weight")?.dtype() == DType::F32);
        Ok(())
    })
}
