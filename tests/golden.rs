//! Every family against `transformers` in float64: logits, scores, and the gradient of every parameter.
//!
//! The data and the script that made it are in `golden/models`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use pcrm_core::kernels::Ask;
use pcrm_core::model::config::CLASS_FILE;
use pcrm_core::model::parameters::parameters;
use pcrm_core::model::{Checkpoint, Decoder, Head, Loading, ModelConfig, RewardModel, Rows, weights};
use pcrm_core::{Backend, DType, HostTensor, Packed, Tensor};
use serde_json::{Value, json};

use crate::subject::{Subject, every_backend, every_backend_with_bf16, subjects};
use crate::support::{beside, check_norm, run_python, shared_data};

const FAMILIES: [&str; 17] = [
    "gemma3",
    "gemma3-linear",
    "gpt2",
    "gpt_neox",
    "gpt_neox-yarn",
    "llama",
    "llama-dynamic",
    "llama-head-dim",
    "llama-tied-linear",
    "llama-yarn",
    "llama3",
    "mistral",
    "mistral-window",
    "qwen2",
    "qwen2-window",
    "qwen3",
    "qwen3-yarn",
];
/// The checkpoints of `make_compact.py`: one for both heads, with the reward head stored among the results.
const COMPACT: [&str; 22] = [
    "cohere2",
    "gemma",
    "gemma2",
    "gemma3-multimodal",
    "glm4",
    "granite",
    "internlm2",
    "ministral",
    "mixtral",
    "olmo2",
    "olmo3",
    "olmoe",
    "opt",
    "opt-350m",
    "phi3",
    "phi3-long",
    "qwen2_moe",
    "qwen2_moe-window",
    "qwen3_moe",
    "qwen3_moe-window",
    "smollm3",
    "smollm3-window",
];
const LOGITS: f32 = 5e-5;
const GRADIENTS: f64 = 1e-4;
/// The norm of the error of logits in bf16, relative to the norm of the logits.
const NEAR: f64 = 3e-2;

struct Case {
    dir: PathBuf,
    json: Value,
    golden: BTreeMap<String, HostTensor>,
}

impl Case {
    fn open(family: &str) -> Result<Self> {
        let dir = beside("golden/models").join(family);
        let json = serde_json::from_str(&fs::read_to_string(dir.join("cases.json"))?)?;
        let golden = weights::load_file(&dir.join("golden.safetensors"))?;
        Ok(Self { dir, json, golden })
    }

    fn tensor(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.golden.get(name).with_context(|| format!("golden.safetensors has no {name}"))?.to_f32())
    }

    /// Returns the reward model of the case, assembled in a temporary folder if it is not stored.
    fn reward(&self, backend: &dyn Backend) -> Result<RewardModel> {
        let mut name = self.dir.file_name().unwrap_or_default().to_os_string();
        name.push("-reward");
        let stored = self.dir.with_file_name(name);
        if stored.exists() {
            return Ok(RewardModel::load(backend, &stored, DType::F32)?);
        }
        let made = tempfile::tempdir()?;
        fs::copy(self.dir.join("config.json"), made.path().join("config.json"))?;
        let mut tensors = weights::load_file(&self.dir.join("model.safetensors"))?;
        tensors.insert("score.weight".to_owned(), HostTensor::f32(self.score()?.0, self.score()?.1)?);
        weights::save(&made.path().join("model.safetensors"), &tensors)?;
        Ok(RewardModel::load(backend, made.path(), DType::F32)?)
    }

    fn score(&self) -> Result<([usize; 2], Vec<f32>)> {
        let values = self.tensor("score.weight")?;
        Ok(([1, values.len()], values))
    }

    /// Reports whether the results have the gradient of this parameter; compact ones omit those that another
    /// one covers.
    fn has(&self, gradient: &str) -> bool {
        !self.golden.contains_key("score.weight") || self.golden.contains_key(gradient)
    }
}

fn list(value: &Value) -> Vec<u32> {
    value.as_array().into_iter().flatten().filter_map(Value::as_u64).map(|id| id as u32).collect()
}

fn language_model(backend: &dyn Backend, config: ModelConfig, dir: &std::path::Path) -> Result<Decoder> {
    let how = Loading::masters(backend, DType::F32);
    Ok(Decoder::read(config, &Checkpoint::open(dir)?, &[Head::Language], how)?.trainable())
}

fn every_family(check: impl Fn(&Subject, &Case) -> Result<()>) -> Result<()> {
    every_backend(|backend| {
        for family in FAMILIES.into_iter().chain(COMPACT) {
            check(backend, &Case::open(family)?).with_context(|| family.to_owned())?;
        }
        Ok(())
    })
}

/// Returns the logits of every sequence of a case, computed in one pass.
fn logits(case: &Case, model: &Decoder) -> Result<Vec<Vec<f32>>> {
    let sequences = case.json["sequences"].as_array().context("sequences")?;
    let mut packed = Packed::default();
    for sequence in sequences {
        packed.push(&list(sequence), None)?;
    }
    let logits = model.logits(&model.forward(&packed, Rows::All)?)?;
    let mut start = 0;
    let of = |sequence: &Value| {
        let rows = list(sequence).len();
        start += rows;
        Ok(logits.narrow(0, start - rows, rows)?.read()?.to_f32())
    };
    sequences.iter().map(of).collect()
}

fn check_logits(backend: &Subject, case: &Case, model: &Decoder) -> Result<()> {
    for (at, got) in logits(case, model)?.iter().enumerate() {
        let want = case.tensor(&format!("logits.{at}"))?;
        backend.check_close(&format!("logits of sequence {at}"), got, &want, LOGITS)?;
    }
    Ok(())
}

#[test]
fn logits_are_those_of_transformers() -> Result<()> {
    every_family(|backend, case| {
        let config = ModelConfig::from_dir(&case.dir)?;
        check_logits(backend, case, &language_model(backend, config, &case.dir)?)
    })
}

/// Protects: computed in bf16, the logits of every family are near those of transformers in float64. Two layers
/// of operations are each off by up to 2⁻⁹; a mixture may choose another expert where two are nearly tied.
#[test]
fn logits_in_bf16_are_near_those_in_float64() -> Result<()> {
    every_backend_with_bf16(|backend| {
        for family in FAMILIES.into_iter().chain(COMPACT) {
            let case = Case::open(family)?;
            let config = ModelConfig::from_dir(&case.dir)?;
            let how = Loading::masters(backend, DType::BF16);
            let model = Decoder::read(config, &Checkpoint::open(&case.dir)?, &[Head::Language], how)?;
            for (at, got) in logits(&case, &model)?.iter().enumerate() {
                let want = case.tensor(&format!("logits.{at}"))?;
                check_norm(&format!("{family}: logits of sequence {at}"), got, &want, NEAR)?;
            }
        }
        Ok(())
    })
}

#[test]
fn configs_in_the_spelling_of_transformers_4_mean_the_same() -> Result<()> {
    every_backend(|backend| {
        for family in FAMILIES.into_iter().chain(COMPACT) {
            let case = Case::open(family)?;
            let path = case.dir.join("config-v4.json");
            if !path.exists() {
                continue; // both spellings are the same
            }
            let config = ModelConfig::from_json(serde_json::from_str(&fs::read_to_string(&path)?)?, &path)?;
            check_logits(backend, &case, &language_model(backend, config, &case.dir)?)?;
        }
        Ok(())
    })
}

#[test]
fn shards_load_as_one_file_does() -> Result<()> {
    let models = beside("golden/models");
    let (shards, one) =
        (Checkpoint::open(&models.join("llama-sharded"))?, Checkpoint::open(&models.join("llama"))?);
    ensure!(shards.names().eq(one.names()) && one.names().count() > 10);
    for name in one.names() {
        ensure!(shards.read(name)? == one.read(name)?, "{name}");
    }
    Ok(())
}

#[test]
fn every_gradient_of_a_log_likelihood_is_that_of_torch() -> Result<()> {
    every_family(|backend, case| {
        let model = language_model(backend, ModelConfig::from_dir(&case.dir)?, &case.dir)?;
        let sequence = list(&case.json["logp_sequence"]);
        let mut packed = Packed::default();
        packed.push(&sequence, None)?;
        let rows: Vec<usize> = (0..sequence.len() - 1).collect();
        let hidden = model.forward(&packed, Rows::Only(&rows))?;
        let asked: Vec<u32> = (0..rows.len() as u32).collect();
        let soft_cap = model.config().logit_cap;
        let ask = Ask { soft_cap, ..Ask::log_probs(&asked, &sequence[1..]) };
        let total = model.token_stats(&hidden, &ask)?.log_probs.sum_all()?;
        backend.check_close("Σ log p", &[total.read_scalar()?], &case.tensor("logp.sum")?, 1e-5)?;
        let gradients = backend.backward(&total, model.params())?;
        ensure!(gradients.iter().count() == model.params().iter().count(), "parameters without gradient");
        let known = |(name, _): &(&str, &Tensor)| case.has(&format!("logp.grad.{name}"));
        for (name, gradient) in gradients.iter().filter(known) {
            let parameter =
                parameters(model.config(), &[Head::Language]).into_iter().find(|p| p.name == name);
            let gradient = gradient.read()?;
            let stored =
                if parameter.is_some_and(|p| p.transposed) { gradient.transposed()? } else { gradient };
            backend.check_norm(
                name,
                &stored.into_f32(),
                &case.tensor(&format!("logp.grad.{name}"))?,
                GRADIENTS,
            )?;
        }
        Ok(())
    })
}

#[test]
fn scores_are_those_of_transformers_packed_or_alone() -> Result<()> {
    every_family(|backend, case| {
        let model = case.reward(backend)?;
        let want = case.tensor("scores")?;
        let mut packed = Packed::default();
        let mut last = Vec::new();
        let mut alone = Vec::new();
        for sequence in case.json["score_sequences"].as_array().context("score_sequences")? {
            let mut single = Packed::default();
            single.push(&list(sequence), None)?;
            alone.extend(model.scores(&single, &[single.ids.len() - 1])?.read()?.into_f32());
            packed.push(&list(sequence), None)?;
            last.push(packed.ids.len() - 1);
        }
        let together = model.scores(&packed, &last)?.read()?.into_f32();
        backend.check_close("scores", &together, &want, LOGITS)?;
        backend.check_same("scores beside others", &together, &alone)
    })
}

#[test]
fn every_gradient_of_a_constrained_pair_is_that_of_torch() -> Result<()> {
    every_family(|backend, case| {
        let model = case.reward(backend)?.trainable();
        let pair = &case.json["pair"];
        let mut packed = Packed::default();
        let prompt = packed.push(&list(&pair["prompt"]), None)?;
        packed.push(&list(&pair["chosen"]), Some(prompt))?;
        let chosen = packed.ids.len() - 1;
        packed.push(&list(&pair["rejected"]), Some(prompt))?;
        let scores = model.scores(&packed, &[chosen, packed.ids.len() - 1])?;
        backend.check_close("scores", &scores.read()?.into_f32(), &case.tensor("pair.scores")?, LOGITS)?;
        let margin = scores.narrow(0, 0, 1)?.sub(&scores.narrow(0, 1, 1)?)?;
        let bound = pair["bound"].as_f64().context("bound")?;
        let loss = margin.log_sigmoid()?.add(&margin.affine(-1.0, bound)?.log_sigmoid()?)?.neg()?;
        backend.check_close("loss", &[loss.read_scalar()?], &case.tensor("pair.loss")?, 1e-5)?;
        let gradients = backend.backward(&loss, model.params())?;
        ensure!(gradients.iter().count() == model.params().iter().count(), "parameters without gradient");
        for (name, gradient) in gradients.iter() {
            let transposed =
                parameters(model.config(), &[Head::Score]).iter().any(|p| p.name == name && p.transposed);
            let gradient = gradient.read()?;
            let stored = if transposed { gradient.transposed()? } else { gradient };
            backend.check_norm(
                name,
                &stored.into_f32(),
                &case.tensor(&format!("pair.grad.{name}"))?,
                GRADIENTS,
            )?;
        }
        Ok(())
    })
}

/// Protects: a saved reward model names a class that transformers has, or brings the class, with which
/// transformers gives the golden scores. Folders of such families without the class are read as before, and the
/// body's language model does not name it.
#[test]
fn a_saved_reward_model_names_a_class_that_loads_it() -> Result<()> {
    let backend = subjects()?.into_iter().next().context("a backend")?;
    let root = tempfile::tempdir()?;
    for (family, brings) in [
        ("cohere2", true),
        ("granite", true),
        ("olmoe", true),
        ("qwen3_moe-window", false),
        ("smollm3", false),
    ] {
        let case = Case::open(family)?;
        let (dir, model) = (root.path().join(family), case.reward(&backend)?);
        fs::create_dir(&dir)?;
        model.save(&dir)?;
        let saved = ModelConfig::from_dir(&dir)?;
        ensure!(saved.claims_head() && saved.unknown_keys.is_empty(), "{family}: {:?}", saved.unknown_keys);
        ensure!(dir.join(CLASS_FILE).exists() == brings && saved.raw.contains_key("auto_map") == brings);
        ensure!(
            !saved.language_json().contains_key("auto_map"),
            "{family}: the language model names the class"
        );
        if !brings {
            continue;
        }
        let class = saved.raw["architectures"][0].as_str().context("a class")?;
        let named = format!("modeling_reward.{class}");
        ensure!(saved.raw["auto_map"] == json!({"AutoModelForSequenceClassification": named}));
        let code = fs::read_to_string(dir.join(CLASS_FILE))?;
        ensure!(code.contains(&format!("\nclass {class}(GenericForSequenceClassification, ")), "{code}");

        let (older, mut config) = (tempfile::tempdir()?, saved.raw.clone());
        config.shift_remove("auto_map");
        fs::copy(dir.join(weights::SINGLE), older.path().join(weights::SINGLE))?;
        fs::write(older.path().join("config.json"), serde_json::to_vec(&config)?)?;
        let older = RewardModel::load(&backend, older.path(), DType::F32)?;
        ensure!(older.tensors()? == model.tensors()?, "{family}: an older folder has other weights");
    }
    run_python("golden/models/check_saved_rewards.py", &[root.path().as_os_str()])?;
    Ok(())
}

/// Protects: the routers' auxiliary loss matches transformers, over all rows and layers, for any requested
/// rows; its gradient reaches every router and it changes no hidden state.
#[test]
fn the_loss_of_routers_is_that_of_transformers() -> Result<()> {
    every_family(|backend, case| {
        let model = language_model(backend, ModelConfig::from_dir(&case.dir)?, &case.dir)?;
        let sequence = list(&case.json["logp_sequence"]);
        let mut packed = Packed::default();
        packed.push(&sequence, None)?;
        let (hidden, balance) = model.forward_balanced(&packed, Rows::Only(&[0, 5]))?;
        let plain = model.forward(&packed, Rows::Only(&[0, 5]))?;
        backend.check_same("states", &hidden.read()?.into_f32(), &plain.read()?.into_f32())?;
        let Some(balance) = balance else {
            ensure!(!case.golden.contains_key("aux.loss"), "the model has no router loss");
            return Ok(());
        };
        backend.check_close("loss", &[balance.read_scalar()?], &case.tensor("aux.loss")?, 1e-5)?;
        let routers: Vec<&str> =
            case.golden.keys().filter_map(|name| name.strip_prefix("aux.grad.")).collect();
        ensure!(!routers.is_empty());
        let leaves: Vec<&Tensor> =
            routers.iter().map(|name| model.params().get(name)).collect::<Result<_, _>>()?;
        let one = balance.constant(&HostTensor::f32([1], vec![1.0])?)?;
        for (name, gradient) in routers.iter().zip(Tensor::pull(&[(&balance, &one)], &leaves)?) {
            let gradient = gradient.context("no gradient")?.read()?.into_f32();
            backend.check_norm(name, &gradient, &case.tensor(&format!("aux.grad.{name}"))?, GRADIENTS)?;
        }
        Ok(())
    })
}

#[test]
fn a_trained_model_gives_its_float64_logits() -> Result<()> {
    let Some(dir) = shared_data("ckpt_stories260k") else { return Ok(()) };
    let golden: Value = serde_json::from_str(&fs::read_to_string(dir.join("golden.json"))?)?;
    every_backend(|backend| {
        let model = language_model(backend, ModelConfig::from_dir(&dir)?, &dir)?;
        for case in golden["cases"].as_array().context("cases")? {
            let ids = list(&case["input_ids"]);
            let Some(expected) = case["last_logits"].as_array() else { continue };
            let mut packed = Packed::default();
            packed.push(&ids, None)?;
            let hidden = model.forward(&packed, Rows::Only(&[ids.len() - 1]))?;
            let got = model.logits(&hidden)?.read()?.into_f32();
            let want: Vec<f32> = expected.iter().filter_map(Value::as_f64).map(|x| x as f32).collect();
            backend.check_close(&format!("{}", case["name"]), &got, &want, 1e-4)?;
        }
        Ok(())
    })
}
