//! LoRA adapters against PEFT: outputs, saved files, and the parameters that training changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pcrm_core::model::lora::peft::AdapterFolder;
use pcrm_core::model::{LanguageModel, Loading, LoraConfig, RewardModel, Rows, weights};
use pcrm_core::optim::{AdamW, AdamWConfig};
use pcrm_core::{Backend, DType, HostTensor, Packed};
use serde_json::{Value, json};

use crate::subject::{Subject, every_backend, every_backend_with_bf16};
use crate::support::{beside, check_norm, run_python};

/// The adapters in `golden/adapters`, made with PEFT.
const ADAPTERS: [&str; 9] = [
    "gemma3-layers",
    "gpt2-patterns",
    "gpt_neox-reward",
    "llama-default",
    "olmo2-reward",
    "phi3-fused",
    "qwen2-tied-embedding",
    "qwen2-tied-head",
    "qwen3-reward",
];

/// A language model or a reward model with adapters.
enum Model {
    Language(LanguageModel),
    Reward(RewardModel),
}

impl Model {
    fn load(dir: &Path, how: Loading<'_>) -> Result<Self> {
        Ok(match AdapterFolder::open(dir)?.is_reward()? {
            true => Self::Reward(RewardModel::load_as(dir, how)?),
            false => Self::Language(LanguageModel::load_as(dir, how)?),
        })
    }

    /// Returns the logits of all rows, or the scores after all rows.
    fn computed(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let mut packed = Packed::default();
        packed.push(ids, None)?;
        let all: Vec<usize> = (0..ids.len()).collect();
        Ok(match self {
            Self::Language(model) => model.logits(&packed, Rows::All)?.read()?.to_f32(),
            Self::Reward(model) => model.scores(&packed, &all)?.read()?.to_f32(),
        })
    }

    fn merged(&self) -> Result<Self> {
        Ok(match self {
            Self::Language(model) => Self::Language(model.merged()?),
            Self::Reward(model) => Self::Reward(model.merged()?),
        })
    }

    fn save(&self, dir: &Path) -> Result<()> {
        match self {
            Self::Language(model) => model.save(dir)?,
            Self::Reward(model) => model.save(dir)?,
        }
        Ok(())
    }

    fn reload_full(&self, backend: &Subject, dir: &Path) -> Result<Self> {
        Ok(match self {
            Self::Language(_) => Self::Language(LanguageModel::load(backend, dir, DType::F32)?),
            Self::Reward(_) => Self::Reward(RewardModel::load(backend, dir, DType::F32)?),
        })
    }
}

fn folder(name: &str) -> PathBuf {
    beside("golden/adapters").join(name)
}

/// Returns the token ids of a golden adapter and the values PEFT computed.
fn expected(name: &str) -> Result<(Vec<u32>, Vec<f32>)> {
    let mut tensors = weights::load_file(&folder(name).join("expected.safetensors"))?;
    let ids =
        tensors.remove("input_ids").context("input_ids")?.to_f32().iter().map(|id| *id as u32).collect();
    let (_, values) = tensors.pop_first().context("logits or scores")?;
    Ok((ids, values.to_f32()))
}

/// Protects: adapters saved by PEFT compute what PEFT computes: selected by name, pattern and layer, on
/// Conv1D, on a tied head, and beside modules trained in full, a tied embedding among them. This also holds for
/// merged weights, before and after saving.
#[test]
fn adapters_of_peft_compute_the_same_alone_and_merged() -> Result<()> {
    every_backend(|backend| {
        for name in ADAPTERS {
            let (ids, want) = expected(name)?;
            for how in [Loading::masters(backend, DType::F32), Loading::frozen(backend, DType::F32)] {
                let model = Model::load(&folder(name), how).with_context(|| name.to_owned())?;
                backend.check_close(name, &model.computed(&ids)?, &want, 1e-5)?;
                let merged = model.merged()?;
                backend.check_close(name, &merged.computed(&ids)?, &want, 1e-5)?;
                let dir = tempfile::tempdir()?;
                merged.save(dir.path())?;
                let again = model.reload_full(backend, dir.path())?;
                backend.check_same(name, &again.computed(&ids)?, &merged.computed(&ids)?)?;
            }
        }
        Ok(())
    })
}

/// Protects: saving a loaded adapter reproduces its tensors and settings, and loading it again gives the same
/// bits.
#[test]
fn adapters_are_saved_as_peft_saves_them() -> Result<()> {
    every_backend(|backend| {
        for name in ADAPTERS {
            let how = Loading::masters(backend, DType::F32);
            let model = Model::load(&folder(name), how)?;
            let dir = tempfile::tempdir()?;
            model.save(dir.path())?;
            let tensors = |dir: &Path| weights::load_file(&dir.join("adapter_model.safetensors"));
            ensure!(tensors(dir.path())? == tensors(&folder(name))?, "{name}: the tensors differ");
            let read = |dir: &Path| -> Result<BTreeMap<String, Value>> {
                Ok(serde_json::from_str(&fs::read_to_string(dir.join("adapter_config.json"))?)?)
            };
            let (ours, theirs) = (read(dir.path())?, read(&folder(name))?);
            ensure!(ours.keys().eq(theirs.keys()), "{name}: {:?}", ours.keys());
            for (key, value) in &ours {
                let differs =
                    ["base_model_name_or_path", "target_modules", "exclude_modules"].contains(&key.as_str());
                let sets = key == "modules_to_save";
                ensure!(
                    differs || sets || *value == theirs[key],
                    "{name}: {key}: found {value}, expected {}",
                    theirs[key]
                );
            }
            let again = Model::load(dir.path(), how)?;
            let (ids, _) = expected(name)?;
            backend.check_same(name, &again.computed(&ids)?, &model.computed(&ids)?)?;
        }
        Ok(())
    })
}

fn config(fields: Value) -> Result<LoraConfig> {
    Ok(serde_json::from_value(fields)?)
}

/// Trains a language model and a reward model of these bases with new adapters for three steps.
fn trained(backend: &Subject, bases: [&str; 2], fields: Value) -> Result<(LanguageModel, RewardModel)> {
    let [base, reward] = bases.map(|name| beside("golden/models").join(name));
    let how = Loading::frozen(backend, DType::F32);
    let language = LanguageModel::load_as(&base, how)?.with_adapters(config(fields.clone())?, &base, 5)?;
    let base = reward;
    let reward = RewardModel::load_to_train_as(&base, how, 5)?.with_adapters(config(fields)?, &base, 5)?;
    let (language, reward) = (language.trainable(), reward.trainable());
    let ids = [5, 9, 31, 7, 44, 12, 8];
    let mut packed = Packed::default();
    packed.push(&ids, None)?;
    let rows: Vec<usize> = (0..ids.len() - 1).collect();
    let mut one = AdamW::new(AdamWConfig::default(), &language.trained())?;
    let mut two = AdamW::new(AdamWConfig::default(), &reward.trained())?;
    for step in 0..3 {
        let loss = language.at_step(step).log_probs(&packed, &rows, &ids[1..])?.sum_all()?.neg()?;
        one.step(&backend.backward(&loss, &language.trained())?, 0.05, 1.0)?;
        let loss = reward.at_step(step).scores(&packed, &[6])?.sum_all()?.neg()?;
        two.step(&backend.backward(&loss, &reward.trained())?, 0.05, 1.0)?;
    }
    Ok((language.detached(), reward.detached()))
}

/// Protects: `peft` loads adapters trained here and computes the same values; `transformers` loads the merged
/// models.
#[test]
fn peft_loads_what_is_saved() -> Result<()> {
    let backend = crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let root = tempfile::tempdir()?;
    let ids: Vec<u32> = vec![5, 9, 31, 7, 44, 12, 8, 33];
    let (dense, sparse) = (["gpt2", "qwen2"], ["qwen2_moe", "qwen2_moe"]);
    let tied = json!({"r": 2, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": true});
    let all = json!({"r": 3, "lora_alpha": 7, "use_rslora": true, "target_modules": "all-linear"});
    let names = json!({"r": 2, "target_modules": ["q_proj", "gate_proj", "up_proj", "down_proj"]});
    let cases = [
        ("default", dense, json!({})),
        ("all-linear", dense, all.clone()),
        ("pattern", dense, json!({"target_modules": ".*(c_fc|up_proj|q_proj)", "lora_dropout": 0.2, "r": 2})),
        ("experts-all-linear", sparse, all),
        ("experts-names", sparse, names),
        ("tied-embedding", ["qwen2", "qwen2"], tied),
    ];
    for (name, bases, fields) in cases {
        let (language, reward) = trained(&backend, bases, fields)?;
        for (sort, model) in [("language", Model::Language(language)), ("reward", Model::Reward(reward))] {
            let dir = root.path().join(format!("{name}-{sort}"));
            model.save(&dir.join("adapter"))?;
            model.merged()?.save(&dir.join("merged"))?;
            let values = HostTensor::vector(model.computed(&ids)?);
            let values = match sort {
                "language" => HostTensor::f32([ids.len(), values.len() / ids.len()], values.into_f32())?,
                _ => values,
            };
            let expected = BTreeMap::from([
                ("input_ids".to_owned(), HostTensor::indices(ids.clone())),
                ("values".to_owned(), values),
            ]);
            weights::save(&dir.join("expected.safetensors"), &expected)?;
        }
    }
    run_python("golden/adapters/check_saved.py", &[root.path().as_os_str()])?;
    Ok(())
}

/// Protects: new adapters change nothing; training changes only the adapters; the base keeps its weights and
/// has no gradients, moments or masters; a checkpoint holds the adapters and restores them.
#[test]
fn training_changes_adapters_alone() -> Result<()> {
    every_backend(|backend| {
        let base_dir = beside("golden/models/llama");
        let base = LanguageModel::load_as(&base_dir, Loading::frozen(backend, DType::F32))?;
        let fields = json!({"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "down_proj"]});
        let model = base.with_adapters(config(fields)?, &base_dir, 3)?.trainable();
        let ids = [5, 9, 31, 7, 44, 12, 8];
        let mut packed = Packed::default();
        packed.push(&ids, None)?;
        let logits = |model: &LanguageModel| -> Result<Vec<f32>> {
            Ok(model.logits(&packed, Rows::All)?.read()?.to_f32())
        };
        let before = logits(&base)?;
        ensure!(logits(&model)? == before, "B does not start at zero");
        let names: Vec<String> = model.trained().iter().map(|(name, _)| name.to_owned()).collect();
        ensure!(names.len() == 8 && names.iter().all(|name| name.contains(".lora_")), "{names:?}");
        let mut optimiser = AdamW::new(AdamWConfig::default(), &model.trained())?;
        ensure!(optimiser.state()?.len() == 16);
        let rows: Vec<usize> = (0..6).collect();
        for _ in 0..2 {
            let loss = model.log_probs(&packed, &rows, &ids[1..])?.sum_all()?.neg()?;
            optimiser.step(&backend.backward(&loss, &model.trained())?, 0.05, 1.0)?;
        }
        let after = logits(&model)?;
        ensure!(after != before && logits(&base)? == before);
        ensure!(
            logits(&model.without_adapters()?)? == before,
            "the model without adapters differs from the base"
        );
        let kept = model.tensors()?;
        ensure!(kept.keys().cloned().collect::<Vec<_>>() == names);
        let fields = json!({"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "down_proj"]});
        let fresh = base.with_adapters(config(fields)?, &base_dir, 3)?;
        fresh.restore(kept)?;
        ensure!(logits(&fresh)? == after, "the checkpoint does not restore the adapters");
        Ok(())
    })
}

/// Protects: on a base held only in bf16, adapters are trained in f32; their gradients are near those on an
/// f32 base, and the model is near its merged one.
#[test]
fn adapters_are_trained_on_a_base_in_bf16() -> Result<()> {
    every_backend_with_bf16(|backend| {
        let base_dir = beside("golden/models/qwen2");
        let ids = [5, 9, 31, 7, 44, 12, 8];
        let mut packed = Packed::default();
        packed.push(&ids, None)?;
        let rows: Vec<usize> = (0..6).collect();
        let trained = |dtype: DType| -> Result<[Vec<f32>; 2]> {
            let base = LanguageModel::load_as(&base_dir, Loading::frozen(backend, dtype))?;
            let fields = json!({"target_modules": "all-linear", "lora_dropout": 0.2});
            let model = base.with_adapters(config(fields)?, &base_dir, 3)?.trainable();
            for (name, param) in model.params().iter() {
                let adapter = name.contains(".lora_");
                let held = if adapter || param.shape().len() < 2 { DType::F32 } else { dtype };
                ensure!(param.dtype() == held, "{name} has type {}", param.dtype());
                if name.ends_with("lora_B.weight") {
                    let small = crate::support::random(&param.shape(), name.len() as u64)?;
                    param.assign(&param.constant(&small)?.affine(0.01, 0.0)?)?;
                }
            }
            let loss = model.log_probs(&packed, &rows, &ids[1..])?.sum_all()?.neg()?;
            let gradients = backend.backward(&loss, &model.trained())?;
            let mut all = Vec::new();
            for (_, gradient) in gradients.iter() {
                all.extend(gradient.read()?.to_f32());
            }
            let logits = model.detached().logits(&packed, Rows::All)?.read()?.to_f32();
            let merged = model.detached().merged()?.logits(&packed, Rows::All)?.read()?.to_f32();
            // Each is near the exact logits, so they are near each other.
            check_norm("merged", &merged, &logits, 5e-2)?;
            Ok([all, logits])
        };
        let ([got, logits], [want, exact]) = (trained(DType::BF16)?, trained(DType::F32)?);
        // The weights of this model are large: rounding them to bf16 alone changes gradients by a few
        // percent.
        check_norm("gradients of adapters", &got, &want, 0.1)?;
        check_norm("logits", &logits, &exact, 3e-2)
    })
}

/// Protects: dropout masks change with the step and do not depend on the batch; detached models have none;
/// gradients at one step repeat bit by bit.
#[test]
fn dropout_is_drawn_by_step() -> Result<()> {
    every_backend(|backend| {
        let base_dir = beside("golden/models/qwen2");
        let base = RewardModel::load_to_train_as(&base_dir, Loading::frozen(backend, DType::F32), 1)?;
        let fields = json!({"lora_dropout": 0.5, "target_modules": "all-linear"});
        let model = base.with_adapters(config(fields)?, &base_dir, 3)?.trainable();
        let mut packed = Packed::default();
        let root = packed.push(&[5, 9, 31], None)?;
        packed.push(&[7, 44], Some(root))?;
        packed.push(&[12], Some(root))?;
        let gradients = |step: u64| -> Result<Vec<f32>> {
            let loss = model.at_step(step).scores(&packed, &[4, 5])?.sum_all()?;
            let mut all = Vec::new();
            for (_, gradient) in backend.backward(&loss, &model.trained())?.iter() {
                all.extend(gradient.read()?.to_f32());
            }
            Ok(all)
        };
        backend.check_same("the same step", &gradients(1)?, &gradients(1)?)?;
        ensure!(gradients(1)? != gradients(2)?, "steps 1 and 2 have the same masks");
        // B is zero, so only gradients show the masks. Nonzero values make scores show them too.
        for (name, param) in model.params().iter().filter(|(name, _)| name.ends_with("lora_B.weight")) {
            param.assign(&param.constant(&crate::support::random(&param.shape(), name.len() as u64)?)?)?;
        }
        let scores = |model: &RewardModel| -> Result<Vec<f32>> {
            Ok(model.scores(&packed, &[4, 5])?.read()?.to_f32())
        };
        ensure!(scores(&model.at_step(1))? != scores(&model.at_step(2))?);
        ensure!(scores(&model.at_step(1).detached())? == scores(&model.at_step(2).detached())?);
        let mut alone = Packed::default();
        alone.push(&[5, 9, 31, 12], None)?;
        let single = model.at_step(1).scores(&alone, &[3])?.read()?.to_f32();
        backend.check_same("a row alone", &single, &scores(&model.at_step(1))?[1..])
    })
}

/// Protects: a matrix that is embedding and head is trained as one with `ensure_weight_tying`. A new adapter
/// without it is refused with the option, and one that PEFT trained is not: setting the key would change it.
#[test]
fn a_tied_embedding_is_trained_as_one() -> Result<()> {
    let backend = crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let (how, base_dir) = (Loading::masters(&backend, DType::F32), beside("golden/models/qwen2"));
    let base = LanguageModel::load_as(&base_dir, how)?;
    for module in ["embed_tokens", "lm_head"] {
        let fields = json!({"r": 2, "modules_to_save": [module]});
        let said = base.with_adapters(config(fields)?, &base_dir, 0).map(drop);
        let said = said.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(said.contains("ensure_weight_tying (--lora-ensure-weight-tying)"), "{module}: {said:?}");
        let fields = json!({"r": 2, "modules_to_save": [module], "ensure_weight_tying": true});
        let model = base.with_adapters(config(fields)?, &base_dir, 0)?.trainable();
        let whole = |(name, _): &(&str, &pcrm_core::Tensor)| !name.contains(".lora_");
        let trained = model.trained();
        let names: Vec<&str> = trained.iter().filter(whole).map(|(name, _)| name).collect();
        ensure!(names == ["model.embed_tokens.weight"], "{module}: {names:?}");
        let dir = tempfile::tempdir()?;
        model.save(dir.path())?;
        model.restore_from(dir.path())?;
    }
    let golden = folder("qwen2-tied-embedding");
    type Tensors = BTreeMap<String, HostTensor>;
    let changed = |change: &dyn Fn(&mut Value, &mut Tensors) -> Result<()>| {
        let dir = tempfile::tempdir()?;
        let mut settings = serde_json::from_str(&fs::read_to_string(golden.join("adapter_config.json"))?)?;
        let mut tensors = weights::load_file(&golden.join("adapter_model.safetensors"))?;
        change(&mut settings, &mut tensors)?;
        fs::write(dir.path().join("adapter_config.json"), settings.to_string())?;
        weights::save(&dir.path().join("adapter_model.safetensors"), &tensors)?;
        let loaded = LanguageModel::load_adapter(dir.path(), Some(&base_dir), how, 0).map(drop);
        anyhow::Ok(loaded.err().map(|error| error.to_string()).unwrap_or_default())
    };
    let said = changed(&|settings, _| {
        settings["ensure_weight_tying"] = json!(false);
        Ok(())
    })?;
    ensure!(said.contains("merge_and_unload, which unties them") && !said.contains("--lora"), "{said:?}");
    let said = changed(&|_, tensors| {
        let head = tensors.get_mut("base_model.model.lm_head.weight").context("lm_head")?;
        *head = HostTensor::f32(head.shape(), vec![0.5; head.shape().iter().product()])?;
        Ok(())
    })?;
    ensure!(said.contains("lm_head.weight: differs from model.embed_tokens.weight"), "{said:?}");
    ensure!(changed(&|_, _| Ok(()))?.is_empty());
    Ok(())
}

/// Protects: adapters that do not fit and unsupported configurations are refused by name.
#[test]
fn adapters_that_do_not_fit_are_refused() -> Result<()> {
    let backend = crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let how = Loading::masters(&backend, DType::F32);
    let base_dir = beside("golden/models/llama");
    let base = LanguageModel::load_as(&base_dir, how)?;
    let refusal = |fields: Value| -> Result<String> {
        let made = base.with_adapters(config(fields)?, &base_dir, 0);
        Ok(made.map(drop).err().map(|error| error.to_string()).unwrap_or_default())
    };
    for (fields, said) in [
        (
            json!({"target_modules": ["c_attn"]}),
            "matches no linear layer of the model; it has model.layers.0.self_attn.q_proj",
        ),
        (json!({"target_modules": ["embed_tokens", "q_proj"]}), "model.embed_tokens, an embedding"),
        (json!({"target_modules": "("}), "is not a regular expression"),
        (json!({"use_dora": true}), "use_dora: is true: weight-decomposed adapters (DoRA) are not supported"),
        (json!({"bias": "all"}), "only \"none\" is supported"),
        (json!({"r": 0}), "r: is 0"),
        (json!({"lora_dropout": 1.0}), "lora_dropout: is 1"),
        (json!({"init_lora_weights": "pissa"}), "changes the base"),
        (json!({"modules_to_save": ["classifer"]}), "\"classifer\" is not a module of the model"),
        (json!({"rank_pattern": {"q_proj": 2.5}}), "rank_pattern.q_proj: is 2.5"),
        (
            json!({"target_modules": ["lm_head"], "lora_dropout": 0.1}),
            "names lm_head together with lora_dropout",
        ),
    ] {
        let found = refusal(fields.clone())?;
        ensure!(found.contains(said), "{fields}: {found:?}");
    }
    let wrong =
        LanguageModel::load_adapter(&folder("llama-default"), Some(&beside("golden/models/gpt2")), how, 0);
    let wrong = wrong.map(drop).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(wrong.contains("does not fit its base model"), "{wrong:?}");
    let wrong =
        LanguageModel::load_adapter(&folder("llama-default"), Some(&beside("golden/models/llama3")), how, 0);
    let wrong = wrong.map(drop).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(wrong.contains("lora_A.weight: has shape"), "{wrong:?}");
    let reward = LanguageModel::load_as(&folder("qwen3-reward"), how).map(drop);
    ensure!(reward.is_err_and(|error| error.to_string().contains("the adapter of a reward model")));
    Ok(())
}

/// Protects: in qwen2_moe, whose experts' adapters PEFT ignores, names and all-linear adapt the shared expert
/// with its gate and no routed expert; experts named alone and routers are refused as such. In qwen3_moe experts
/// have adapters.
#[test]
fn experts_have_adapters_where_peft_has_them() -> Result<()> {
    let backend = crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let how = Loading::frozen(&backend, DType::F32);
    let adapted = |family: &str, targets: Value| -> Result<Vec<String>> {
        let dir = beside("golden/models").join(family);
        let fields = json!({"target_modules": targets});
        let model = LanguageModel::load_as(&dir, how)?.with_adapters(config(fields)?, &dir, 0)?;
        Ok(model.trainable().trained().iter().map(|(name, _)| name.to_owned()).collect())
    };
    let has = |names: &[String], part: &str| names.iter().any(|name| name.contains(part));
    let all = adapted("qwen2_moe", json!("all-linear"))?;
    ensure!(has(&all, "mlp.shared_expert_gate.lora_A") && has(&all, "mlp.shared_expert.up_proj"), "{all:?}");
    let named = adapted("qwen2_moe", json!(["q_proj", "up_proj"]))?;
    ensure!(has(&named, "mlp.shared_expert.up_proj") && has(&named, "q_proj"), "{named:?}");
    for names in [&all, &named] {
        ensure!(!has(names, "mlp.experts."), "{names:?}");
    }
    ensure!(has(&adapted("qwen3_moe", json!(["up_proj"]))?, "mlp.experts.0.up_proj"));
    for (targets, said) in [
        (json!(["q_proj", "experts.0.up_proj"]), "an expert, but no other linear layer"),
        (json!(".*experts\\.\\d+\\.up_proj"), "cannot have adapters"),
        (json!(["q_proj", "mlp.gate"]), "mlp.gate, a router"),
    ] {
        let error = adapted("qwen2_moe", targets.clone()).err().map(|error| error.to_string());
        ensure!(error.as_ref().is_some_and(|error| error.contains(said)), "{targets}: {error:?}");
    }
    Ok(())
}

/// Protects: `pcrm merge` writes a full model with the base's tokenizer and the adapter's scores. It refuses
/// folders without an adapter, and an output folder that holds a model.
#[test]
fn merging_makes_a_full_model() -> Result<()> {
    let backend = crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let world = crate::binary::World::new()?;
    let base = RewardModel::load(&backend, &world.path("base"), DType::F32)?;
    let model = base.with_adapters(config(json!({"target_modules": "all-linear"}))?, Path::new("base"), 3)?;
    for (name, param) in model.params().iter().filter(|(name, _)| name.ends_with("lora_B.weight")) {
        param.assign(&param.constant(&crate::support::random(&param.shape(), name.len() as u64)?)?)?;
    }
    model.save(&world.path("adapter"))?;
    world.run("merge adapter --output merged")?;
    let merged = Model::Reward(RewardModel::load(&backend, &world.path("merged"), DType::F32)?);
    let ids = [5, 9, 31, 7, 44, 12, 8];
    let want = Model::Reward(model).computed(&ids)?;
    backend.check_close("merged", &merged.computed(&ids)?, &want, 1e-5)?;
    ensure!(want != Model::Reward(base).computed(&ids)?, "the adapter does nothing");
    ensure!(world.read("merged/tokenizer.json")? == world.read("base/tokenizer.json")?);
    world.run("merge adapter --base base --output again")?;
    ensure!(world.read("again/model.safetensors")? == world.read("merged/model.safetensors")?);
    // The adapter's own tokenizer comes with its named chat templates.
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        std::fs::copy(world.path("base").join(name), world.path("adapter").join(name))?;
    }
    std::fs::create_dir(world.path("adapter/additional_chat_templates"))?;
    world.write("adapter/additional_chat_templates/rag.jinja", "{{ documents }}")?;
    world.run("merge adapter --output own")?;
    ensure!(world.read("own/tokenizer.json")? == world.read("base/tokenizer.json")?);
    ensure!(world.read("own/additional_chat_templates/rag.jinja")? == b"{{ documents }}");
    world.refuses("merge adapter --data-revision v2 --output other", &["unexpected", "--data-revision"])?;
    world.run("score --model merged --data test.jsonl --output scored.jsonl")?;
    // The adapter is scored itself, and its evaluation does not use the base model's cached scores.
    world.run("score --model adapter --data test.jsonl --output by-adapter.jsonl")?;
    for (merged, alone) in world.lines("scored.jsonl")?.iter().zip(&world.lines("by-adapter.jsonl")?) {
        let score = |line: &Value| line["chosen_score"].as_f64().context("no chosen_score");
        let (merged, alone) = (score(merged)?, score(alone)?);
        ensure!((merged - alone).abs() < 1e-4, "merged {merged}, adapter {alone}");
    }
    world.run("eval reward --model adapter --data test.jsonl")?;
    // PEFT stores embeddings that may have changed: equal ones are the base's, others are not left out.
    let (stored, name) = (world.path("adapter/adapter_model.safetensors"), "model.embed_tokens.weight");
    let mut tensors = weights::load_file(&stored)?;
    let embedding = weights::load_file(&world.path("base/model.safetensors"))?.remove(name).context(name)?;
    for (by, said) in [(0.0, None), (0.5, Some("model.embed_tokens.weight has other values than the base"))] {
        let values = embedding.clone().into_f32().into_iter().map(|value| value + by).collect();
        let changed = HostTensor::f32(embedding.shape().to_vec(), values)?;
        tensors.insert(format!("base_model.model.{name}"), changed);
        weights::save(&stored, &tensors)?;
        match said {
            None => drop(world.run("merge adapter --output equal")?),
            Some(said) => world.refuses("merge adapter --output other", &[said, "merge_and_unload"])?,
        }
    }
    ensure!(world.read("equal/model.safetensors")? == world.read("merged/model.safetensors")?);
    world.refuses("merge base --output other", &["base: has no adapter_config.json"])?;
    world.refuses("merge adapter --output merged", &["--output merged: already holds a model"])?;
    world.refuses("merge adapter --base nowhere --output other", &["--base nowhere", "no such folder"])?;
    world.refuses("reward --model adapter --data test.jsonl --output x", &["is a PEFT adapter", "pcrm merge"])
}
