//! Unusual checkpoints: configs, wrapped names, other heads, old buffers, quantised weights, adapters. Scores
//! equal `transformers`', or the refusal names the fault.
//!
//! `golden/wild/models.py` made the scores; weights are a formula of their names, which it shares with this
//! file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::encode::strip_padding;
use pcrm_core::model::parameters::{Head, parameters};
use pcrm_core::model::{ModelConfig, RewardModel};
use pcrm_core::{Backend, DType, Packed};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::binary::World;
use crate::subject::{Subject, every_backend};
use crate::support::beside;

/// The allowed difference between a score of pcrm and one of transformers.
const TOLERANCE: f32 = 3e-4;

/// A tensor of a file: its type, shape and bytes.
#[derive(Clone)]
struct Stored {
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn f32(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: "F32", shape: shape.to_vec(), bytes }
    }

    /// Returns zeros of any type.
    fn zeros(dtype: &'static str, shape: &[usize]) -> Self {
        let size = match dtype {
            "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => 1,
            "I16" | "U16" | "F16" | "BF16" => 2,
            "I64" | "U64" | "F64" => 8,
            _ => 4,
        };
        Self { dtype, shape: shape.to_vec(), bytes: vec![0; size * shape.iter().product::<usize>()] }
    }

    /// Returns the same numbers as F64.
    fn widened(&self) -> Self {
        let wide = |four: &[u8]| {
            let value = four.try_into().map_or(f32::NAN, f32::from_le_bytes);
            f64::from(value).to_le_bytes()
        };
        let bytes = self.bytes.chunks(4).flat_map(wide).collect();
        Self { dtype: "F64", shape: self.shape.clone(), bytes }
    }
}

type Tensors = BTreeMap<String, Stored>;

/// Computes a tensor by the formula of golden/wild/formula.py.
fn formula(name: &str, shape: &[usize], gemma: bool) -> Vec<f32> {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325, fnv);
    let uniform = |at: usize| {
        let mut z = seed.wrapping_add((at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let value = |at: usize| match uniform(at) {
        u if name == "score.weight" => u,
        u if shape.len() > 1 => u / 2.0,
        u if name.ends_with("bias") || gemma => u / 4.0,
        u => 1.0 + u / 4.0,
    };
    (0..shape.iter().product()).map(|at| value(at) as f32).collect()
}

/// Returns the tensors of a reward model, computed by the formula.
fn tensors(config: &Map<String, Value>) -> Result<Tensors> {
    let config = ModelConfig::from_json(config.clone(), Path::new("config.json"))?;
    let gemma = config.family.model_type.starts_with("gemma");
    let stored = parameters(&config, &[Head::Score]).into_iter().map(|parameter| {
        let mut shape = parameter.shape;
        if parameter.transposed {
            shape.reverse();
        }
        let values = formula(&parameter.name, &shape, gemma);
        (parameter.name, Stored::f32(&shape, &values))
    });
    Ok(stored.collect())
}

fn save(path: &Path, tensors: &Tensors) -> Result<()> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, tensor) in tensors {
        let start = data.len();
        data.extend(&tensor.bytes);
        let about =
            json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, data.len()]});
        header.insert(name.clone(), about);
    }
    let header = serde_json::to_vec(&header)?;
    Ok(fs::write(path, [&(header.len() as u64).to_le_bytes(), &header[..], &data].concat())?)
}

fn write(dir: &Path, config: &Map<String, Value>, tensors: &Tensors) -> Result<()> {
    fs::create_dir_all(dir)?;
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(beside("golden/text/plain").join(name), dir.join(name))?;
    }
    fs::write(dir.join("config.json"), serde_json::to_vec(config)?)?;
    save(&dir.join("model.safetensors"), tensors)
}

struct Golden(Value);

impl Golden {
    fn open() -> Result<Self> {
        let text = fs::read_to_string(beside("golden/wild/models.json"))?;
        Ok(Self(serde_json::from_str(&text)?))
    }

    fn list(&self, key: &str) -> Result<&Vec<Value>> {
        self.0[key].as_array().with_context(|| format!("models.json has no list {key}"))
    }

    /// Returns a case's config.json.
    fn config(&self, case: &Value) -> Result<Map<String, Value>> {
        let family = case["family"].as_str().context("a family")?;
        let mut config = self.0["bases"][family].as_object().context("a base")?.clone();
        config.extend(case["changes"].as_object().context("changes")?.clone());
        for key in case["lacks"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            config.remove(key);
        }
        Ok(config)
    }

    /// Returns the unchanged config of a family, and its scores.
    fn base(&self, family: &str) -> Result<(Map<String, Value>, Vec<f32>)> {
        let plain = |case: &&Value| case["family"] == family && case["changes"] == json!({});
        let case = self.list("served")?.iter().find(plain).context("a base")?;
        Ok((self.config(case)?, floats(&case["scores"])))
    }

    fn rows(&self) -> Result<Vec<Vec<u32>>> {
        let ids = |row: &Value| -> Vec<u32> {
            row.as_array().into_iter().flatten().filter_map(Value::as_u64).map(|id| id as u32).collect()
        };
        Ok(self.list("rows")?.iter().map(ids).collect())
    }
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).map(|x| x as f32).collect()
}

fn scores(backend: &dyn Backend, dir: &Path, rows: &[Vec<u32>]) -> Result<Vec<f32>> {
    let model = RewardModel::load(backend, dir, DType::F32)?;
    let mut scores = Vec::new();
    for row in rows {
        let mut ids = row.clone();
        model.config().pad.iter().for_each(|pad| strip_padding(&mut ids, *pad));
        let mut packed = Packed::default();
        packed.push(&ids, None)?;
        scores.extend(model.scores(&packed, &[ids.len() - 1])?.read()?.into_f32());
    }
    Ok(scores)
}

/// Loads a folder of these files and compares its scores, or the parts of the refusal.
fn check(
    backend: &Subject,
    what: &str,
    config: &Map<String, Value>,
    tensors: &Tensors,
    expected: Result<&[f32], &[&str]>,
) -> Result<()> {
    let dir = TempDir::new()?;
    write(dir.path(), config, tensors)?;
    match (scores(backend, dir.path(), &Golden::open()?.rows()?), expected) {
        (Ok(got), Ok(want)) => {
            let off = got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
            ensure!(got.len() == want.len() && off <= TOLERANCE, "{what}: {got:?}, expected {want:?}");
            Ok(())
        }
        (Err(error), Err(parts)) => {
            let said = format!("{error:#}");
            ensure!(parts.iter().all(|part| said.contains(part)), "{what}: {said:?} lacks some of {parts:?}");
            Ok(())
        }
        (Ok(got), Err(parts)) => anyhow::bail!("{what}: scores {got:?} instead of a refusal with {parts:?}"),
        (Err(error), Ok(_)) => Err(error.context(what.to_owned())),
    }
}

/// Protects: every config key that changes the arithmetic works as in transformers, in every family, and in
/// the spellings of transformers 4 and 5.
#[test]
fn unusual_configs_score_as_transformers_does() -> Result<()> {
    every_backend(|backend| {
        let golden = Golden::open()?;
        for case in golden.list("served")? {
            let config = golden.config(case)?;
            let what = format!("{} {}", case["family"], case["changes"]);
            check(backend, &what, &config, &tensors(&config)?, Ok(&floats(&case["scores"])))?;
        }
        Ok(())
    })
}

/// Protects: an unsupported key, a contradiction or a value of the wrong type is refused by key and value.
#[test]
fn configs_that_are_not_served_are_refused_by_key() -> Result<()> {
    every_backend(|backend| {
        let golden = Golden::open()?;
        for case in golden.list("refused")? {
            let (base, _) = golden.base(case["family"].as_str().unwrap_or_default())?;
            let says = case["says"].as_str().context("says")?;
            let what = format!("{} {}", case["family"], case["changes"]);
            check(backend, &what, &golden.config(case)?, &tensors(&base)?, Err(&[says, "config.json"]))?;
        }
        Ok(())
    })
}

fn renamed(tensors: &Tensors, name: impl Fn(&str) -> String) -> Tensors {
    tensors.iter().map(|(old, tensor)| (name(old), tensor.clone())).collect()
}

/// Protects: a prefix of all names is removed, in any combination of the known prefixes; mixed and unknown
/// prefixes are refused by name.
#[test]
fn wrapped_names_are_taken_or_named() -> Result<()> {
    every_backend(|backend| {
        let golden = Golden::open()?;
        for (family, own) in [("llama", "model."), ("gpt2", "transformer."), ("gpt_neox", "gpt_neox.")] {
            let (config, want) = golden.base(family)?;
            let plain = tensors(&config)?;
            let short = |name: &str| name.strip_prefix(own).unwrap_or(name).to_owned();
            check(backend, "bare names", &config, &renamed(&plain, short), Ok(&want))?;
            let mixed = |name: &str| if name.contains(".0.") { short(name) } else { name.to_owned() };
            check(backend, "some bare names", &config, &renamed(&plain, mixed), Ok(&want))?;
            for prefix in [
                "module.",
                "_orig_mod.",
                "base_model.model.",
                "module._orig_mod.",
                "_orig_mod.module.",
                "_fsdp_wrapped_module.",
                "_forward_module.",
                own,
            ] {
                let all = renamed(&plain, |name| format!("{prefix}{name}"));
                check(backend, prefix, &config, &all, Ok(&want))?;
            }
            let all = renamed(&plain, |name| format!("module.{}", short(name)));
            check(backend, "bare names with a prefix", &config, &all, Ok(&want))?;
            let doubled =
                |name: &str| if name == "score.weight" { name.to_owned() } else { format!("{own}{name}") };
            check(backend, "a model in a model", &config, &renamed(&plain, doubled), Ok(&want))?;

            let half = |name: &str| {
                if name.contains("norm") || name.contains("ln_") {
                    name.to_owned()
                } else {
                    format!("module.{name}")
                }
            };
            check(
                backend,
                "half",
                &config,
                &renamed(&plain, half),
                Err(&["\"module.\"", "expected all or none"]),
            )?;
            let unknown = renamed(&plain, |name| format!("llm.{name}"));
            check(backend, "unknown", &config, &unknown, Err(&["\"llm.\" is not known", "module."]))?;
            let mut two = renamed(&plain, |name| format!("actor.{name}"));
            two.extend(renamed(&plain, |name| format!("critic.{name}")));
            check(
                backend,
                "two models",
                &config,
                &two,
                Err(&["several models", "\"actor.\" and \"critic.\""]),
            )?;
            let inner = |name: &str| name.replace(".0.", ".0._orig_mod.");
            check(
                backend,
                "inner wrappers",
                &config,
                &renamed(&plain, inner),
                Err(&["is missing", "_orig_mod."]),
            )?;
        }
        Ok(())
    })
}

/// Protects: a checkpoint without a head is never scored, and the message lists the missing name and similar
/// tensors; a head is used for any architecture in config.json.
#[test]
fn a_head_is_there_or_named() -> Result<()> {
    let golden = Golden::open()?;
    let (config, want) = golden.base("llama")?;
    let plain = tensors(&config)?;
    let mut none = plain.clone();
    none.remove("score.weight");
    every_backend(|backend| {
        let under = |name: &str, shape: &[usize]| {
            let mut other = plain.clone();
            other.remove("score.weight");
            other.insert(name.to_owned(), Stored::zeros("F32", shape));
            other
        };
        for (name, shape) in [
            ("value_head.weight", &[1, 32][..]),
            ("v_head.weight", &[1, 32]),
            ("v_head.summary.weight", &[1, 32]),
            ("score.0.weight", &[1, 32]),
            ("model.score.weight", &[1, 32]),
            ("reward_head.weight", &[1, 32]),
            ("regression_layer.weight", &[5, 32]),
            ("classifier.out_proj.weight", &[1, 32]),
            ("anything.weight", &[1, 32]),
        ] {
            check(
                backend,
                name,
                &config,
                &under(name, shape),
                Err(&["score.weight [1, 32]", name, "rename it"]),
            )?;
        }
        let mut none = none.clone();
        check(
            backend,
            "none",
            &config,
            &none,
            Err(&["score.weight [1, 32]", "no other tensor looks like one"]),
        )?;
        let mut language = config.clone();
        language.insert("architectures".into(), json!(["LlamaForCausalLM"]));
        none.insert("lm_head.weight".into(), Stored::zeros("F32", &[384, 32]));
        check(
            backend,
            "a language model",
            &language,
            &none,
            Err(&["score.weight", "LlamaForCausalLM", "pcrm reward"]),
        )?;
        let mut two = plain.clone();
        two.insert("score.weight".into(), Stored::zeros("F32", &[2, 32]));
        check(
            backend,
            "two labels",
            &config,
            &two,
            Err(&["score.weight has shape [2, 32], expected [1, 32]"]),
        )?;
        let mut unlabelled = config.clone();
        unlabelled.remove("num_labels");
        check(backend, "no label is named", &unlabelled, &plain, Ok(&want))?;
        for name in
            ["LLMForSequenceRegression", "RewardModel", "LlamaForCausalLM", "LlamaForTokenClassification"]
        {
            let mut other = config.clone();
            other.insert("architectures".into(), json!([name]));
            check(backend, name, &other, &plain, Ok(&want))?;
        }

        Ok(())
    })?;

    // The index names a shard that does not hold the head.
    let (dir, mut map) = (TempDir::new()?, Map::new());
    write(dir.path(), &config, &none)?;
    fs::rename(dir.path().join("model.safetensors"), dir.path().join("model-1.safetensors"))?;
    map.extend(plain.keys().map(|name| (name.clone(), json!("model-1.safetensors"))));
    fs::write(dir.path().join("model.safetensors.index.json"), json!({"weight_map": map}).to_string())?;
    every_backend(|backend| {
        let error = RewardModel::load(backend, dir.path(), DType::F32).map(drop);
        let said = error.map_err(|error| error.to_string()).err().context("a headless model loads")?;
        ensure!(said.contains("score.weight") && said.contains("places it in model-1.safetensors"), "{said}");
        // Training may draw a head, which depends only on the seed.
        let drawn = |seed| RewardModel::load_to_train(backend, dir.path(), DType::F32, seed)?.tensors();
        ensure!(drawn(1)? == drawn(1)? && drawn(1)? != drawn(2)?);
        Ok(())
    })
}

/// Protects: unused tensors of any type load and change no score.
#[test]
fn unused_tensors_of_any_type_are_passed_over() -> Result<()> {
    every_backend(|backend| {
        let golden = Golden::open()?;
        let (config, want) = golden.base("gpt_neox")?;
        let mut old = tensors(&config)?;
        for layer in 0..3 {
            let at = |name: &str| format!("gpt_neox.layers.{layer}.attention.{name}");
            old.insert(at("bias"), Stored::zeros("BOOL", &[1, 1, 64, 64]));
            old.insert(at("masked_bias"), Stored::zeros("F32", &[]));
            old.insert(at("rotary_emb.inv_freq"), Stored::zeros("F16", &[1]));
        }
        check(backend, "old buffers", &config, &old, Ok(&want))?;
        for family in ["llama", "gpt2", "gemma3_text"] {
            let (config, want) = golden.base(family)?;
            for dtype in ["BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64", "F8_E4M3", "F8_E5M2"]
            {
                let mut more = tensors(&config)?;
                more.insert("position_ids".into(), Stored::zeros(dtype, &[1, 16]));
                more.insert("lm_head.weight".into(), Stored::zeros(dtype, &[384, 32]));
                check(backend, dtype, &config, &more, Ok(&want))?;
            }
            let wide = tensors(&config)?.into_iter().map(|(name, tensor)| (name, tensor.widened())).collect();
            check(backend, "F64", &config, &wide, Ok(&want))?;
        }
        Ok(())
    })
}

/// Protects: quantised weights, with or without a config entry, and unmerged adapters are refused by their
/// kind.
#[test]
fn quantised_weights_and_adapters_are_named() -> Result<()> {
    every_backend(|backend| {
        let (config, _) = Golden::open()?.base("llama")?;
        let plain = tensors(&config)?;
        let name = "model.layers.1.self_attn.q_proj";
        let weight = format!("{name}.weight");
        let with = |own: Option<Stored>, others: &[(&str, Stored)]| {
            let mut all = plain.clone();
            all.remove(&weight);
            all.extend(own.map(|own| (weight.clone(), own)));
            all.extend(others.iter().map(|(end, tensor)| (format!("{name}.{end}"), tensor.clone())));
            all
        };
        let z = Stored::zeros;
        for (tensors, parts) in [
            (
                with(Some(z("U8", &[512, 1])), &[("weight.absmax", z("F32", &[8]))]),
                &["q_proj", "bitsandbytes, 4 bit"][..],
            ),
            (
                with(Some(z("I8", &[32, 32])), &[("SCB", z("F32", &[32]))]),
                &["are quantised (int8)", "cannot be trained", "--lora-r"],
            ),
            (with(Some(z("I8", &[32, 32])), &[]), &["q_proj.weight has elements of type I8"]),
            (
                with(Some(z("F8_E4M3", &[32, 32])), &[("weight_scale_inv", z("F32", &[1, 1]))]),
                &["F8_E4M3", "fp8"],
            ),
            (
                with(None, &[("qweight", z("I32", &[4, 32])), ("qzeros", z("I32", &[1, 4]))]),
                &["is missing", "GPTQ or AWQ"],
            ),
            (with(None, &[("weight_packed", z("I32", &[32, 4]))]), &["is missing", "compressed-tensors"]),
            (with(None, &[]), &["q_proj.weight is missing (1 of 30", "no other tensor"]),
            (
                with(None, &[("base_layer.weight", z("F32", &[32, 32]))]),
                &["adapter that is not merged", "base_layer"],
            ),
            (
                with(Some(z("F32", &[32, 32])), &[("lora_A.default.weight", z("F32", &[4, 32]))]),
                &["not merged", "lora_A"],
            ),
        ] {
            check(backend, parts[0], &config, &tensors, Err(parts))?;
        }
        Ok(())
    })
}

/// Protects: heads named as in OpenRLHF and InternLM2 are used if config.json declares a reward model, and
/// give the scores of `score.weight`; a head with a bias is not used, and a gating network is refused by
/// name.
#[test]
fn heads_of_published_reward_models_are_read() -> Result<()> {
    let (config, want) = Golden::open()?.base("llama")?;
    let plain = tensors(&config)?;
    let under = |name: &str| {
        let mut other = plain.clone();
        if let Some(head) = other.remove("score.weight") {
            other.insert(name.to_owned(), head);
        }
        other
    };
    let named = |key: &str, value: Value| {
        let mut other = config.clone();
        other.insert(key.to_owned(), value);
        other
    };
    every_backend(|backend| {
        for (key, value, head) in [
            ("architectures", json!(["LlamaForRewardModel"]), "value_head.weight"),
            ("architectures", json!(["RewardModel"]), "value_head.weight"),
            ("architectures", json!(["InternLM2ForRewardModel"]), "v_head.weight"),
            ("value_head_prefix", json!("judge"), "judge.weight"),
            ("value_head_prefix", json!("score"), "score.weight"),
        ] {
            check(backend, head, &named(key, value), &under(head), Ok(&want))?;
        }
        let reward = named("architectures", json!(["LlamaForRewardModel"]));
        let mut biased = under("value_head.weight");
        biased.insert("value_head.bias".into(), Stored::zeros("F32", &[1]));
        check(backend, "a bias", &reward, &biased, Err(&["score.weight [1, 32]", "value_head.weight"]))?;
        let mixed = named("architectures", json!(["LlamaForRewardModelWithGating"]));
        check(backend, "a gate", &mixed, &plain, Err(&["LlamaForRewardModelWithGating", "gating network"]))?;
        Ok(())
    })
}

/// Protects: a model with its own reward token reads scores at that token, whether the sequence has it or
/// not, in shared trees too; an id outside the vocabulary is refused.
#[test]
fn scores_are_read_at_the_token_that_a_model_names() -> Result<()> {
    let (config, _) = Golden::open()?.base("llama")?;
    let weights = tensors(&config)?;
    let mut closing = config.clone();
    closing.insert("reward_token_id".into(), json!(9));
    let root = tempfile::tempdir()?;
    write(&root.path().join("plain"), &config, &weights)?;
    write(&root.path().join("closing"), &closing, &weights)?;
    closing.insert("reward_token_id".into(), json!(384));
    write(&root.path().join("beyond"), &closing, &weights)?;
    every_backend(|backend| {
        let load = |name: &str| RewardModel::load(backend, &root.path().join(name), DType::F32);
        let (plain, closing) = (load("plain")?, load("closing")?);
        let mut with = Packed::default();
        let mut rows = Vec::new();
        for ids in [&[5, 6, 7, 9][..], &[5, 6, 8, 3, 9], &[4, 9]] {
            with.push(ids, None)?;
            rows.push(with.ids.len() - 1);
        }
        let want = plain.scores(&with, &rows)?.read()?.into_f32();
        let mut without = Packed::default();
        let prompt = without.push(&[5, 6], None)?;
        without.push(&[7, 9], Some(prompt))?;
        without.push(&[8, 3], Some(prompt))?;
        without.push(&[4], None)?;
        let got = closing.scores(&without, &[3, 5, 6])?.read()?.into_f32();
        backend.check_same("scores", &got, &want)?;
        let inside = closing.scores(&without, &[0]).map(drop).map_err(|error| error.to_string());
        ensure!(inside.is_err_and(|error| error.contains("does not end a sequence")));
        let beyond = load("beyond").map(drop).map_err(|error| error.to_string());
        ensure!(
            beyond.is_err_and(|error| error.contains("reward_token_id is 384; expected an id below 384"))
        );
        Ok(())
    })
}

/// Protects: every command that scores refuses a model without a head, and training reports that it draws
/// one.
#[test]
fn no_verb_scores_with_a_random_head() -> Result<()> {
    let world = World::new()?;
    let (mut config, _) = Golden::open()?.base("llama")?;
    config.insert("max_position_embeddings".into(), json!(512));
    config.insert("architectures".into(), json!(["LlamaForSequenceClassification"]));
    let mut headless = tensors(&config)?;
    write(&world.path("whole"), &config, &headless)?;
    headless.remove("score.weight");
    write(&world.path("headless"), &config, &headless)?;
    headless.insert("value_head.weight".into(), Stored::zeros("F32", &[1, 32]));
    config.insert("architectures".into(), json!(["LLMForSequenceRegression"]));
    write(&world.path("other"), &config, &headless)?;
    for verb in [
        "score --data test.jsonl --model",
        "eval reward --no-report --data test.jsonl --model",
        "eval reward --no-report --data test.jsonl --model whole --compare",
        "calibrate --data train.jsonl --model base --output c.json --judge",
    ] {
        world
            .refuses(&format!("{verb} headless"), &["score.weight [1, 32]", "the head of a reward model"])?;
        world.refuses(&format!("{verb} other"), &["score.weight [1, 32]", "value_head.weight [1, 32]"])?;
    }
    world.refuses("inspect --data train.jsonl --model headless", &["score.weight [1, 32]"])?;
    for (model, said) in [("headless", "has no score.weight"), ("other", "value_head.weight [1, 32]")] {
        let command =
            format!("reward --data train.jsonl --model {model} --max-steps 1 --output trained-{model}");
        let output = world.command(&command)?.output()?;
        let message = crate::binary::stderr(&output);
        ensure!(output.status.success() && message.contains(said), "{message}");
        ensure!(message.matches("it is drawn from seed").count() == 1, "{message}");
        world.run(&format!("score --data test.jsonl --model trained-{model} --output scored.jsonl"))?;
    }
    Ok(())
}

/// Protects: a path without a model is refused with what it holds, and a token outside the vocabulary with
/// its row.
#[test]
fn what_is_no_model_is_named() -> Result<()> {
    let world = World::new()?;
    let (mut config, _) = Golden::open()?.base("llama")?;
    config.insert("max_position_embeddings".into(), json!(512));
    let whole = tensors(&config)?;
    let make = |name: &str| write(&world.path(name), &config, &whole);
    make("page")?;
    world.write("page/model.safetensors", "<!DOCTYPE html><title>404</title>")?;
    make("pointer")?;
    world.write("pointer/tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")?;
    make("pickled")?;
    fs::rename(world.path("pickled/model.safetensors"), world.path("pickled/pytorch_model.bin"))?;
    make("beside")?;
    world.write(
        "beside/adapter_config.json",
        r#"{"peft_type": "LORA", "base_model_name_or_path": "org/base"}"#,
    )?;
    fs::create_dir(world.path("adapter"))?;
    world.write(
        "adapter/adapter_config.json",
        r#"{"peft_type": "LORA", "base_model_name_or_path": "org/base"}"#,
    )?;
    make("multimodal")?;
    world.write("multimodal/config.json", r#"{"model_type": "qwen2_vl", "text_config": {}}"#)?;
    for (model, parts) in [
        ("/nope", &["/nope: no such folder"][..]),
        ("./runs", &["no such folder"]),
        ("test.jsonl", &["is a file; expected the folder of a model"]),
        ("page", &["model.safetensors: is a page of HTML"]),
        ("pointer", &["tokenizer.json: is a Git LFS pointer"]),
        ("pickled", &["found pytorch_model.bin", "save_pretrained"]),
        ("beside", &["PEFT adapter (LORA) beside full weights"]),
        ("multimodal", &["text part of this multimodal checkpoint", "gemma3_text", "ARCHITECTURE.md"]),
    ] {
        for verb in ["score --data test.jsonl", "reward --data train.jsonl --max-steps 1 --output no"] {
            world.refuses(&format!("{verb} --model {model}"), parts)?;
        }
    }
    world.refuses(
        "reward --data train.jsonl --max-steps 1 --output no --model adapter",
        &["is a PEFT adapter (LORA) of org/base", "pcrm merge"],
    )?;
    world.refuses("score --data test.jsonl --model adapter", &["adapter_model.safetensors: No such file"])?;
    ensure!(!world.path("no/model.safetensors").exists());

    let mut narrow = config.clone();
    narrow.insert("vocab_size".into(), json!(70));
    write(&world.path("narrow"), &narrow, &tensors(&narrow)?)?;
    for verb in [
        "score --data test.jsonl",
        "eval reward --no-report --data test.jsonl",
        "reward --data test.jsonl --max-steps 1 --output no2",
    ] {
        world.refuses(
            &format!("{verb} --model narrow"),
            &["test.jsonl:", "outside the model's vocabulary of 70"],
        )?;
    }
    Ok(())
}
