//! Policies trained on preferences: gradients against transformers, packed trees against separate sequences,
//! and runs that learn, resume and cache their reference.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::encode::EncodedSet;
use pcrm_core::data::preference::{Comparison, Origin};
use pcrm_core::model::parameters::parameters;
use pcrm_core::model::{Head, LanguageModel, ModelConfig, weights};
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::{Backend, DType, Device};
use pcrm_rl::loss::preference::{PreferenceConfig, PreferenceLoss, WeightedLoss};
use pcrm_rl::objective::dpo::{Dpo, Preferences};
use pcrm_rl::objective::{Batch, evaluate, gradient};
use pcrm_rl::pairs::Pairs;
use pcrm_rl::reference::{AnswerLogProbs, token_log_probs};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::binary::World;
use crate::subject::every_backend;
use crate::support::{beside, run_python, tokens};

const ALL_AT_ONCE: usize = 1 << 20;

fn set(line: u64, prompt: &[u32], answers: &[Vec<u32>], comparisons: &[Comparison]) -> Result<EncodedSet> {
    let origin = Origin { file: Arc::from(Path::new("pairs.json")), line, record: line };
    EncodedSet::of_tokens(origin, prompt, answers, comparisons).context("a set")
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().into_iter().flatten().filter_map(|id| Some(id.as_u64()? as u32)).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().into_iter().flatten().filter_map(|x| Some(x.as_f64()? as f32)).collect()
}

/// Protects: in one pass or several, the loss, log-probabilities, entropy and gradient of every parameter
/// under a bound match transformers in float64.
#[test]
fn losses_and_every_gradient_are_those_of_transformers() -> Result<()> {
    let golden: Value = serde_json::from_str(&fs::read_to_string(beside("golden/dpo/pairs.json"))?)?;
    let rows = golden["pairs"].as_array().context("pairs")?;
    let one = [Comparison::preferring(0, 1)];
    let sets = rows.iter().zip(1..).map(|(row, line)| {
        set(line, &ids(&row["prompt"]), &[ids(&row["chosen"]), ids(&row["rejected"])], &one)
    });
    let reference: AnswerLogProbs =
        rows.iter().map(|row| vec![floats(&row["ref_chosen"]), floats(&row["ref_rejected"])]).collect();
    let bounds = rows.iter().map(|row| row["bound"].as_f64().unwrap_or_default() as f32).collect();
    let data = Preferences::new(Pairs::new(sets.collect::<Result<_>>()?, bounds), Some(reference))?;
    let config =
        PreferenceConfig { beta: golden["beta"].as_f64().context("beta")?, ..PreferenceConfig::default() };
    let objective = Dpo { config, schedule: None };
    every_backend(|backend| {
        for family in ["gpt2", "qwen2"] {
            let golden = weights::load_file(&beside("golden/dpo").join(format!("{family}.safetensors")))?;
            let want = |name: &str| -> Result<Vec<f32>> {
                Ok(golden.get(name).with_context(|| format!("{family}: no {name}"))?.to_f32())
            };
            let dir = beside("golden/models").join(family);
            let model = LanguageModel::load(backend, &dir, DType::F32)?.trainable();
            let all: Vec<&EncodedSet> = data.pairs.sets.iter().collect();
            let log_probs = token_log_probs(&model.detached(), &all)?.concat();
            backend.check_close(&format!("{family}: log_probs"), &log_probs, &want("log_probs")?, 1e-5)?;
            for micro_tokens in [ALL_AT_ONCE, 1] {
                let batch = Batch { data: &data, items: &[0, 1], micro_tokens };
                let got = gradient(backend, &objective, &model, &batch, 0.0)?;
                let shown = got.metrics.summary();
                for name in ["loss", "entropy"] {
                    let found = shown.get(name).context(name)? as f32;
                    backend.check_close(&format!("{family}: {name}"), &[found], &want(name)?, 1e-5)?;
                }
                let mut compared = 0;
                for parameter in parameters(model.config(), &[Head::Language]) {
                    let gradient = got.gradients.get(&parameter.name)?.read()?;
                    let stored = if parameter.transposed { gradient.transposed()? } else { gradient };
                    let name = format!("grad.{}", parameter.name);
                    backend.check_norm(
                        &format!("{family}: {name}"),
                        &stored.into_f32(),
                        &want(&name)?,
                        1e-4,
                    )?;
                    compared += 1;
                }
                let there = golden.keys().filter(|name| name.starts_with("grad.")).count();
                ensure!(compared == there, "{family}: only {compared} of {there} gradients were compared");
            }
        }
        Ok(())
    })
}

/// Small models with three kinds of positions: rotary, learned, and rotary scaled by the sequence length.
fn models(backend: &dyn Backend) -> Result<Vec<(&'static str, LanguageModel)>> {
    let llama = |positions: usize, scaling: Value| {
        json!({
            "model_type": "llama", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
            "max_position_embeddings": positions, "initializer_range": 0.3, "rope_scaling": scaling
        })
    };
    let gpt2 = json!({
        "model_type": "gpt2", "vocab_size": 40, "n_embd": 16, "n_head": 2, "n_layer": 2, "n_positions": 64,
        "initializer_range": 0.3
    });
    let dynamic = json!({"rope_type": "dynamic", "factor": 4.0});
    [("llama", llama(64, Value::Null)), ("gpt2", gpt2), ("dynamic", llama(8, dynamic))]
        .into_iter()
        .map(|(name, json)| {
            let json = json.as_object().cloned().context("an object")?;
            let config = ModelConfig::from_json(json, Path::new(name))?;
            Ok((name, LanguageModel::random(backend, config, DType::F32, 5)?.trainable()))
        })
        .collect()
}

/// Random pairs and ranked sets.
fn drawn() -> Result<Vec<EncodedSet>> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let ranking = [Comparison::preferring(0, 1), Comparison::preferring(2, 1), Comparison::preferring(0, 2)];
    (0..5)
        .map(|at| {
            let count = if at % 2 == 0 { 2 } else { 3 };
            let prompt = tokens(rng.random_range(1..7), 40, &mut rng);
            let answers: Vec<Vec<u32>> = (0..count)
                .map(|answer| {
                    let length = rng.random_range(1..9);
                    [vec![answer], tokens(length, 40, &mut rng)].concat()
                })
                .collect();
            let comparisons = if count == 2 { &ranking[..1] } else { &ranking[..] };
            set(at + 1, &prompt, &answers, comparisons)
        })
        .collect()
}

/// Protects: a tree that computes each prompt once gives the log-probabilities, loss and gradients of
/// separate sequences, for losses of every kind, in one or several micro-batches.
#[test]
fn packed_trees_equal_separate_sequences() -> Result<()> {
    let sets = drawn()?;
    let apart: Vec<EncodedSet> = sets.iter().map(|set| EncodedSet { shared: 0, ..set.clone() }).collect();
    let weighted = |losses: &[PreferenceLoss]| PreferenceConfig {
        loss: losses.iter().map(|loss| WeightedLoss { loss: *loss, weight: 0.7 }).collect(),
        beta: 0.3,
        ..PreferenceConfig::default()
    };
    use PreferenceLoss as L;
    let configs =
        [weighted(&[L::Sigmoid]), weighted(&[L::Ipo, L::Sft]), weighted(&[L::BcoPair]), weighted(&[L::Orpo])];
    every_backend(|backend| {
        for (name, model) in models(backend)? {
            let numbers = |sets: &[EncodedSet]| -> Result<AnswerLogProbs> {
                let of_set = |set: &EncodedSet| Ok(token_log_probs(&model.detached(), &[set])?);
                sets.iter().map(of_set).collect()
            };
            let (together, separate) = (numbers(&sets)?, numbers(&apart)?);
            let flat = |of: &AnswerLogProbs| of.concat().concat();
            backend.check_close(name, &flat(&together), &flat(&separate), 1e-5)?;
            let moved: AnswerLogProbs = together
                .iter()
                .map(|set| set.iter().map(|of| of.iter().map(|x| 0.9 * x - 0.05).collect()).collect())
                .collect();
            for config in &configs {
                let bounded = config.losses().all(L::has_margin);
                let count = sets.iter().map(|set| set.comparisons.len()).sum();
                let bounds = vec![if bounded { 0.4 } else { f32::INFINITY }; count];
                let data = |sets: &[EncodedSet]| {
                    let reference = (!config.is_without_reference()).then(|| moved.clone());
                    Preferences::new(Pairs::new(sets.to_vec(), bounds.clone()), reference)
                };
                let objective = Dpo { config: config.clone(), schedule: None };
                let items: Vec<usize> = (0..sets.len()).collect();
                let of = |data: &Preferences, micro_tokens: usize| {
                    gradient(backend, &objective, &model, &Batch { data, items: &items, micro_tokens }, 0.0)
                };
                let (shared, alone) = (data(&sets)?, data(&apart)?);
                let want = of(&alone, 1)?;
                for micro_tokens in [ALL_AT_ONCE, 40] {
                    let got = of(&shared, micro_tokens)?;
                    let what = format!("{name}, {:?}", config.loss);
                    for metric in ["loss", "ranking_loss", "rewards/margins", "entropy"] {
                        let [a, b] =
                            [&got, &want].map(|of| of.metrics.summary().get(metric).unwrap_or(0.0) as f32);
                        backend.check_close(&format!("{what}: {metric}"), &[a], &[b], 1e-5)?;
                    }
                    for parameter in parameters(model.config(), &[Head::Language]) {
                        let read = |of: &pcrm_rl::objective::Gradient| -> Result<Vec<f32>> {
                            Ok(of.gradients.get(&parameter.name)?.read()?.into_f32())
                        };
                        let named = format!("{what}: {}", parameter.name);
                        backend.check_norm(&named, &read(&got)?, &read(&want)?, 1e-5)?;
                    }
                    if name != "dynamic" {
                        ensure!(got.tokens.unique < want.tokens.unique, "{what}: nothing is shared");
                    }
                }
                let evaluated = evaluate(&objective, &model, &shared, 50)?.summary();
                let shown = want.metrics.summary();
                let [a, b] = [evaluated.loss() as f32, shown.loss() as f32];
                backend.check_close(&format!("{name}: evaluation"), &[a], &[b], 1e-5)?;
            }
        }
        Ok(())
    })
}

/// Options of a short run in the small world.
const RUN: &str = "dpo --data train.jsonl --eval-split 0.2 --batch 4 --save-every 2 --keep 9 --max-length 64 \
                   --max-steps 7 --learning-rate 3e-3 --threads 1";

/// Protects: a run killed after any checkpoint ends with the same weights as an undisturbed one: full,
/// bounded, or with adapters under dropout. The policy starts bit-identical to its reference; a second run
/// reads the cached reference.
#[test]
fn a_stopped_run_ends_with_the_same_weights() -> Result<()> {
    let world = World::new()?;
    let sft = "sft --data train.jsonl --max-steps 3 --max-length 64 --threads 1";
    world.run(&format!("{sft} --model base --random-init --output lm"))?;
    let adapters = "--lora-r 4 --lora-dropout 0.2 --lora-target-modules all-linear";
    for (name, options, weights) in [
        ("whole", "--constraint length_ratio", "model.safetensors"),
        ("adapters", adapters, "adapter_model.safetensors"),
        ("simpo", "--loss simpo sft --loss-weights 1 0.1 --beta 2", "model.safetensors"),
    ] {
        let run = format!("{RUN} --model lm {options}");
        world.run(&format!("{run} --output {name}"))?;
        let again = world.command(&format!("{run} --output {name}-cut"))?.output()?;
        ensure!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
        if name != "simpo" {
            let said = String::from_utf8_lossy(&again.stderr).into_owned();
            ensure!(said.contains(" 0 computed and"), "{said}");
            let first = &world.lines(&format!("{name}/metrics.jsonl"))?[0];
            // Dropout moves a policy with adapters.
            let begins_at =
                name == "adapters" || first["rewards/chosen"] == 0.0 && first["rewards/rejected"] == 0.0;
            ensure!(begins_at, "{first}");
        }
        let (straight, cut) = (world.path(name), world.path(&format!("{name}-cut")));
        // Simulates a kill after step 4: later checkpoints and the model are missing.
        for step in fs::read_dir(&cut)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            let made = step.strip_prefix("checkpoint-").and_then(|step| step.parse::<u64>().ok());
            if made.is_some_and(|made| made > 4) {
                fs::remove_dir_all(cut.join(step))?;
            }
        }
        fs::remove_file(cut.join(weights))?;
        world.run(&format!("{run} --output {name}-cut --resume"))?;
        ensure!(
            fs::read(straight.join(weights))? == fs::read(cut.join(weights))?,
            "{name}: the weights differ"
        );
    }
    Ok(())
}

/// Protects: a run that trains an adapter further, or whose reference is an adapter, knows the weights under it: with
/// other ones in the base's folder it is not resumed, even if the adapter does not know them, as one of an earlier
/// version. One that does is not trained further on them, and training further makes it known.
#[test]
fn a_run_on_an_adapter_knows_its_base() -> Result<()> {
    let world = World::new()?;
    let sft = "sft --model base --random-init --data train.jsonl --max-steps 3 --max-length 64 --threads 1";
    world.run(&format!("{sft} --output lm"))?;
    world.run(&format!("{sft} --seed 4 --output other"))?;
    let run = RUN.replace("--max-steps 7", "--max-steps 2");
    world.run(&format!("{run} --model lm --lora-r 4 --output adapter"))?;
    let known = world.read("adapter/pcrm.json")?;
    let mut notes: Value = serde_json::from_slice(&known)?;
    let digest = notes.as_object_mut().and_then(|notes| notes.remove("base_weights")).context("a digest")?;
    world.write("adapter/pcrm.json", &notes.to_string())?;
    let further = format!("{run} --model adapter --output further");
    let beside = format!("{run} --model other --reference adapter --output beside");
    for run in [&further, &beside] {
        world.run(run)?;
        world.run(&format!("{run} --resume"))?;
    }
    let of_further: Value = serde_json::from_slice(&world.read("further/pcrm.json")?)?;
    ensure!(of_further["base_weights"] == digest, "{of_further}");
    fs::copy(world.path("other/model.safetensors"), world.path("lm/model.safetensors"))?;
    world.refuses(
        &format!("{further} --resume"),
        &["with other options", "the files in --model have changed"],
    )?;
    world.refuses(
        &format!("{beside} --resume"),
        &["with other options", "the files in --reference have changed"],
    )?;
    fs::write(world.path("adapter/pcrm.json"), known)?;
    let said = "adapter: the base model lm is not the one that the adapter was trained on";
    world.refuses(&format!("{run} --model adapter --output refused"), &[said])?;
    world.refuses(&format!("{run} --model other --reference adapter --output refused"), &[said])
}

/// Protects: KTO learns from labelled answers (a pair gives two), a resumed run ends with the same weights,
/// and unequal counts of the two labels are reported.
#[test]
fn labelled_answers_are_learned_and_a_stopped_run_resumes() -> Result<()> {
    let world = World::new()?;
    let sft = "sft --data train.jsonl --max-steps 3 --max-length 64 --threads 1";
    world.run(&format!("{sft} --model base --random-init --output lm"))?;
    let run = "kto --model lm --data train.jsonl --eval-split 0.2 --batch 8 --save-every 2 --keep 9 \
               --max-length 64 --max-steps 9 --learning-rate 1e-3 --threads 1";
    world.run(&format!("{run} --output whole"))?;
    world.run(&format!("{run} --output cut"))?;
    let lines = world.lines("whole/metrics.jsonl")?;
    let first = &lines[0];
    ensure!(first["rewards/chosen"] == 0.0 && first["kl"] == 0.0, "{first}");
    // 1 − σ(0) for every answer.
    ensure!(first["loss"] == 0.5, "{first}");
    let last = lines.iter().find(|line| line.get("eval_loss").is_some()).context("no evaluation")?;
    ensure!(last["eval_rewards/margins"].as_f64().is_some_and(|margin| margin > 0.05), "{last}");
    for name in ["eval_logps/chosen", "eval_logps/rejected", "eval_logits/chosen", "eval_entropy"] {
        ensure!(last[name].is_number(), "{name}: {last}");
    }
    for step in [6, 8, 9] {
        fs::remove_dir_all(world.path(&format!("cut/checkpoint-{step}")))?;
    }
    fs::remove_file(world.path("cut/model.safetensors"))?;
    world.run(&format!("{run} --output cut --resume"))?;
    ensure!(
        world.read("whole/model.safetensors")? == world.read("cut/model.safetensors")?,
        "the weights differ"
    );
    let row =
        |at: usize| json!({"prompt": format!("q{at}"), "completion": "good", "label": at > 0}).to_string();
    world.write("one-sided.jsonl", &(0..12).map(row).collect::<Vec<_>>().join("\n"))?;
    let run = "kto --model lm --data one-sided.jsonl --max-steps 1 --loss apo_zero_unpaired --output apo";
    let said = world.command(run)?.output()?;
    let said = String::from_utf8_lossy(&said.stderr).replace("\n         ", " ");
    ensure!(
        said.contains("11 answers are desirable and 1 are not") && said.contains("--desirable-weight 0.09"),
        "{said}"
    );
    world.refuses(
        "kto --model lm --data train.jsonl --desirable-weight 0 --output no",
        &["--desirable-weight", "0"],
    )
}

/// Protects: a policy learns which of two answers is preferred, a bound limits its margins, and the page and
/// card say so.
#[test]
fn a_policy_learns_and_a_bound_holds_its_margins() -> Result<()> {
    let world = World::new()?;
    world
        .run("sft --model base --random-init --data train.jsonl --max-steps 3 --max-length 64 --output lm")?;
    let run = "dpo --model lm --data train.jsonl --eval-data test.jsonl --epochs 2 --learning-rate 1e-3 \
         --max-length 64";
    world.run(&format!("{run} --output free"))?;
    world.run(&format!("{run} --constraint '{{\"kind\": \"fixed\", \"bound\": 1}}' --output bounded"))?;
    let evaluated = |name: &str| -> Result<Value> {
        let lines = world.lines(&format!("{name}/metrics.jsonl"))?;
        lines.into_iter().rev().find(|line| line.get("eval_loss").is_some()).context("no evaluation")
    };
    let (free, bounded) = (evaluated("free")?, evaluated("bounded")?);
    let of = |line: &Value, name: &str| line[format!("eval_{name}")].as_f64().unwrap_or(f64::NAN);
    for line in [&free, &bounded] {
        ensure!(of(line, "rewards/accuracies") > 0.8, "{line}");
        for name in
            ["logps/chosen", "logps/rejected", "rewards/chosen", "entropy", "ranking_loss", "constraint_loss"]
        {
            ensure!(of(line, name).is_finite(), "{name}: {line}");
        }
    }
    ensure!(of(&bounded, "rewards/margins") < 0.8, "{bounded}");
    ensure!(of(&free, "rewards/margins") > of(&bounded, "rewards/margins") + 0.5, "{free} {bounded}");
    let page = String::from_utf8(world.read("bounded/report.html")?)?;
    ensure!(page.contains("Accuracy of the implicit reward") && page.contains("Margin against its bound"));
    let card = String::from_utf8(world.read("bounded/README.md")?)?;
    ensure!(card.contains("AutoModelForCausalLM") && card.contains("fixed (bound 1)"), "{card}");
    Ok(())
}

/// Protects: `transformers` loads a saved run, full or as an adapter, and gives every answer token the same
/// log-probability to 1e-4; `pcrm eval dpo` finds the run's reference, β and constraint.
#[test]
fn a_trained_policy_is_what_transformers_loads() -> Result<()> {
    let world = World::new()?;
    world
        .run("sft --model base --random-init --data train.jsonl --max-steps 3 --max-length 64 --output lm")?;
    // The adapter records its base by the path given here.
    let base = format!("--model {}", world.path("lm").display());
    let run = format!(
        "dpo {base} --data train.jsonl --max-steps 6 --learning-rate 1e-3 --beta 0.2 --max-length 64"
    );
    world.run(&format!("{run} --constraint length_ratio --output whole"))?;
    world.run(&format!("{run} --lora-r 4 --output adapters"))?;
    // An adapter can be trained further, with `--reference base` or with the adapter itself as the reference.
    world.run(&format!("{} --output further", run.replace(&base, "--model adapters --reference base")))?;
    ensure!(
        world.path("further/adapter_model.safetensors").exists()
            && !world.path("further/config.json").exists()
    );
    let first = &world.lines("further/metrics.jsonl")?[0];
    ensure!(first["rewards/chosen"] != 0.0, "{first}");
    world.run(&format!("{} --max-steps 1 --output on", run.replace(&base, "--model adapters")))?;
    let first = &world.lines("on/metrics.jsonl")?[0];
    ensure!(first["rewards/chosen"] == 0.0 && first["rewards/rejected"] == 0.0, "{first}");
    for name in ["whole", "adapters"] {
        let json: Value =
            serde_json::from_str(&world.run(&format!("eval dpo --model {name} --data test.jsonl --json"))?)?;
        let policy = &json["policy"];
        ensure!(policy["beta"] == 0.2 && json["pairs"] == 60, "{json}");
        let kl = policy["kl_per_token"].as_f64().context("kl_per_token")?;
        ensure!(kl > 0.0 && kl < 1.0, "{policy}");
        let constraint = if name == "whole" { "length_ratio" } else { "none" };
        ensure!(json["constraint"]["kind"] == constraint, "{}", json["constraint"]);
        // With itself as the reference, a policy has zero implicit reward.
        let itself =
            world.run(&format!("eval dpo --model {name} --reference {name} --data test.jsonl --json"))?;
        let itself: Value = serde_json::from_str(&itself)?;
        ensure!(
            itself["policy"]["kl_per_token"] == 0.0 && itself["policy"]["rewards_chosen"] == 0.0,
            "{itself}"
        );
    }
    let first = registry::all::<BackendPlugin>().into_iter().next().context("a backend")?;
    let backend = (first.open)(Device::Cpu.into())?;
    for name in ["whole", "adapters"] {
        let model = LanguageModel::load(backend.as_ref(), &world.path(name), DType::F32)?.detached();
        let sets = drawn()?;
        let mut rows = Vec::new();
        for set in &sets {
            for (answer, log_probs) in set.answers.iter().zip(token_log_probs(&model, &[set])?) {
                rows.push(json!({"ids": answer.ids, "start": answer.answer_start, "log_probs": log_probs}));
            }
        }
        let file = world.path(&format!("{name}.json"));
        fs::write(&file, serde_json::to_string(&rows)?)?;
        let dir = world.path(name);
        run_python("golden/dpo/agree.py", &[dir.as_os_str(), file.as_os_str()])?;
    }
    Ok(())
}

/// Protects: `pcrm bench dpo` times steps with a computed and a cached reference and prints the fields of the
/// peer's script.
#[test]
fn steps_are_timed() -> Result<()> {
    let world = World::new()?;
    let run = "bench dpo --model base --random-init --data train.jsonl --steps 2 --warmup 1 --batch 4 --json";
    for (options, reference) in
        [("", "computed"), (" --cached-reference --constraint length_ratio", "cached")]
    {
        let timing: Value = serde_json::from_str(&world.run(&format!("{run}{options}"))?)?;
        ensure!(timing["job"] == "dpo" && timing["reference"] == reference, "{timing}");
        for field in ["pairs_per_s", "tokens_per_s", "s_per_step", "mean_tokens_per_pair"] {
            ensure!(timing[field].as_f64().is_some_and(|value| value > 0.0), "{field}: {timing}");
        }
    }
    Ok(())
}

/// Protects: a warning names the reference's family if it is not the policy's; shared BOS tokens give no
/// warning.
#[test]
fn references_of_another_kind_are_said() -> Result<()> {
    let world = World::new()?;
    let sft = "sft --random-init --data train.jsonl --max-steps 1 --max-length 64";
    world.run(&format!("{sft} --model base --output lm"))?;
    fs::create_dir(world.path("other-base"))?;
    for entry in fs::read_dir(world.path("base"))? {
        let entry = entry?;
        fs::copy(entry.path(), world.path("other-base").join(entry.file_name()))?;
    }
    let config = world.path("other-base/config.json");
    fs::write(&config, fs::read_to_string(&config)?.replace("llama", "mistral"))?;
    world.run(&format!("{sft} --model other-base --seed 1 --output other"))?;
    let run =
        "dpo --model lm --reference other --data train.jsonl --max-steps 2 --max-length 64 --output out";
    let out = world.command(run)?.output()?;
    let said = String::from_utf8_lossy(&out.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(
        out.status.success() && said.contains("is of another family (mistral) than the policy (llama)"),
        "{said}"
    );
    ensure!(!said.contains("BOS token is"), "{said}");
    let first = &world.lines("out/metrics.jsonl")?[0];
    ensure!(first["rewards/chosen"] != 0.0, "{first}");
    Ok(())
}

/// Protects: contradictory options are refused by name before anything is made.
#[test]
fn options_that_do_not_go_together_are_refused() -> Result<()> {
    let world = World::new()?;
    let run = "dpo --model base --random-init --data train.jsonl --output out";
    for (options, parts) in [
        ("--loss bco_pair --constraint length_ratio", &["bco_pair is not a function of one difference"][..]),
        ("--loss sigmid", &["sigmid", "sigmoid"]),
        ("--label-smoothing 0.1", &["--label-smoothing", "no effect", "cdpo"]),
        ("--loss exo_pair", &["--label-smoothing", "1e-3"]),
        ("--loss simpo --reference start", &["--reference", "uses no reference"]),
        ("--loss sigmoid sft --loss-weights 1", &["--loss-weights", "1 numbers for 2 losses"]),
        ("--simpo-gamma 1", &["--simpo-gamma", "--loss simpo"]),
        ("--floor -1", &["--floor", "--loss floor"]),
        ("--loss floor --constraint length_ratio --floor inf", &["--floor", "inf"]),
        ("--reference base", &["--reference", "holds no adapters"]),
        ("--loss nca_pair --f-divergence-type forward_kl", &["--f-divergence-type", "nca_pair"]),
        ("--score-margins", &["--score-margins has no effect", "score_gap"]),
        ("--margin-field gap --constraint length_ratio", &["--margin-field has no effect"]),
        ("--field margin=gap", &["--field margin has no effect"]),
    ] {
        world.refuses(&format!("{run} {options}"), parts)?;
        ensure!(!world.path("out/model.safetensors").exists());
    }
    Ok(())
}

/// Protects: KTO's reference point is that of the whole step, however many tokens are computed at once:
/// metrics and evaluations do not depend on it.
#[test]
fn labelled_answers_are_the_same_in_parts() -> Result<()> {
    let world = World::new()?;
    let sft = "sft --data train.jsonl --max-steps 3 --max-length 64 --threads 1";
    world.run(&format!("{sft} --model base --random-init --output lm"))?;
    let run = "kto --model lm --data train.jsonl --eval-split 0.2 --batch 8 --max-length 64 --max-steps 4 \
               --learning-rate 1e-3 --desirable-weight 4 --threads 1";
    let (mut all, mut compared) = (Vec::new(), 0);
    for tokens in [8192, 100] {
        world.run(&format!("{run} --micro-tokens {tokens} --output of-{tokens}"))?;
        all.push(world.lines(&format!("of-{tokens}/metrics.jsonl"))?);
    }
    ensure!(all[0].len() == all[1].len() && all[0].iter().any(|line| line["kl"].as_f64() > Some(0.0)));
    for (whole, parts) in all[0].iter().zip(&all[1]) {
        for (name, value) in whole.as_object().context("an object")? {
            let (Some(whole), Some(part)) = (value.as_f64(), parts[name].as_f64()) else { continue };
            if name.contains("seconds") || name.contains("second") || name == "padding_avoided" {
                continue;
            }
            ensure!((whole - part).abs() <= 1e-2 * whole.abs().max(1e-2), "{name}: {whole}, in parts {part}");
            compared += usize::from(name.contains("kl") || name.contains("margins"));
        }
    }
    ensure!(compared > 4, "{compared} reference points and margins");
    Ok(())
}
