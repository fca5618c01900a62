//! Models over one base hold one copy of its weights: policy, reference, critic and reward model with
//! adapters.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_core::model::{LanguageModel, Loading, LoraConfig, RewardModel, WeightPool};
use pcrm_core::quant::Quantisation;
use pcrm_core::{DType, HostTensor, Packed};
use serde_json::Value;

use crate::binary::World;
use crate::subject::every_backend;
use crate::support::beside;

/// A weight of the shared base.
const WEIGHT: &str = "model.norm.weight";

fn score(model: &RewardModel) -> Result<f32> {
    let mut packed = Packed::default();
    packed.push(&[5, 9, 31, 7, 44, 12, 8], None)?;
    Ok(model.scores(&packed, &[6])?.read_scalar()?)
}

fn zeroed(model: &LanguageModel) -> Result<()> {
    let weight = model.params().get(WEIGHT)?;
    let zeros = HostTensor::f32(weight.shape(), vec![0.0; weight.size()])?;
    Ok(weight.assign(&weight.constant(&zeros)?.cast(weight.dtype())?)?)
}

/// Protects: models of a pool use the same storage for a base that they load with the same types, and have the scores
/// that they have alone. A copy that is trained, or quantised in another way, is not shared.
#[test]
fn adapters_over_one_base_share_its_weights() -> Result<()> {
    every_backend(|backend| {
        let base = beside("golden/models/qwen2");
        let whole = base.canonicalize()?;
        for method in [None, Some(Quantisation::Nf4)] {
            let pool = WeightPool::default();
            let alone = Loading::frozen(backend, DType::F32).quantised(method);
            let pooled = alone.sharing(Some(&pool));
            let config = LoraConfig { r: 2, ..LoraConfig::default() };
            let dir = tempfile::tempdir()?;
            RewardModel::load_to_train_as(&base, alone, 5)?
                .with_adapters(config.clone(), &base, 5)?
                .save(dir.path())?;
            let policy = LanguageModel::load_as(&base, pooled)?.with_adapters(config, &base, 3)?;
            let reward = RewardModel::load_adapter(dir.path(), Some(&base), pooled, 0)?;
            let critic = RewardModel::load_adapter(dir.path(), Some(&base), pooled, 0)?;
            let separate = RewardModel::load_adapter(dir.path(), Some(&base), alone, 0)?;
            let before = score(&separate)?;
            backend.check_same("the same scores", &[score(&reward)?, score(&critic)?], &[before; 2])?;
            ensure!(pool.shared() == [(whole.clone(), 3)], "{:?}", pool.shared());
            if method.is_none() {
                LanguageModel::load_as(&base, Loading::masters(backend, DType::F32).sharing(Some(&pool)))?;
                let other = alone.quantised(Some(Quantisation::Int8)).sharing(Some(&pool));
                LanguageModel::load_as(&base, other)?;
                ensure!(pool.shared() == [(whole.clone(), 3)], "{:?}", pool.shared());
            }
            zeroed(&policy)?;
            for shared in [&reward, &critic] {
                ensure!(score(shared)? == 0.0, "a model has its own copy of {WEIGHT}");
            }
            ensure!(score(&separate)? == before && before != 0.0, "a model outside of the pool changed");
        }
        Ok(())
    })
}

fn adapter_base(dir: &Path) -> Result<Value> {
    let config: Value = serde_json::from_slice(&fs::read(dir.join("adapter_config.json"))?)?;
    Ok(config["base_model_name_or_path"].clone())
}

/// Protects: `pcrm ppo` with adapters on the base of its reward adapter reports that policy, reward model and
/// critic share the base, trains the reward adapter further as the critic, and a critic's adapter starts
/// another run.
#[test]
fn models_of_a_run_share_one_base() -> Result<()> {
    let world = World::new()?;
    world.run(
        "sft --model base --random-init --data train.jsonl --epochs 3 --learning-rate 1e-2 --output policy",
    )?;
    world.run(
        "reward --model policy --lora-r 2 --data train.jsonl --max-steps 4 --learning-rate 1e-2 --output rm",
    )?;
    let ppo = "ppo --model policy --lora-r 2 --reward model:rm --data test.jsonl --max-completion-length 8 \
               --batch 4 --max-steps 4 --num-generations 2 --learning-rate 1e-2";
    for (critic, output) in [("", "one"), ("--critic one/critic", "two"), ("--critic policy", "zero")] {
        let output_of = world.command(&format!("{ppo} {critic} --output {output}"))?.output()?;
        let said = String::from_utf8_lossy(&output_of.stderr).into_owned();
        ensure!(output_of.status.success(), "{said}");
        ensure!(said.contains("3 models share the frozen weights of"), "{said}");
        let step = world.lines(&format!("{output}/metrics.jsonl"))?.into_iter().next().context("a step")?;
        ensure!(step["val/ratio"] == 1.0 && step["objective/kl"] == 0.0, "{step}");
        ensure!(step["critic/grad_norm"].as_f64().is_some_and(|norm| norm > 0.0), "{step}");
    }
    let path = |name: &str| world.path(name);
    for name in ["one/critic", "two/critic", "zero/critic"] {
        ensure!(!path(name).join("model.safetensors").exists(), "{name} is a full model");
        ensure!(adapter_base(&path(name))? == adapter_base(&path("rm"))?, "{name}");
        world.run(&format!("score --model {name} --data test.jsonl --output scores.jsonl"))?;
    }
    let weights = |name: &str| fs::read(path(name).join("adapter_model.safetensors"));
    ensure!(weights("one/critic")? != weights("rm")?, "the critic did not change");
    Ok(())
}

/// Protects: an adapter's folder has the notes of its own training, not those on its base: the range of
/// scores, the constraint and the length limit are there for evaluation and PPO; `peft` does not read the
/// file.
#[test]
fn an_adapter_has_its_own_notes() -> Result<()> {
    let world = World::new()?;
    let train = "--data train.jsonl --max-steps 2 --learning-rate 1e-2";
    world.run(&format!("reward --model base {train} --constraint fixed --output full"))?;
    world.run(&format!("reward --model full --lora-r 2 {train} --constraint length_ratio --output rm"))?;
    let notes: Value = serde_json::from_slice(&world.read("rm/pcrm.json")?)?;
    let base: Value = serde_json::from_slice(&world.read("full/config.json")?)?;
    ensure!(notes["constraint"]["kind"] == "length_ratio", "{notes}");
    ensure!(base["pcrm"]["constraint"]["kind"] == "fixed", "{base}");
    ensure!(notes["scores"]["mean"].is_f64() && notes["scores"] != base["pcrm"]["scores"], "{notes}");
    world.run("export rm --output shared")?;
    ensure!(world.path("shared").join("pcrm.json").exists(), "an exported adapter has no notes");
    world.run(&format!("sft --model base --random-init {train} --output policy"))?;
    let noted = |output: &str| -> Result<bool> {
        let best = "best-of-n --model policy --reward model:rm --data test.jsonl --n 2 --max-tokens 4";
        let said = world.command(&format!("{best} --output {output}"))?.output()?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        ensure!(said.contains("scores of its own data"), "{said}");
        Ok(said.contains("scores of its own data range"))
    };
    ensure!(noted("with")?, "the range of scores is not read");
    fs::remove_file(world.path("rm").join("pcrm.json"))?;
    ensure!(!noted("without")?, "the base's range was used");
    fs::write(world.path("rm").join("pcrm.json"), "[1]")?;
    world.refuses(
        "score --model rm --data test.jsonl --output scores.jsonl",
        &["pcrm.json", "[1]", "object"],
    )?;
    Ok(())
}
