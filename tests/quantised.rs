//! Quantised bases: values, logits and gradients against bitsandbytes, batches, runs, files, refusals.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use pcrm_core::kernels::{Coded, Composed, Kernels};
use pcrm_core::model::{LanguageModel, Loading, LoraConfig, RewardModel, Rows, weights};
use pcrm_core::quant::{CodedMatrix, HostMatrix, Quantisation, Scales};
use pcrm_core::{Backend, DType, HostData, HostTensor, Packed};
use serde_json::{Value, json};

use crate::binary::{World, stderr};
use crate::subject::every_backend;
use crate::support::{beside, random, run_python};

const METHODS: [Quantisation; 3] = [Quantisation::Nf4, Quantisation::Nf4Double, Quantisation::Int8];

/// Checkpoints that transformers quantised, with the float model that they were made of.
const CHECKPOINTS: [(&str, &str, Quantisation); 5] = [
    ("llama-nf4", "llama", Quantisation::Nf4),
    ("llama-int8", "llama", Quantisation::Int8),
    ("qwen2-nf4-double", "qwen2", Quantisation::Nf4Double),
    ("gpt2-nf4", "gpt2", Quantisation::Nf4),
    ("gpt2-int8", "gpt2", Quantisation::Int8),
];

fn golden(name: &str) -> PathBuf {
    beside("golden/quantised").join(name)
}

/// The matrices of `values.safetensors`.
struct Matrices(BTreeMap<String, HostTensor>);

impl Matrices {
    fn open() -> Result<Self> {
        Ok(Self(weights::load_file(&golden("values.safetensors"))?))
    }

    fn get(&self, name: String) -> Result<&HostTensor> {
        self.0.get(&name).with_context(|| name.clone())
    }

    fn floats(&self, name: String) -> Result<Vec<f32>> {
        Ok(self.get(name)?.to_f32())
    }

    fn bytes(&self, name: String) -> Result<Vec<u8>> {
        match self.get(name.clone())?.data() {
            HostData::U8(bytes) => Ok(bytes.clone()),
            other => anyhow::bail!("{name}: {other:?}"),
        }
    }
}

/// Fails unless numbers agree to this share of the larger of both.
fn check_near(what: &str, got: &[f32], want: &[f32], share: f32) -> Result<()> {
    ensure!(got.len() == want.len(), "{what}: {} numbers, expected {}", got.len(), want.len());
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let most = got.abs().max(want.abs());
        ensure!((got - want).abs() <= share * most, "{what}: {got} at {at}, expected {want}");
    }
    Ok(())
}

/// Protects: codes, scales and dequantised values are those of bitsandbytes: whole and partial blocks, an odd
/// number of elements, several blocks of nested scales, a row of zeros. nf4 agrees to the bit; the offset of
/// nested scales is a mean, whose order of sums differs, and int8 divides by 127 where bitsandbytes multiplies.
#[test]
fn values_are_those_of_bitsandbytes() -> Result<()> {
    const ULPS: f32 = 3e-7;
    let golden = Matrices::open()?;
    for name in ["whole", "partial", "odd", "large"] {
        let weight = golden.get(format!("{name}.weight"))?;
        for method in METHODS {
            let part = |part: &str| format!("{name}.{method}.{part}");
            let matrix = method.quantise(weight)?;
            ensure!(matrix.codes == golden.bytes(part("codes"))?, "{name} {method}: the codes differ");
            let exact = match &matrix.scales {
                Scales::Plain(scales) => {
                    ensure!(*scales == golden.floats(part("absmax"))?, "{name} {method}: the scales differ");
                    if method == Quantisation::Int8 { ULPS } else { 0.0 }
                }
                Scales::Nested(nested) => {
                    // The code of 0/0 differs; its value is 0.
                    let is_zero = nested.scales == [0.0];
                    let codes = golden.bytes(part("absmax"))?;
                    ensure!(is_zero || nested.codes == codes, "{name}: the scales' codes differ");
                    check_near(name, &[nested.offset], &golden.floats(part("offset"))?, ULPS)?;
                    check_near(name, &nested.scales, &golden.floats(part("nested_absmax"))?, 1e-5)?;
                    1e-6
                }
            };
            let want = golden.floats(part("dense"))?;
            check_near(&format!("{name} {method}"), &matrix.decoded()?, &want, exact)?;
        }
    }
    Ok(())
}

fn upload(backend: &dyn Backend, host: HostMatrix) -> Result<CodedMatrix> {
    Ok(CodedMatrix::new(host, |host| backend.upload(host, host.dtype()))?)
}

/// Protects: each backend decodes to the bits of the host, by its own kernel and by the composed reference, and
/// its gradient of a linear layer's input is that of the reference.
#[test]
fn decoding_is_that_of_the_composed_reference() -> Result<()> {
    let golden = Matrices::open()?;
    every_backend(|backend| {
        for name in ["whole", "partial", "odd", "large"] {
            let weight = golden.get(format!("{name}.weight"))?;
            for method in METHODS {
                let host = method.quantise(weight)?;
                let want = host.decoded()?;
                let matrix = upload(backend, host.clone())?;
                backend.check_same(name, &matrix.dense(DType::F32)?.read()?.to_f32(), &want)?;
                let put = |host: HostTensor| backend.upload(&host, host.dtype());
                let scales = match &host.scales {
                    Scales::Plain(scales) => scales.clone(),
                    Scales::Nested(nested) => nested.decoded()?,
                };
                let each = host.table.len() / 256;
                let (codes, scales) = (put(HostTensor::bytes(host.codes))?, put(HostTensor::vector(scales))?);
                let table = put(HostTensor::f32([256, each], host.table)?)?;
                let coded = Coded {
                    codes: &codes,
                    table: &table,
                    scales: &scales,
                    block: host.block,
                    len: want.len(),
                };
                backend.check_same(name, &Composed.dequantise(&coded)?.read()?.to_f32(), &want)?;
                let short = Coded { len: want.len() + 64, ..coded };
                ensure!(codes.kernels().dequantise(&short).is_err(), "codes that are too few are refused");
                let shape = matrix.shape();
                let x = put(random(&[9, shape[1]], 7)?)?.variable();
                let slope = put(random(&[9, shape[0]], 8)?)?;
                let y = matrix.linear(&x, None)?;
                let dense = matrix.dense(DType::F32)?;
                backend.check_close(
                    name,
                    &y.read()?.to_f32(),
                    &Composed.linear(&x, &dense, None)?.read()?.to_f32(),
                    2e-6,
                )?;
                let found = pcrm_core::Tensor::pull(&[(&y, &slope)], &[&x])?;
                let found = found.into_iter().flatten().next().context("no gradient")?.read()?.to_f32();
                let want = Composed.linear_input(&slope, &dense)?.read()?.to_f32();
                backend.check_close(name, &found, &want, 2e-6)?;
            }
        }
        Ok(())
    })
}

fn logits(model: &LanguageModel, ids: &[u32]) -> Result<Vec<f32>> {
    let mut packed = Packed::default();
    packed.push(ids, None)?;
    Ok(model.logits(&packed, Rows::All)?.read()?.to_f32())
}

/// Protects: a checkpoint that transformers and bitsandbytes quantised has the logits, with an adapter too, and
/// the adapter's gradients, of transformers in float64 with dequantised weights; and quantising the float
/// checkpoint on loading gives the same model.
#[test]
fn logits_and_gradients_are_those_of_transformers() -> Result<()> {
    every_backend(|backend| {
        for (name, of, method) in CHECKPOINTS {
            let mut expected = weights::load_file(&golden(name).join("expected.safetensors"))?;
            let ids = expected.remove("input_ids").context("input_ids")?.to_f32();
            let ids: Vec<u32> = ids.iter().map(|id| *id as u32).collect();
            let mut take =
                |name: &str| Ok::<_, anyhow::Error>(expected.remove(name).context("missing")?.to_f32());
            let (want, adapted) = (take("logits")?, take("adapted")?);
            let how = Loading::frozen(backend, DType::F32);
            let read = LanguageModel::load_as(&golden(name), how)?;
            let found = read.params().iter_quantised().map(|(_, matrix)| matrix.method()).next();
            ensure!(found == Some(method), "{name}: {found:?}");
            let got = logits(&read, &ids)?;
            backend.check_close(name, &got, &want, 1e-5)?;
            let made =
                LanguageModel::load_as(&beside("golden/models").join(of), how.quantised(Some(method)))?;
            match method {
                // bitsandbytes looks codes of scales up in a table on CPUs: a scale that is nearly half-way between
                // two codes may get the other one.
                Quantisation::Nf4Double => backend.check_norm(name, &logits(&made, &ids)?, &got, 5e-3)?,
                _ => backend.check_same(name, &logits(&made, &ids)?, &got)?,
            }
            let adapter = golden(name).join("adapter");
            let model = LanguageModel::load_adapter(&adapter, Some(&golden(name)), how, 0)?.trainable();
            backend.check_close(name, &logits(&model, &ids)?, &adapted, 1e-5)?;
            let mut packed = Packed::default();
            packed.push(&ids, None)?;
            let rows: Vec<usize> = (0..ids.len() - 1).collect();
            let sum = model.log_probs(&packed, &rows, &ids[1..])?.sum_all()?;
            let gradients = backend.backward(&sum, &model.trained())?;
            ensure!(gradients.iter().count() == expected.len(), "{name}: {} gradients", expected.len());
            for (parameter, gradient) in gradients.iter() {
                let want = expected.get(&format!("gradient.{parameter}")).context(parameter.to_owned())?;
                backend.check_norm(parameter, &gradient.read()?.to_f32(), &want.to_f32(), 2e-5)?;
            }
        }
        Ok(())
    })
}

fn tiny(how: Loading<'_>) -> Result<RewardModel> {
    let base = beside("golden/models/qwen2");
    let fields = json!({"r": 2, "target_modules": "all-linear"});
    let config: LoraConfig = serde_json::from_value(fields)?;
    let model = RewardModel::load_to_train_as(&base, how, 3)?.with_adapters(config, &base, 3)?;
    for (name, param) in model.params().iter().filter(|(name, _)| name.ends_with("lora_B.weight")) {
        param.assign(&param.constant(&random(&param.shape(), name.len() as u64)?)?)?;
    }
    Ok(model)
}

/// Protects: a sequence's score has the same bits alone and in any batch, and gradient checkpointing gives the
/// same gradients.
#[test]
fn scores_do_not_depend_on_the_batch() -> Result<()> {
    use pcrm_core::model::Checkpointing;
    every_backend(|backend| {
        for method in METHODS {
            let model = tiny(Loading::frozen(backend, DType::F32).quantised(Some(method)))?;
            let texts: Vec<Vec<u32>> =
                (1..30).map(|n| (0..n).map(|at| 3 + (at * 7 + n) % 60).collect()).collect();
            let mut all = Packed::default();
            let mut rows = Vec::new();
            for text in &texts {
                all.push(text, None)?;
                rows.push(all.ids.len() - 1);
            }
            let together = model.scores(&all, &rows)?.read()?.to_f32();
            for (text, want) in texts.iter().zip(&together) {
                let mut one = Packed::default();
                one.push(text, None)?;
                let alone = model.scores(&one, &[text.len() - 1])?.read()?.to_f32();
                backend.check_same("alone", &alone, &[*want])?;
            }
            let gradients = |model: RewardModel| -> Result<Vec<f32>> {
                let model = model.trainable();
                let sum = model.scores(&all, &rows)?.sum_all()?;
                let mut values = Vec::new();
                for (_, gradient) in backend.backward(&sum, &model.trained())?.iter() {
                    values.extend(gradient.read()?.to_f32());
                }
                Ok(values)
            };
            let want = gradients(model.clone())?;
            backend.check_same("recomputed", &gradients(model.checkpointing(Checkpointing::Root))?, &want)?;
        }
        Ok(())
    })
}

/// Protects: the model in bf16 stays near the one in f32; a snapshot and a merged model are those of the
/// quantised weights; quantised weights cannot be trained in full; a module to save cannot be quantised.
#[test]
fn models_over_quantised_weights_behave_like_others() -> Result<()> {
    every_backend(|backend| {
        let how = Loading::frozen(backend, DType::F32);
        for method in METHODS {
            let model = tiny(how.quantised(Some(method)))?;
            let mut packed = Packed::default();
            packed.push(&[5, 9, 31, 7, 44, 12, 8], None)?;
            let scores = |model: &RewardModel| -> Result<Vec<f32>> {
                Ok(model.scores(&packed, &[3, 6])?.read()?.to_f32())
            };
            let want = scores(&model)?;
            backend.check_same("snapshot", &scores(&model.snapshot(DType::F32)?)?, &want)?;
            backend.check_close("merged", &scores(&model.merged()?)?, &want, 1e-5)?;
            let dir = tempfile::tempdir()?;
            model.merged()?.save(dir.path())?;
            let again = RewardModel::load(backend, dir.path(), DType::F32)?;
            backend.check_close("merged and saved", &scores(&again)?, &want, 1e-5)?;
            let (base, bare) = (
                model.without_adapters()?,
                RewardModel::load_to_train_as(
                    &beside("golden/models/qwen2"),
                    how.quantised(Some(method)),
                    3,
                )?,
            );
            backend.check_same("without adapters", &scores(&base)?, &scores(&bare)?)?;
            if backend.dtypes().contains(&DType::BF16) {
                let half = tiny(Loading::frozen(backend, DType::BF16).quantised(Some(method)))?;
                backend.check_close("bf16", &scores(&half)?, &want, 5e-2)?;
            }
        }
        let refused = LanguageModel::load(backend, &golden("llama-nf4"), DType::F32).map(drop);
        let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(message.contains("are quantised (nf4)") && message.contains("--lora-r"), "{message:?}");
        let base = LanguageModel::load_as(&golden("llama-nf4"), how)?;
        let fields = json!({"target_modules": ["q_proj"], "modules_to_save": ["up_proj"]});
        let refused = base.with_adapters(serde_json::from_value(fields)?, &golden("llama-nf4"), 0).map(drop);
        let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(message.contains("up_proj") && message.contains("cannot be trained in full"), "{message:?}");
        Ok(())
    })
}

/// Protects: damaged quantised tensors are refused by name.
#[test]
fn damaged_quantised_tensors_are_named() -> Result<()> {
    let backend = &crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let how = Loading::frozen(backend, DType::F32);
    let name = "model.layers.1.self_attn.q_proj";
    let state = |text: &str| HostTensor::bytes(text.as_bytes().to_vec());
    let named = format!("{name}.weight.quant_state.bitsandbytes__nf4");
    for (of, tensor, value, said) in [
        (
            "llama-nf4",
            format!("{name}.weight"),
            HostTensor::bytes(vec![0; 511]),
            "has 511 elements, expected 512",
        ),
        ("llama-nf4", format!("{name}.weight.absmax"), HostTensor::vector(vec![0.5; 15]), ".absmax has 15"),
        (
            "llama-nf4",
            format!("{name}.weight.quant_map"),
            HostTensor::vector(vec![0.5; 15]),
            ".quant_map has 15",
        ),
        ("llama-nf4", named.clone(), state("{"), "bitsandbytes__nf4: EOF"),
        ("llama-nf4", named.clone(), state(r#"{"blocksize": 48, "shape": [32, 32]}"#), "has blocks of 48"),
        (
            "llama-nf4",
            named,
            state(r#"{"blocksize": 64, "shape": [16, 64]}"#),
            "has shape [16, 64], expected [32, 32]",
        ),
        ("llama-int8", format!("{name}.SCB"), HostTensor::vector(vec![0.5; 31]), "(its SCB) has 31"),
        ("llama-int8", format!("{name}.weight_format"), HostTensor::bytes(vec![2]), "weight_format [2]"),
    ] {
        let dir = tempfile::tempdir()?;
        fs::copy(golden(of).join("config.json"), dir.path().join("config.json"))?;
        let mut tensors = weights::load_file(&golden(of).join("model.safetensors"))?;
        ensure!(tensors.insert(tensor.clone(), value).is_some(), "{of} has no {tensor}");
        weights::save(&dir.path().join("model.safetensors"), &tensors)?;
        let refused = LanguageModel::load_as(dir.path(), how).map(drop);
        let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(message.contains(said) && message.contains("layers.1"), "{said:?}: {message:?}");
    }
    Ok(())
}

/// Saves a random model of the shape of a golden one with these changes.
fn wide(of: &str, changes: Value, backend: &dyn Backend, to: &std::path::Path) -> Result<()> {
    let path = beside("golden/models").join(of).join("config.json");
    let mut config: serde_json::Map<String, Value> = serde_json::from_str(&fs::read_to_string(&path)?)?;
    for (key, value) in changes.as_object().into_iter().flatten() {
        if config.contains_key(key) {
            config.insert(key.clone(), value.clone());
        }
    }
    config.insert("initializer_range".to_owned(), json!(0.1));
    let config = pcrm_core::model::ModelConfig::from_json(config, &path)?;
    fs::create_dir_all(to)?;
    Ok(LanguageModel::random(backend, config, DType::F32, 4)?.save(to)?)
}

/// Protects: peft applies an adapter trained here over the base that bitsandbytes quantises, with the same
/// logits; transformers loads the merged model.
#[test]
fn peft_applies_adapters_to_the_quantised_base() -> Result<()> {
    let backend = &crate::subject::subjects()?.into_iter().next().context("a backend")?;
    let root = tempfile::tempdir()?;
    let ids: Vec<u32> = vec![5, 9, 31, 7, 44, 12, 8, 33];
    for (family, method) in [("llama", Quantisation::Nf4), ("qwen2", Quantisation::Nf4Double)] {
        // Rows of whole blocks: bitsandbytes' kernel for CPUs is wrong for shorter ones.
        let base = root.path().join(format!("base-{family}"));
        let shape = json!({"hidden_size": 64, "intermediate_size": 128, "head_dim": 16});
        wide(family, shape, backend, &base)?;
        let how = Loading::frozen(backend, DType::F32).quantised(Some(method));
        let config: LoraConfig = serde_json::from_value(json!({"r": 3, "target_modules": "all-linear"}))?;
        let model = LanguageModel::load_as(&base, how)?.with_adapters(config, &base, 5)?;
        for (name, param) in model.params().iter().filter(|(name, _)| name.ends_with("lora_B.weight")) {
            param.assign(&param.constant(&random(&param.shape(), name.len() as u64)?)?)?;
        }
        let dir = root.path().join("cases").join(format!("{family}.{method}"));
        model.save(&dir.join("adapter"))?;
        model.merged()?.save(&dir.join("merged"))?;
        let values = logits(&model, &ids)?;
        let values = HostTensor::f32([ids.len(), values.len() / ids.len()], values)?;
        let expected = BTreeMap::from([
            ("input_ids".to_owned(), HostTensor::indices(ids.clone())),
            ("values".to_owned(), values),
        ]);
        weights::save(&dir.join("expected.safetensors"), &expected)?;
    }
    run_python("golden/quantised/check_saved.py", &[root.path().join("cases").as_os_str()])?;
    Ok(())
}

/// Returns an evaluation's accuracy.
fn accuracy(world: &World, model: &str) -> Result<f64> {
    let text =
        world.run(&format!("eval reward --model {model} --data test.jsonl --json --no-report --no-cache"))?;
    let report: Value = serde_json::from_str(&text)?;
    report["accuracy"]["value"].as_f64().with_context(|| text.clone())
}

/// Protects: a reward model trained with adapters on a quantised base learns; stopped and resumed it has the
/// same bits; it is resumed with its own quantisation only; and it is applied as it was trained.
#[test]
fn a_quantised_run_learns_and_resumes() -> Result<()> {
    let world = World::new()?;
    let run = "reward --model base --data train.jsonl --batch 8 --epochs 2 --lora-r 4 \
               --lora-target-modules all-linear --learning-rate 3e-3";
    for method in METHODS {
        world.run(&format!("{run} --quantize {method} --output {method}"))?;
        let found = accuracy(&world, &method.to_string())?;
        ensure!(found > 0.8, "{method}: accuracy {found}");
        world.run(&format!("score --model {method} --data test.jsonl --output {method}.jsonl"))?;
        world.run(&format!(
            "score --model {method} --quantize none --data test.jsonl --output floats.jsonl"
        ))?;
        ensure!(
            world.read(&format!("{method}.jsonl"))? != world.read("floats.jsonl")?,
            "{method} has no effect"
        );
        // The folder that is shared has no manifest and is still applied as it was trained.
        world.run(&format!("export {method} --output shared-{method}"))?;
        let config = "adapter_config.json"; // with the base, a local folder that an export does not name
        fs::copy(
            world.path(&method.to_string()).join(config),
            world.path(&format!("shared-{method}")).join(config),
        )?;
        world.run(&format!("score --model shared-{method} --data test.jsonl --output shared.jsonl"))?;
        ensure!(
            world.scored(&format!("{method}.jsonl"))? == world.scored("shared.jsonl")?,
            "the export of {method} scores otherwise"
        );
        let card = String::from_utf8(world.read(&format!("{method}/README.md"))?)?;
        ensure!(card.contains(&format!("the frozen base quantised to {method}")), "{card}");
    }
    world.run(&format!("{run} --load-in-4bit --output whole"))?;
    ensure!(
        world.read("whole/adapter_model.safetensors")? == world.read("nf4/adapter_model.safetensors")?,
        "--load-in-4bit differs from --quantize nf4"
    );
    // A run killed after step 8: later checkpoints and the adapter are missing.
    let run = format!("{run} --max-steps 12 --save-every 4 --keep 9");
    world.run(&format!("{run} --quantize nf4 --output through"))?;
    world.run(&format!("{run} --quantize nf4 --output cut"))?;
    fs::remove_dir_all(world.path("cut/checkpoint-12"))?;
    fs::remove_file(world.path("cut/adapter_model.safetensors"))?;
    world.refuses(&format!("{run} --quantize int8 --output cut --resume"), &["quantize"])?;
    world.run(&format!("{run} --quantize nf4 --output cut --resume"))?;
    ensure!(
        world.read("through/adapter_model.safetensors")? == world.read("cut/adapter_model.safetensors")?,
        "resuming changed the adapter"
    );
    world.refuses(
        "reward --model base --data train.jsonl --quantize nf4 --output refused",
        &["--quantize nf4", "frozen", "--lora-r"],
    )?;
    world.refuses(
        "reward --model base --data train.jsonl --lora-r 2 --quantize fp4 --output refused",
        &["fp4"],
    )?;
    let said = |arguments: &str| -> Result<String> {
        let output = world.command(arguments)?.output()?;
        ensure!(output.status.success(), "pcrm {arguments}: {}", stderr(&output));
        Ok(stderr(&output).split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let merged = said("merge nf4 --output merged")?;
    ensure!(
        merged.contains("trained on a base quantised to nf4 and is merged into a float base"),
        "{merged}"
    );
    world.run("score --model merged --quantize int8 --data test.jsonl --output merged.jsonl")?;
    let merged = said("merge nf4 --quantize nf4 --output as-trained")?;
    ensure!(!merged.contains("was trained on"), "{merged}");
    world.run("score --model as-trained --data test.jsonl --output as-trained.jsonl")?;
    for (merged, adapter) in world.lines("as-trained.jsonl")?.iter().zip(&world.lines("nf4.jsonl")?) {
        let of = |line: &Value| line["chosen_score"].as_f64().with_context(|| format!("no score: {line}"));
        let (merged, adapter) = (of(merged)?, of(adapter)?);
        ensure!((merged - adapter).abs() < 1e-4, "merged {merged}, adapter {adapter}");
    }
    // The range of training is of the quantised model.
    for (model, is_noted) in [("merged", false), ("as-trained", true)] {
        let config: Value = serde_json::from_slice(&world.read(&format!("{model}/config.json"))?)?;
        ensure!(config["pcrm"]["scores"].is_object() == is_noted, "{model}: {}", config["pcrm"]);
    }
    Ok(())
}

/// Protects: policies train on quantised bases, with the quantised base as the reference, and generate.
#[test]
fn policies_train_on_quantised_bases() -> Result<()> {
    let world = World::new()?;
    let base = golden("llama-nf4").display().to_string();
    fs::create_dir(world.path("policy"))?;
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        fs::copy(world.path("base").join(name), world.path("policy").join(name))?;
    }
    let config: Value = serde_json::from_slice(&world.read("base/config.json")?)?;
    let config = pcrm_core::model::ModelConfig::from_json(
        config.as_object().cloned().context("an object")?,
        std::path::Path::new("policy"),
    )?;
    let backend = &crate::subject::subjects()?.into_iter().next().context("a backend")?;
    LanguageModel::random(backend, config, DType::F32, 4)?.save(&world.path("policy"))?;
    let dpo = "dpo --model policy --data train.jsonl --max-steps 3 --batch 4 --learning-rate 1e-3";
    world.run(&format!("{dpo} --lora-r 4 --quantize nf4-double --output dpo"))?;
    // The reference is the quantised base, so the first margins are 0 and the loss is ln 2.
    let first = world.lines("dpo/metrics.jsonl")?.into_iter().next().context("no line")?;
    let loss = first["loss"].as_f64().context("no loss")?;
    ensure!((loss - std::f64::consts::LN_2).abs() < 1e-6, "the first loss is {loss}");
    world.run("sft --model policy --data train.jsonl --max-steps 2 --batch 4 --lora-r 2 --load-in-8bit --output sft")?;
    world.run("generate --model dpo --prompt 'Question 1' --max-tokens 5 --output answers.jsonl")?;
    ensure!(world.lines("answers.jsonl")?.len() == 1);
    world.refuses(&format!("{dpo} --quantize nf4 --output refused"), &["--lora-r"])?;
    world.refuses(
        &format!("sft --model {base} --data train.jsonl --max-steps 1 --output refused"),
        &["quantised"],
    )?;
    Ok(())
}
