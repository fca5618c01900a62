//! Helpers of the suite: seeded data, comparison, gradients.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use pcrm_core::{Backend, DType, HostTensor, Params, Tensor};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// A chat template that renders the turns of users and assistants and leaves out all others.
pub const TWO_ROLES: &str = "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}<|im_start|>{{ m.role }}\n\
                             {{ m.content }}<|im_end|>\n{% endif %}{% endfor %}\
                             {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Returns the file or folder of this name beside the suite. A suite that runs elsewhere than it was built
/// finds it through the variable that cargo sets.
pub fn beside(name: &str) -> PathBuf {
    let built = || env!("CARGO_MANIFEST_DIR").into();
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(built)).join(name)
}

/// Returns the optional data folder, or prints a note that its test is skipped.
pub fn shared_data(name: &str) -> Option<PathBuf> {
    let default = || beside("../../shared/data");
    let path = std::env::var_os("PCRM_DATA").map_or_else(default, PathBuf::from).join(name);
    if !path.exists() {
        println!("nothing checked: {} is absent; set PCRM_DATA to the data folder", path.display());
        return None;
    }
    Some(path)
}

/// Runs a script beside the suite with the Python named by `PCRM_PYTHON`, which has torch, transformers and
/// peft. Without that variable, prints a note and returns false.
pub fn run_python(script: &str, arguments: &[&std::ffi::OsStr]) -> Result<bool> {
    let Some(python) = std::env::var_os("PCRM_PYTHON") else {
        println!("nothing checked by {script}: set PCRM_PYTHON to a Python with transformers and peft");
        return Ok(false);
    };
    let out = std::process::Command::new(&python)
        .arg(beside(script))
        .args(arguments)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .with_context(|| format!("PCRM_PYTHON={}", python.display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(out.status.success(), "{script} failed:\n{}\n{}", text(&out.stdout), text(&out.stderr));
    println!("{}", text(&out.stdout).trim_end());
    Ok(true)
}

/// Returns seeded numbers between −1 and 1, none within 0.05 of 0, so that finite differences avoid corners.
pub fn random(shape: &[usize], seed: u64) -> Result<HostTensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || loop {
        let x: f32 = rng.random_range(-1.0..1.0);
        if x.abs() > 0.05 {
            return x;
        }
    };
    Ok(HostTensor::f32(shape, (0..shape.iter().product()).map(|_| draw()).collect())?)
}

/// Returns seeded token ids.
pub fn tokens(length: usize, vocabulary: u32, rng: &mut impl Rng) -> Vec<u32> {
    (0..length).map(|_| rng.random_range(0..vocabulary)).collect()
}

/// Fails unless |got − want| ≤ tolerance·(1 + |want|) everywhere.
pub fn check_close(what: &str, got: &[f32], want: &[f32], tolerance: f32) -> Result<()> {
    ensure!(got.len() == want.len(), "{what}: {} elements, expected {}", got.len(), want.len());
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let off = (got - want).abs();
        ensure!(off <= tolerance * (1.0 + want.abs()), "{what}: element {at} is {got}, expected {want}");
    }
    Ok(())
}

/// Fails unless ‖got − want‖ ≤ tolerance·‖want‖ (plus a floor of `tolerance` for gradients that cancel).
pub fn check_norm(what: &str, got: &[f32], want: &[f32], tolerance: f64) -> Result<()> {
    ensure!(got.len() == want.len(), "{what}: {} elements, expected {}", got.len(), want.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let off = norm(&mut got.iter().zip(want).map(|(got, want)| f64::from(got - want)));
    let size = norm(&mut want.iter().map(|want| f64::from(*want)));
    ensure!(off <= tolerance * (size + 0.1), "{what}: off by {off:e} of {size:e}");
    Ok(())
}

/// A function of tensors.
pub type Function<'a> = &'a dyn Fn(&[Tensor]) -> pcrm_core::Result<Tensor>;

/// Returns the value of f, and the gradients of Σ w·f for fixed random weights w.
pub fn value_and_gradients(
    backend: &dyn Backend,
    inputs: &[HostTensor],
    f: Function<'_>,
) -> Result<(Vec<f32>, Vec<Vec<f32>>)> {
    let mut params = Params::default();
    let mut operands = Vec::new();
    for (at, input) in inputs.iter().enumerate() {
        let operand = backend.upload(input, DType::F32)?.variable();
        params.insert(at.to_string(), operand.clone());
        operands.push(operand);
    }
    let value = f(&operands)?;
    let loss = weighted(&value)?;
    let gradients = backend.backward(&loss, &params)?;
    let read = |at: usize| Ok(gradients.get(&at.to_string())?.read()?.into_f32());
    Ok((value.read()?.into_f32(), (0..inputs.len()).map(read).collect::<Result<_>>()?))
}

fn weighted(value: &Tensor) -> Result<Tensor> {
    let weights = value.constant(&random(&value.shape(), 99)?)?;
    Ok(value.mul(&weights)?.sum_all()?)
}

/// Compares the gradients of f with central differences.
pub fn check_gradients(backend: &dyn Backend, inputs: &[HostTensor], f: Function<'_>) -> Result<()> {
    const STEP: f32 = 1e-2;
    let (_, gradients) = value_and_gradients(backend, inputs, f)?;
    let loss_at = |inputs: &[HostTensor]| -> Result<f64> {
        let operands = inputs.iter().map(|input| backend.upload(input, DType::F32));
        let value = f(&operands.collect::<pcrm_core::Result<Vec<_>>>()?)?.read()?.into_f32();
        let weights = random(&[value.len()], 99)?.into_f32();
        Ok(value.iter().zip(weights).map(|(value, weight)| f64::from(*value) * f64::from(weight)).sum())
    };
    for (at, (input, gradient)) in inputs.iter().zip(&gradients).enumerate() {
        let values = input.to_f32();
        for element in 0..values.len() {
            let moved = |by: f32| -> Result<f64> {
                let mut values = values.clone();
                values[element] += by;
                let mut inputs = inputs.to_vec();
                inputs[at] = HostTensor::f32(input.shape(), values)?;
                loss_at(&inputs)
            };
            let slope = (moved(STEP)? - moved(-STEP)?) / (2.0 * f64::from(STEP));
            let what = format!("operand {at}, element {element}");
            check_close(&what, &[gradient[element]], &[slope as f32], 4e-3)?;
        }
    }
    Ok(())
}

/// Checks that every interval in a JSON document names its method and sample size and has a width, and
/// returns the number of intervals. Intervals without draws must be absent. Objects with `low`, `high` and a
/// count are bins.
pub fn check_intervals(value: &Value) -> Result<usize> {
    let mut found = 0;
    match value {
        Value::Object(fields) => {
            let has = |name: &str| fields.contains_key(name);
            let is_bin = has("count") || has("counts") || has("pairs");
            if has("low") && has("high") && !is_bin {
                let number = |name: &str| value[name].as_f64().with_context(|| format!("{name}: {value}"));
                ensure!(has("value") || has("mean"), "an interval without a value: {value}");
                let fewest = match value["method"].as_str() {
                    Some("bootstrap") => 39.0,
                    Some("student_t") => 3.0,
                    Some("wilson" | "normal") => 1.0,
                    _ => bail!("an interval without a method: {value}"),
                };
                ensure!(number("n")? >= fewest, "an interval of too few samples: {value}");
                ensure!(
                    number("level")? > 0.0 && number("low")? < number("high")?,
                    "an empty interval: {value}"
                );
                found += 1;
            }
            if has("difference") {
                let drawn = value["difference"]["method"].is_string();
                ensure!(!drawn || value["p"].is_number(), "an interval without its p-value: {value}");
                ensure!(
                    drawn || value["p"].is_null() || value["p"] == 1.0,
                    "a p-value without draws: {value}"
                );
            }
            for part in fields.values() {
                found += check_intervals(part)?;
            }
        }
        Value::Array(values) => {
            for part in values {
                found += check_intervals(part)?;
            }
        }
        _ => {}
    }
    Ok(found)
}
