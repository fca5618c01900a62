//! AdamW, clipping and schedules against torch and transformers; `golden/optim` has the script.

use std::fs;

use anyhow::{Context, Result};
use pcrm_core::optim::{AdamW, AdamWConfig, clip_scale};
use pcrm_core::schedule::{Schedule, Shape};
use pcrm_core::{Backend, DType, Gradients, HostTensor, Params};
use serde_json::Value;

use crate::subject::every_backend;
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
