//! AdamW, clipping and schedules against torch and transformers; `golden/optim` has the script.

use std::fs;

use anyhow::{Context, Result, ensure};
use pcrm_core::optim::{AdamW, AdamWConfig, Optimiser, Rule, WeightType, clip_scale, dynamic};
use pcrm_core::schedule::{Schedule, Shape};
use pcrm_core::{Backend, DType, Gradients, HostTensor, Params};
use serde_json::Value;

use crate::binary::World;
use crate::subject::{Subject, every_backend};
use crate::support::{beside, check_close};

fn golden() -> Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(beside("golden/optim/optim.json"))?)?)
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).map(|x| x as f32).collect()
}

#[test]
fn schedules_are_those_of_transformers() -> Result<()> {
    let golden = golden()?;
    let schedules = golden["schedules"].as_object().context("schedules")?;
    anyhow::ensure!(!schedules.is_empty());
    for (name, schedule) in schedules {
        let shape = match name.split('_').next() {
            Some("constant") => Shape::Constant,
            Some("linear") => Shape::Linear,
            _ => Shape::Cosine,
        };
        let warmup = schedule["warmup_steps"].as_u64().context("warmup_steps")?;
        let total = schedule["total_steps"].as_u64().context("total_steps")?;
        let ours = Schedule { peak: 1.0, shape, warmup, total };
        let want = floats(&schedule["factors"]);
        let got: Vec<f32> = (0..want.len() as u64).map(|step| ours.rate(step) as f32).collect();
        check_close(name, &got, &want, 1e-6)?;
    }
    Ok(())
}

#[test]
fn clipped_adamw_follows_torch() -> Result<()> {
    let golden = golden()?;
    let float = |value: &Value| value.as_f64().context("a number");
    every_backend(|backend| {
        for trajectory in golden["trajectories"].as_array().context("trajectories")? {
            for (at, group) in golden["groups"].as_array().context("groups")?.iter().enumerate() {
                let config = AdamWConfig {
                    beta1: float(&group["betas"][0])?,
                    beta2: float(&group["betas"][1])?,
                    eps: float(&group["eps"])?,
                    weight_decay: float(&group["weight_decay"])?,
                };
                let mut params = Params::default();
                for param in group["params"].as_array().context("params")? {
                    let shape: Vec<usize> = floats(&param["shape"]).iter().map(|x| *x as usize).collect();
                    let host = HostTensor::f32(shape, floats(&param["value"]))?;
                    params
                        .insert(param["name"].as_str().context("name")?, backend.upload(&host, DType::F32)?);
                }
                let mut optimiser = AdamW::new(config, &params)?;
                let steps = trajectory["steps"].as_array().context("steps")?;
                for (step, grads) in steps.iter().zip(golden["grads"].as_array().context("grads")?) {
                    let (mut all, mut own) = (Gradients::default(), Gradients::default());
                    for (name, values) in grads.as_object().context("grads")? {
                        let gradient = HostTensor::vector(floats(values));
                        all.insert(name.clone(), backend.upload(&gradient, DType::F32)?);
                        if params.contains(name) {
                            let shaped = HostTensor::f32(params.get(name)?.shape(), floats(values))?;
                            own.insert(name.clone(), backend.upload(&shaped, DType::F32)?);
                        }
                    }
                    let norm = all.global_norm()?;
                    backend.check_close(
                        "norm",
                        &[norm as f32],
                        &[float(&step["norm_before"])? as f32],
                        1e-6,
                    )?;
                    let scale = clip_scale(norm, float(&golden["max_norm"])?);
                    optimiser.step(&own, float(&step["lr"][at])?, scale)?;
                    for (name, param) in params.iter() {
                        backend.check_close(
                            name,
                            &param.read()?.into_f32(),
                            &floats(&step["params"][name]),
                            2e-6,
                        )?;
                    }
                }
            }
        }
        Ok(())
    })
}

/// Returns element i of the tensors in `make_states.py`: sin(a·i + b)·c.
fn wave(size: usize, [a, b, c]: [f64; 3]) -> Vec<f32> {
    (0..size).map(|at| ((a * at as f64 + b).sin() * c) as f32).collect()
}

/// Returns the gradient of a step, with very different magnitudes.
fn slope(size: usize, step: u64) -> Vec<f32> {
    let spread = |at: usize| 10_f64.powi(-(at as i32 % 5)) as f32;
    wave(size, [0.37, step as f64, 1.0 + step as f64])
        .into_iter()
        .enumerate()
        .map(|(at, x)| x * spread(at))
        .collect()
}

/// Returns the initial parameters of these shapes, with matrices in this type.
fn start(backend: &Subject, shapes: &[(&str, &[usize])], dtype: DType) -> Result<Params> {
    let mut params = Params::default();
    for (name, shape) in shapes {
        let size = shape.iter().product();
        let host = HostTensor::f32(*shape, wave(size, [0.11, 0.5, 0.3]))?;
        let dtype = if shape.len() > 1 { dtype } else { DType::F32 };
        params.insert(*name, backend.upload(&host, DType::F32)?.cast(dtype)?);
    }
    Ok(params)
}

fn slopes(backend: &Subject, params: &Params, step: u64) -> Result<Gradients> {
    let mut gradients = Gradients::default();
    for (name, param) in params.iter() {
        let host = HostTensor::f32(param.shape(), slope(param.size(), step))?;
        gradients.insert(name, backend.upload(&host, DType::F32)?);
    }
    Ok(gradients)
}

fn states() -> Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(beside("golden/optim/states.json"))?)?)
}

fn config() -> AdamWConfig {
    AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() }
}

fn floats_of(params: &Params, name: &str) -> Result<Vec<f32>> {
    Ok(params.get(name)?.read()?.into_f32())
}

/// Checks the first elements and the sum of a parameter after a step.
fn check_shown(backend: &Subject, what: &str, got: &[f32], want: &Value, tolerance: f32) -> Result<()> {
    backend.check_close(what, &got[..got.len().min(8)], &floats(&want["first"]), tolerance)?;
    let sum: f64 = got.iter().map(|x| f64::from(*x)).sum();
    let off = (sum - want["sum"].as_f64().context("sum")?).abs();
    ensure!(off < f64::from(tolerance) * got.len() as f64, "{what}: the sum is off by {off}");
    Ok(())
}

/// Protects: the maps of 8-bit moments equal those of bitsandbytes, and so do steps with them.
#[test]
fn adamw_in_8_bits_follows_bitsandbytes() -> Result<()> {
    let golden = states()?;
    for (name, map) in [("signed", &*dynamic::SIGNED), ("unsigned", &*dynamic::UNSIGNED)] {
        check_close(name, map.values(), &floats(&golden["maps"][name]), 1e-7)?;
    }
    every_backend(|backend| {
        let params = start(backend, &[("a", &[64, 70])], DType::F32)?;
        let mut optimiser = Optimiser::new(Rule::AdamW8bit, config(), WeightType::F32, 0, &params)?;
        for (step, want) in (1..).zip(golden["adamw_8bit"].as_array().context("steps")?) {
            optimiser.step(&slopes(backend, &params, step)?, 0.01, 0.5)?;
            check_shown(backend, &format!("step {step}"), &floats_of(&params, "a")?, want, 2e-5)?;
        }
        Ok(())
    })
}

/// Protects: Adafactor's steps equal those of transformers, for matrices and vectors.
#[test]
fn adafactor_follows_transformers() -> Result<()> {
    let golden = states()?;
    every_backend(|backend| {
        let params = start(backend, &[("matrix", &[6, 5]), ("vector", &[7])], DType::F32)?;
        let mut optimiser = Optimiser::new(Rule::Adafactor, config(), WeightType::F32, 0, &params)?;
        for step in 1..=12 {
            optimiser.step(&slopes(backend, &params, step)?, 0.01, 0.5)?;
            for name in ["matrix", "vector"] {
                let want = &golden["adafactor"][name][step as usize - 1];
                check_shown(
                    backend,
                    &format!("{name}, step {step}"),
                    &floats_of(&params, name)?,
                    want,
                    5e-6,
                )?;
            }
        }
        Ok(())
    })
}

/// Protects: every optimiser with every type of weights continues from a checkpoint as if uninterrupted, to
/// the bit; states of another optimiser are refused.
#[test]
fn every_rule_goes_on_to_the_bit() -> Result<()> {
    let shapes: [(&str, &[usize]); 3] = [("large", &[70, 64]), ("small", &[4, 6]), ("vector", &[9])];
    every_backend(|backend| {
        for rule in [Rule::AdamW, Rule::AdamW8bit, Rule::Adafactor] {
            for weights in [WeightType::F32, WeightType::Bf16Kahan, WeightType::Bf16Stochastic] {
                let dtype = if weights == WeightType::F32 { DType::F32 } else { DType::BF16 };
                let make = |params: &Params| Optimiser::new(rule, config(), weights, 3, params);
                let params = start(backend, &shapes, dtype)?;
                let mut optimiser = make(&params)?;
                for step in 1..=3 {
                    optimiser.step(&slopes(backend, &params, step)?, 0.01, 1.0)?;
                }
                let mut copy = Params::default();
                for (name, param) in params.iter() {
                    copy.insert(name, param.copied(param.dtype())?);
                }
                let mut other = make(&copy)?;
                other.restore(&optimiser.state()?, optimiser.steps())?;
                for step in 4..=6 {
                    optimiser.step(&slopes(backend, &params, step)?, 0.01, 1.0)?;
                    other.step(&slopes(backend, &copy, step)?, 0.01, 1.0)?;
                }
                for (name, _) in shapes {
                    let what = format!("{rule}, {weights}, {name}");
                    let (one, two) = (floats_of(&params, name)?, floats_of(&copy, name)?);
                    ensure!(one == two, "{what}");
                    let still = start(backend, &shapes, dtype)?;
                    ensure!(one != floats_of(&still, name)?, "{what} does not move");
                }
                ensure!(other.state()? == optimiser.state()?, "{rule}, {weights}");
                let next = if rule == Rule::Adafactor { Rule::AdamW } else { Rule::Adafactor };
                let mut wrong = Optimiser::new(next, config(), weights, 3, &copy)?;
                let said = wrong.restore(&optimiser.state()?, 6).err().context("another rule")?.to_string();
                ensure!(said.contains("is missing from the optimiser's state"), "{said}");
            }
        }
        Ok(())
    })
}

/// Protects: steps that plain bf16 would lose accumulate with both rounding methods, and weights in bf16 are
/// refused if none were requested.
#[test]
fn small_steps_are_not_lost_in_bf16() -> Result<()> {
    every_backend(|backend| {
        for weights in [WeightType::Bf16Kahan, WeightType::Bf16Stochastic] {
            let mut params = Params::default();
            let host = HostTensor::f32([64, 64], vec![1.0; 4096])?;
            params.insert("a", backend.upload(&host, DType::F32)?.cast(DType::BF16)?);
            let mut optimiser = Optimiser::new(Rule::AdamW, AdamWConfig::default(), weights, 1, &params)?;
            let mut gradients = Gradients::default();
            gradients.insert("a", backend.upload(&host, DType::F32)?);
            for _ in 0..200 {
                // Steps of 1e-4; the next smaller bf16 number than 1 is 1 - 0.0039.
                optimiser.step(&gradients, 1e-4, 1.0)?;
            }
            let after = floats_of(&params, "a")?;
            let mean = after.iter().map(|x| f64::from(*x)).sum::<f64>() / 4096.0;
            ensure!((mean - 0.98).abs() < 0.002, "{weights}: {mean}");
            let refused = Optimiser::new(Rule::AdamW, AdamWConfig::default(), WeightType::F32, 1, &params);
            let said = refused.err().context("bf16")?.to_string();
            ensure!(said.contains("a trained parameter must be f32"), "{said}");
        }
        Ok(())
    })
}

/// Protects: command-line runs with each optimiser and type of weights learn, and continue from a checkpoint
/// to the bit; the saved models can be scored; adapters refuse a type of weights.
#[test]
fn runs_with_every_rule_resume_to_the_bit() -> Result<()> {
    let world = World::new()?;
    for (rule, weights) in [
        ("adamw-8bit", "f32"),
        ("adafactor", "bf16-kahan"),
        ("adamw-8bit", "bf16-stochastic"),
        ("adamw", "bf16-kahan"),
    ] {
        let name = format!("{rule}-{weights}");
        let train = |output: &str, steps: u32, more: &str| {
            world.run(&format!(
                "reward --model base --data test.jsonl --optimizer {rule} --weights {weights} \
                 --schedule constant --batch 4 --learning-rate 1e-3 --max-steps {steps} --epochs 9 \
                 --output {output} {more}"
            ))
        };
        let (whole, parts) = (format!("{name}-whole"), format!("{name}-parts"));
        train(&whole, 6, "")?;
        train(&parts, 3, "")?;
        train(&parts, 6, "--resume")?;
        let file = |run: &str| world.read(&format!("{run}/model.safetensors"));
        ensure!(file(&whole)? == file(&parts)?, "{name}: the resumed run has other weights");
        ensure!(file(&whole)? != world.read("base/model.safetensors")?, "{name}: nothing was learned");
        world.run(&format!("score --model {whole} --data test.jsonl --output scored.jsonl"))?;
    }
    world.refuses(
        "reward --model base --data test.jsonl --lora-r 2 --weights bf16-kahan --output no",
        &["--weights bf16-kahan: adapters are trained in f32"],
    )
}
