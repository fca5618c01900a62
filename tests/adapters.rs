//! LoRA adapters against PEFT: outputs, saved files, and the parameters that training changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pcrm_core::model::lora::peft::AdapterFolder;
use pcrm_core::model::{LanguageModel, Loading, LoraConfig, ModelConfig, RewardModel, Rows, weights};
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
    let mut fields = fields;
    if let Some(fields) = fields.as_object_mut() {
        fields.remove("ensure_weight_tying"); // a reward model has no head to tie
    }
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
    let (experts, whole) = (["qwen3_moe", "mixtral"], ["gemma3-multimodal", "gemma3-multimodal"]);
    let tied = json!({"r": 2, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": true});
    let all = json!({"r": 3, "lora_alpha": 7, "use_rslora": true, "target_modules": "all-linear"});
    let names = json!({"r": 2, "target_modules": ["q_proj", "gate_proj", "up_proj", "down_proj"]});
    let cases = [
        ("default", dense, json!({})),
        ("all-linear", dense, all.clone()),
        ("pattern", dense, json!({"target_modules": ".*(c_fc|up_proj|q_proj)", "lora_dropout": 0.2, "r": 2})),
        ("experts-all-linear", sparse, all),
        ("experts-names", sparse, names),
        ("experts-joined", experts, json!({"r": 3, "lora_alpha": 7, "target_modules": "all-linear"})),
        ("multimodal", whole, json!({"r": 2, "target_modules": "all-linear", "modules_to_save": ["norm"]})),
        ("tied-embedding", ["qwen2", "qwen2"], tied.clone()),
        ("tied-multimodal", whole, tied),
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
    let changed = |change: &dyn Fn(&mut Value, &mut Tensors) -> Result<()>| {
        let dir = tempfile::tempdir()?;
        altered(&golden, dir.path(), change)?;
        refused(dir.path(), &base_dir, how)
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

type Tensors = BTreeMap<String, HostTensor>;

/// Writes an adapter with other settings and tensors to another folder.
fn altered(from: &Path, to: &Path, change: &dyn Fn(&mut Value, &mut Tensors) -> Result<()>) -> Result<()> {
    let mut settings = serde_json::from_str(&fs::read_to_string(from.join("adapter_config.json"))?)?;
    let mut tensors = weights::load_file(&from.join("adapter_model.safetensors"))?;
    change(&mut settings, &mut tensors)?;
    fs::write(to.join("adapter_config.json"), settings.to_string())?;
    Ok(weights::save(&to.join("adapter_model.safetensors"), &tensors)?)
}

/// Returns the message that refuses the adapter of a language model; empty if it is loaded.
fn refused(dir: &Path, base: &Path, how: Loading<'_>) -> Result<String> {
    let loaded = LanguageModel::load_adapter(dir, Some(base), how, 0).map(drop);
    Ok(loaded.err().map(|error| error.to_string()).unwrap_or_default())
}

/// Protects: `ensure_weight_tying` is refused for new adapters where it has no effect, with the reason, and
/// beside an adapter on a tied head, which PEFT puts on the embedding too. An existing adapter may have it
/// without effect.
#[test]
fn tying_without_effect_is_refused() -> Result<()> {
    let backend = crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let how = Loading::masters(&backend, DType::F32);
    let new = |family: &str, fields: &Value| -> Result<String> {
        let dir = beside("golden/models").join(family);
        let made = LanguageModel::load_as(&dir, how)?.with_adapters(config(fields.clone())?, &dir, 0);
        Ok(made.map(drop).err().map(|error| error.to_string()).unwrap_or_default())
    };
    let both = "names lm_head together with ensure_weight_tying (--lora-ensure-weight-tying)";
    let neither = "(--lora-modules-to-save) names neither";
    // The last field is true if the same is allowed without the key.
    for (family, fields, said, is_free) in [
        ("qwen2", json!({"target_modules": ["v_proj", "lm_head"]}), both, true),
        ("qwen2", json!({"target_modules": ".*v_proj|lm_head", "modules_to_save": ["lm_head"]}), both, false),
        ("qwen2", json!({"target_modules": ["v_proj"]}), neither, true),
        ("qwen2", json!({"modules_to_save": ["norm"]}), neither, true),
        ("llama", json!({"modules_to_save": ["embed_tokens"]}), "tie_word_embeddings is false", true),
    ] {
        let mut tied = fields.clone();
        tied["ensure_weight_tying"] = json!(true);
        let found = new(family, &tied)?;
        ensure!(found.contains(said), "{family} {tied}: {found:?}");
        let found = new(family, &fields)?;
        ensure!(found.is_empty() == is_free, "{family} {fields}: {found:?}");
    }
    let dir = beside("golden/models/qwen2");
    let fields = json!({"modules_to_save": ["embed_tokens"], "ensure_weight_tying": true});
    let reward = RewardModel::load_to_train_as(&dir, how, 1)?.with_adapters(config(fields)?, &dir, 0);
    let found = reward.map(drop).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(found.contains("the model has no language-model head: leave it out"), "{found:?}");

    let tie = |settings: &mut Value, _: &mut Tensors| {
        settings["ensure_weight_tying"] = json!(true);
        Ok(())
    };
    let root = tempfile::tempdir()?;
    for (name, family, said) in [("llama-default", "llama", ""), ("qwen2-tied-head", "qwen2", both)] {
        altered(&folder(name), root.path(), &tie)?;
        let found = refused(root.path(), &beside("golden/models").join(family), how)?;
        ensure!(found.contains(said) && found.is_empty() == said.is_empty(), "{name}: {found:?}");
    }
    Ok(())
}

/// Protects: PEFT ties gpt2's `wte` only under some names in `modules_to_save`, and stores the head beside it
/// only then: an adapter without the head is refused.
#[test]
fn an_embedding_trained_apart_is_refused() -> Result<()> {
    let backend = crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let how = Loading::masters(&backend, DType::F32);
    let (root, base) = (tempfile::tempdir()?, beside("golden/models/gpt2"));
    let (tied, apart) = (root.path().join("tied"), root.path().join("apart"));
    let fields = json!({"r": 2, "modules_to_save": ["wte"], "ensure_weight_tying": true});
    LanguageModel::load_as(&base, how)?.with_adapters(config(fields)?, &base, 0)?.save(&tied)?;
    ensure!(refused(&tied, &base, how)?.is_empty());
    fs::create_dir(&apart)?;
    altered(&tied, &apart, &|_, tensors| {
        tensors.remove("base_model.model.lm_head.weight").map(drop).context("a head")
    })?;
    let found = refused(&apart, &base, how)?;
    ensure!(found.contains("has no lm_head.weight") && found.contains("merge_and_unload"), "{found:?}");
    Ok(())
}

/// Protects: PEFT may store the weight under an adapter. The base's values are accepted, also in a narrower
/// type; others, which PEFT would compute with, are refused.
#[test]
fn weights_under_adapters_are_those_of_the_base() -> Result<()> {
    let backend = crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let how = Loading::masters(&backend, DType::F32);
    let (root, base) = (tempfile::tempdir()?, beside("golden/models/qwen2"));
    let table = weights::load_file(&base.join("model.safetensors"))?.remove("model.embed_tokens.weight");
    let table = table.context("an embedding")?;
    let narrow =
        |value: f32| f32::from_bits((value.to_bits() + 0x7fff + ((value.to_bits() >> 16) & 1)) & 0xffff_0000);
    let said = "model.embed_tokens.weight: has other values than the base model's";
    let changes: [(&dyn Fn(f32) -> f32, &str); 3] =
        [(&|value| value, ""), (&narrow, ""), (&|value| value + 0.05, said)];
    for (change, said) in changes {
        let values = table.to_f32().into_iter().map(change).collect();
        let beneath = HostTensor::f32(table.shape(), values)?;
        altered(&folder("qwen2-tied-head"), root.path(), &|_, tensors| {
            tensors.insert("base_model.model.lm_head.base_layer.weight".to_owned(), beneath.clone());
            Ok(())
        })?;
        let found = refused(root.path(), &base, how)?;
        ensure!(found.contains(said) && found.is_empty() == said.is_empty(), "{found:?}");
    }
    Ok(())
}

/// Protects: layers and exclusions select what they select in PEFT: `layers_to_transform` does not concern names
/// in full and is without effect if it is empty, `layers_pattern` has regular expressions, the first of which
/// decides, and `all-linear` excludes nothing.
#[test]
fn layers_and_exclusions_are_those_of_peft() -> Result<()> {
    let backend = crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let (how, dir) = (Loading::frozen(&backend, DType::F32), beside("golden/models/llama"));
    let base = LanguageModel::load_as(&dir, how)?;
    let (first, second) = ("model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj");
    let layers = |layers: Value, pattern: Value| {
        let targets = ["q_proj"];
        json!({"target_modules": targets, "layers_to_transform": layers, "layers_pattern": pattern})
    };
    for (fields, want) in [
        (
            json!({"target_modules": ["q_proj", "lm_head"], "layers_to_transform": [0]}),
            vec!["lm_head", first],
        ),
        (
            json!({"target_modules": ["v_proj", second], "layers_to_transform": 0}),
            vec!["model.layers.0.self_attn.v_proj", second],
        ),
        (layers(json!([]), json!(null)), vec![first, second]),
        (layers(json!(null), json!([])), vec![first, second]),
        (layers(json!([1]), json!("")), vec![second]),
        (layers(json!([1]), json!("layers")), vec![second]),
        (layers(json!([0]), json!(["model.layers"])), vec![first]),
        (layers(json!([0]), json!(["h", "lay.*"])), vec![first]),
        (json!({"target_modules": ["q_proj"], "exclude_modules": "all-linear"}), vec![first, second]),
        (
            json!({"target_modules": ["embed_tokens", first], "modules_to_save": ["embed_tokens"]}),
            vec![first],
        ),
    ] {
        let model = base.with_adapters(config(fields.clone())?, &dir, 0)?.trainable();
        let trained = model.trained();
        let found: Vec<&str> =
            trained.iter().filter_map(|(name, _)| name.strip_suffix(".lora_A.weight")).collect();
        ensure!(found == want, "{fields}: {found:?}");
    }
    let fields = layers(json!(null), json!("layers"));
    let found = base.with_adapters(config(fields)?, &dir, 0).map(drop).err().map(|error| error.to_string());
    ensure!(found.as_ref().is_some_and(|found| found.contains("needs layers_to_transform")), "{found:?}");
    Ok(())
}

/// Protects: new adapters of experts that PEFT would not load, or would compute otherwise, are refused with what
/// to do instead; layers beside the experts are free.
#[test]
fn adapters_of_experts_are_those_that_peft_reads() -> Result<()> {
    let backend = crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let how = Loading::frozen(&backend, DType::F32);
    let new = |family: &str, fields: &Value| -> Result<String> {
        let dir = beside("golden/models").join(family);
        let made = LanguageModel::load_as(&dir, how)?.with_adapters(config(fields.clone())?, &dir, 0);
        Ok(made.map(drop).err().map(|error| error.to_string()).unwrap_or_default())
    };
    let only = |targets: Value| json!({"target_modules": targets});
    let and = |key: &str, value: Value| json!({"r": 4, "target_modules": "all-linear", key: value});
    for (family, fields, said) in [
        ("qwen3_moe", only(json!(["up_proj"])), "names up_proj of experts in model.layers.0; PEFT"),
        ("olmoe", only(json!(["gate_proj", "up_proj"])), "together, or of down_proj alone, in all experts"),
        ("mixtral", only(json!(["w1", "w3"])), "reads adapters of w1, w3, w2 together, or of w2 alone"),
        ("qwen3_moe", only(json!(["experts.0.down_proj"])), "in all experts of a layer"),
        ("qwen3_moe", and("lora_dropout", json!(0.1)), "lora_dropout: is 0.1; PEFT's adapters of experts"),
        ("qwen3_moe", and("use_rslora", json!(true)), "lora_alpha (--lora-alpha) to 16 for"),
        (
            "qwen3_moe",
            and("rank_pattern", json!({"up_proj": 2})),
            "rank 2; adapters of experts have the rank r, 4",
        ),
        ("mixtral", and("alpha_pattern", json!({"w2": 3})), "adapters of experts have the α lora_alpha, 8"),
        ("qwen3_moe", and("modules_to_save", json!(["experts.0.up_proj"])), "PEFT cannot load it"),
        ("qwen2_moe", and("modules_to_save", json!(["experts.0.up_proj"])), "PEFT cannot load it"),
        ("mixtral", and("modules_to_save", json!(["block_sparse_moe.gate"])), "PEFT cannot load it"),
    ] {
        let found = new(family, &fields)?;
        ensure!(found.contains(said), "{family} {fields}: {found:?}");
    }
    let free = json!({"target_modules": ["q_proj"], "use_rslora": true, "lora_dropout": 0.1});
    let last = json!({"target_modules": ["down_proj"], "use_rslora": true, "layers_to_transform": [1]});
    let attention = and("rank_pattern", json!({"q_proj": 2}));
    for fields in [free, last, attention, and("modules_to_save", json!(["mlp.gate"]))] {
        let found = new("qwen3_moe", &fields)?;
        ensure!(found.is_empty(), "{fields}: {found:?}");
    }
    // In a dense layer, PEFT drops adapters by these names.
    let dir = tempfile::tempdir()?;
    let source = beside("golden/models/qwen3_moe/config.json");
    let mut shape: serde_json::Map<String, Value> = serde_json::from_str(&fs::read_to_string(source)?)?;
    shape.insert("mlp_only_layers".to_owned(), json!([0]));
    let shape = ModelConfig::from_json(shape, dir.path())?;
    let base = LanguageModel::random_as(how, shape, 1)?;
    for (fields, said) in [
        (json!({"target_modules": "all-linear"}), "names model.layers.0.mlp.down_proj, which is no expert's"),
        (json!({"target_modules": "all-linear", "exclude_modules": ".*layers\\.0\\.mlp.*"}), ""),
    ] {
        let found = base.with_adapters(config(fields)?, dir.path(), 0).map(drop).err();
        let found = found.map(|error| error.to_string()).unwrap_or_default();
        ensure!(found.contains(said) && found.is_empty() == said.is_empty(), "{found:?}");
    }
    Ok(())
}

/// Protects: an adapter on the text part of a multimodal model names the modules of the whole model, and one
/// that names those of the text part alone is read too; heads have the names of transformers' classes.
#[test]
fn adapters_name_the_modules_of_the_bases_class() -> Result<()> {
    let backend = crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let (how, root) = (Loading::masters(&backend, DType::F32), tempfile::tempdir()?);
    let saved = |family: &str, fields: Value| -> Result<(LanguageModel, Value, Tensors)> {
        let base = beside("golden/models").join(family);
        let model = LanguageModel::load_as(&base, how)?.with_adapters(config(fields)?, &base, 0)?;
        for (name, param) in model.params().iter().filter(|(name, _)| name.ends_with("lora_B.weight")) {
            param.assign(&param.constant(&crate::support::random(&param.shape(), name.len() as u64)?)?)?;
        }
        model.save(root.path())?;
        let settings = serde_json::from_str(&fs::read_to_string(root.path().join("adapter_config.json"))?)?;
        Ok((model, settings, weights::load_file(&root.path().join("adapter_model.safetensors"))?))
    };
    for (family, head) in [("internlm2", "output"), ("gpt_neox", "lm_head"), ("llama", "lm_head")] {
        let (_, settings, tensors) = saved(family, json!({"target_modules": [head], "r": 2}))?;
        let names: Vec<&String> = tensors.keys().collect();
        let want = ["A", "B"].map(|part| format!("base_model.model.{head}.lora_{part}.weight"));
        ensure!(
            names == want.iter().collect::<Vec<_>>() && settings["target_modules"] == json!([head]),
            "{names:?}"
        );
        ensure!(refused(root.path(), &beside("golden/models").join(family), how)?.is_empty(), "{family}");
    }
    let base = beside("golden/models/gemma3-multimodal");
    let fields = json!({"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["q_norm"]});
    let (model, settings, tensors) = saved("gemma3-multimodal", fields)?;
    let prefix = "base_model.model.model.language_model.layers.";
    ensure!(tensors.keys().all(|name| name.starts_with(prefix)), "{:?}", tensors.keys());
    let listed = |key: &str| settings[key].as_array().cloned().unwrap_or_default();
    for (key, name) in [("target_modules", "q_proj"), ("modules_to_save", "q_norm")] {
        let name = format!("model.language_model.layers.1.self_attn.{name}");
        ensure!(listed(key).len() == 2 && listed(key).contains(&json!(name)), "{key}: {}", settings[key]);
    }
    let ids = [5, 9, 31, 7, 44, 12, 8];
    let want = Model::Language(model).computed(&ids)?;
    let text = tempfile::tempdir()?;
    altered(root.path(), text.path(), &|settings, tensors| {
        settings["target_modules"] = json!(["q_proj"]);
        settings["modules_to_save"] = json!(["q_norm"]);
        let renamed = |(name, tensor): (String, HostTensor)| (name.replace("language_model.", ""), tensor);
        *tensors = std::mem::take(tensors).into_iter().map(renamed).collect();
        Ok(())
    })?;
    for dir in [root.path(), text.path()] {
        let again = LanguageModel::load_adapter(dir, Some(&base), how, 0)?;
        let resaved = tempfile::tempdir()?;
        again.save(resaved.path())?;
        let stored = |dir: &Path| weights::load_file(&dir.join("adapter_model.safetensors"));
        ensure!(stored(resaved.path())? == stored(dir)?, "saving renames tensors");
        backend.check_same("multimodal", &Model::Language(again).computed(&ids)?, &want)?;
    }
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
        (
            json!({"init_lora_weights": "pissa"}),
            "changes the base; use the model that peft's merge_and_unload",
        ),
        (json!({"init_lora_weights": "mica"}), "B stays fixed in training"),
        (json!({"init_lora_weights": "zeros"}), "is \"zeros\", which is unknown"),
        (json!({"kasa_config": {}}), "kasa_config: is {}"),
        (
            json!({"alpha_pattern": {"q_proj": 4, ".*layers.1.*": 16}}),
            "\"q_proj\" (4) and \".*layers.1.*\" (16) both match model.layers.1.self_attn.q_proj",
        ),
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
    for fields in [
        json!({"alpha_pattern": {"q_proj": 4, ".*layers.1.self_attn.*": 4}}),
        json!({"alpha_pattern": {"q_proj": 4, "v_proj": 16}, "loftq_config": {}, "target_parameters": []}),
    ] {
        ensure!(refusal(fields.clone())?.is_empty(), "{fields}");
    }
    config(json!({"init_lora_weights": "Gaussian"}))?.check()?;
    let wrong =
        LanguageModel::load_adapter(&folder("llama-default"), Some(&beside("golden/models/gpt2")), how, 0);
    let wrong = wrong.map(drop).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(wrong.contains("does not fit its base model"), "{wrong:?}");
    let wrong =
        LanguageModel::load_adapter(&folder("llama-default"), Some(&beside("golden/models/llama3")), how, 0);
    let wrong = wrong.map(drop).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(wrong.contains("lora_A.weight: has shape"), "{wrong:?}");
    let reward_base = beside("golden/models/qwen2-reward");
    let wrong = refused(&folder("qwen2-tied-head"), &reward_base, how)?;
    ensure!(wrong.contains("qwen2-reward") && wrong.contains("holds a reward model"), "{wrong:?}");
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
    let joined = json!(["q_proj", "gate_proj", "up_proj", "down_proj"]);
    ensure!(has(&adapted("qwen3_moe", joined)?, "mlp.experts.0.up_proj"));
    ensure!(has(&adapted("qwen3_moe", json!(["down_proj"]))?, "mlp.experts.3.down_proj"));
    ensure!(has(&adapted("mixtral", json!("all-linear"))?, "block_sparse_moe.experts.1.w3"));
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
    for (by, said) in [(0.0, None), (0.5, Some("model.embed_tokens.weight: has other values than the base"))]
    {
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

/// Protects: an adapter knows the weights that it was trained on, also after `pcrm export`. No command applies it to
/// others in the folder of its base, and it is merged with the same ones in another folder. An adapter that does not
/// know them is applied as before. If there is no base, the error names both places that were searched.
#[test]
fn an_adapter_is_applied_to_the_weights_of_its_training() -> Result<()> {
    let world = crate::binary::World::new()?;
    let train = "reward --model base --data train.jsonl --max-steps 2 --batch 8 --learning-rate 1e-2";
    world.run(&format!("{train} --lora-r 2 --output rm"))?;
    world.run(&format!("{train} --output trained"))?;
    world.run("export rm --base-model acme/nano --output shared")?;
    let score = "score --model rm --data test.jsonl --output scored.jsonl";
    world.run(score)?;
    // The tensors of the base in another file.
    fs::create_dir(world.path("moved"))?;
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(world.path("base").join(name), world.path("moved").join(name))?;
    }
    let stored = world.path("base/model.safetensors");
    let saved = fs::read(&stored)?;
    weights::save(&world.path("moved/model.safetensors"), &weights::load_file(&stored)?)?;

    fs::copy(world.path("trained/model.safetensors"), &stored)?;
    let said = "the base model base is not the one that the adapter was trained on";
    for command in [
        score,
        "eval reward --model rm --data test.jsonl --no-report --no-cache",
        "merge rm --output merged",
        "merge rm --base base --output merged",
        "merge shared --base base --output merged",
    ] {
        world.refuses(command, &[said, "have the digest xxh3:", "restore the base"])?;
    }
    for adapter in ["rm", "shared"] {
        world.run(&format!("merge {adapter} --base moved --output from-{adapter}"))?;
    }
    ensure!(world.read("from-rm/model.safetensors")? == world.read("from-shared/model.safetensors")?);
    let known = world.read("rm/pcrm.json")?;
    let mut notes: Value = serde_json::from_slice(&known)?;
    let digest = notes.as_object_mut().and_then(|notes| notes.remove("base_weights"));
    ensure!(digest.is_some_and(|digest| digest.is_string()), "{notes}");
    world.write("rm/pcrm.json", &notes.to_string())?;
    world.run(score)?;
    notes["base_weights"] = json!(7);
    world.write("rm/pcrm.json", &notes.to_string())?;
    world.refuses(score, &["rm/pcrm.json", "base_weights is 7; expected the digest"])?;
    fs::write(world.path("rm/pcrm.json"), known)?;
    fs::write(&stored, saved)?;
    world.run(score)?;
    fs::rename(world.path("base"), world.path("away"))?;
    let tried = "base_model_name_or_path is \"base\"; expected the folder of the base model, with a config.json in it \
                 (tried base and rm/base)";
    world.refuses(score, &["rm/adapter_config.json", tried])
}
