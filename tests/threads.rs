//! The same bits with any number of threads, in any batch and on any instruction set of the machine.
//!
//! The number of threads is fixed per process, so every figure comes from its own process.

use anyhow::{Context, Result, ensure};
use pcrm_core::DType;
use pcrm_core::Device;
use pcrm_core::model::{ModelConfig, RewardModel};
use pcrm_core::registry::{self, BackendPlugin};
use serde_json::json;
use std::path::Path;

use crate::binary::{World, stderr};

/// Makes a world with a gpt2 (biases, layer norms, gelu by tanh) beside its llama, with widths that are no
/// multiple of a vector register.
fn world() -> Result<World> {
    let world = World::new()?;
    let dir = world.path("gpt2");
    std::fs::create_dir(&dir)?;
    for entry in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        std::fs::copy(world.path("base").join(entry), dir.join(entry))?;
    }
    let config = json!({
        "model_type": "gpt2", "vocab_size": 384, "n_embd": 60, "n_inner": 236, "n_layer": 2, "n_head": 3,
        "n_positions": 512, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.1, "architectures": ["GPT2LMHeadModel"]
    });
    let config =
        ModelConfig::from_json(config.as_object().cloned().context("an object")?, Path::new("gpt2"))?;
    let first = registry::all::<BackendPlugin>().into_iter().next().context("a backend")?;
    let backend = (first.open)(Device::Cpu.into())?;
    RewardModel::random(backend.as_ref(), config, DType::F32, 2)?.save(&dir)?;
    Ok(world)
}

fn backends() -> Vec<&'static str> {
    registry::all::<BackendPlugin>().into_iter().map(|plugin| plugin.name).collect()
}

/// Instruction sets, selected by variables of libtorch and MKL; the first is the machine's own.
const INSTRUCTIONS: [&[(&str, &str)]; 3] = [
    &[],
    &[("ATEN_CPU_CAPABILITY", "default"), ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2")],
    &[("ATEN_CPU_CAPABILITY", "avx2"), ("MKL_ENABLE_INSTRUCTIONS", "AVX2")],
];

/// Protects: a score has the same bits at 1 to 16 threads and in batches of any size, on each instruction
/// set.
#[test]
fn scores_have_the_same_bits_with_any_number_of_threads() -> Result<()> {
    let world = world()?;
    for backend in backends() {
        for model in ["base", "gpt2"] {
            for set in INSTRUCTIONS {
                let score = |threads: usize, tokens: usize| -> Result<Vec<u8>> {
                    let options =
                        format!("--threads {threads} --micro-tokens {tokens} --output scored.jsonl");
                    let words =
                        format!("score --backend {backend} --model {model} --data test.jsonl {options}");
                    let output = world.command(&words)?.envs(set.iter().copied()).output()?;
                    ensure!(output.status.success(), "pcrm {words}: {}", stderr(&output));
                    world.read("scored.jsonl")
                };
                let want = score(1, 8192)?;
                let others: &[(usize, usize)] = match set {
                    [] => &[(2, 300), (3, 300), (4, 8192), (8, 600), (16, 600)],
                    _ => &[(3, 300)],
                };
                for (threads, tokens) in others {
                    let same = score(*threads, *tokens)? == want;
                    let what = format!("{backend}, {model}, {set:?}");
                    ensure!(same, "{what}: the scores differ at {threads} threads and {tokens} tokens");
                }
            }
        }
    }
    Ok(())
}

/// Protects: a run ends with the same weights at any number of threads.
#[test]
fn runs_end_alike_with_any_number_of_threads() -> Result<()> {
    let world = world()?;
    for backend in backends() {
        for model in ["base", "gpt2"] {
            let mut first = None;
            for threads in [1, 2, 3, 8] {
                let out = format!("{backend}-{model}-{threads}");
                world.run(&format!(
                    "reward --backend {backend} --model {model} --data train.jsonl --max-steps 4 --batch 8 \
                     --learning-rate 3e-3 --max-length 128 --threads {threads} --output {out}"
                ))?;
                let weights = world.read(&format!("{out}/model.safetensors"))?;
                let same = *first.get_or_insert_with(|| weights.clone()) == weights;
                ensure!(same, "{backend}, {model}: the weights differ after 4 steps on {threads} threads");
            }
        }
    }
    Ok(())
}
