//! AdamW, clipping and schedules against torch and transformers; the data's script is in `golden/optim`.

use std::fs;

use anyhow::{Context, Result};
use pcrm_core::schedule::{Schedule, Shape};
use serde_json::Value;

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
    let schedules = golden["schedules"].as_array().context("schedules")?;
    anyhow::ensure!(!schedules.is_empty());
    for schedule in schedules {
        let name = schedule["name"].as_str().context("name")?;
        let shape = match name {
            name if name.starts_with("constant") => Shape::Constant,
            name if name.starts_with("linear") => Shape::Linear,
            _ => Shape::Cosine,
        };
        let warmup = schedule["warmup"].as_u64().context("warmup")?;
        let ours = Schedule { peak: 1.0, shape, warmup, total: schedule["total"].as_u64().context("total")? };
        let want = floats(&schedule["factors"]);
        let got: Vec<f32> = (0..want.len() as u64).map(|step| ours.rate(step) as f32).collect();
        check_close(name, &got, &want, 1e-6)?;
    }
    Ok(())
}
