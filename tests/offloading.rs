//! Moments in 8 bits and in host memory, and stochastic rounding: they have the bits of the host's computation on any
//! device.

use anyhow::{Context, Result, ensure};
use pcrm_core::kernels::{AdamWStep, QuantisedMoment, QuantisedSlots, RandomBits};
use pcrm_core::optim::dynamic::{BLOCK, Moment, maps};
use pcrm_core::optim::{AdamWConfig, Optimiser, Rule, StatePlace, WeightType};
use pcrm_core::slices::adamw8;
use pcrm_core::{Backend, DType, Gradients, HostTensor, Params, Tensor};

use crate::binary::World;
use crate::subject::{Subject, every_backend};
use crate::support::random;

fn step(step: u64) -> AdamWStep {
    let (lr, eps) = (1e-2, 1e-8);
    AdamWStep { lr, beta1: 0.9, beta2: 0.999, eps, weight_decay: 0.1, step, grad_scale: 0.5 }
}

fn same(what: &str, got: &[f32], want: &[f32]) -> Result<()> {
    let equal = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    ensure!(got.len() == want.len() && got.iter().zip(want).all(equal), "{what} differ");
    Ok(())
}

fn upload(backend: &Subject, values: &[f32]) -> Result<Tensor> {
    Ok(backend.upload(&HostTensor::vector(values.to_vec()), DType::F32)?)
}

/// Protects: every backend updates parameters with 8-bit moments to the host's bits: parts of blocks, several blocks,
/// blocks of zeros, and numbers that are not finite.
#[test]
fn updates_with_8_bit_moments_have_the_bits_of_the_host() -> Result<()> {
    every_backend(|backend| {
        for size in [5, BLOCK, 9 * BLOCK + 37] {
            let mut weights = random(&[size], 1)?.into_f32();
            let (mut mean, mut variance) = (Moment::zeros(size), Moment::zeros(size));
            let param = upload(backend, &weights)?;
            let slots = QuantisedSlots {
                mean: QuantisedMoment::upload(mean.clone(), &param)?,
                variance: QuantisedMoment::upload(variance.clone(), &param)?,
                maps: backend.upload(&maps()?, DType::F32)?,
                param,
            };
            for at in 1..=4 {
                let mut gradient = random(&[size], 10 + at)?.into_f32();
                for (place, x) in gradient.iter_mut().enumerate() {
                    *x *= 10_f32.powi(-(place as i32 % 9));
                }
                match at {
                    2 => gradient.iter_mut().take(BLOCK).for_each(|x| *x = 0.0),
                    4 => (gradient[1], gradient[size - 1]) = (f32::NAN, f32::INFINITY),
                    _ => {}
                }
                adamw8::step(&step(at), &mut weights, &gradient, [&mut mean, &mut variance]);
                let gradient = upload(backend, &gradient)?;
                gradient.kernels().adamw_8bit(&step(at), &slots, &gradient)?;
                let what = |what| format!("{what} of {size} elements after step {at}");
                same(&what("weights"), &slots.param.read()?.into_f32(), &weights)?;
                for (got, want) in [(&slots.mean, &mean), (&slots.variance, &variance)] {
                    let got = got.read()?;
                    same(&what("magnitudes"), &got.largest, &want.largest)?;
                    ensure!(got.codes == want.codes, "{}", what("codes"));
                }
            }
            let (short, whole) = (upload(backend, &[0.0])?, upload(backend, &weights)?);
            ensure!(short.kernels().adamw_8bit(&step(1), &slots, &short).is_err(), "a short gradient");
            let codes = QuantisedMoment { codes: whole.clone(), largest: slots.mean.largest.clone() };
            let wrong = QuantisedSlots { mean: codes, ..slots };
            let said =
                whole.kernels().adamw_8bit(&step(1), &wrong, &whole).err().context("f32 codes")?.to_string();
            ensure!(said.contains("u8 codes"), "{said}");
        }
        Ok(())
    })
}

/// Protects: every backend rounds at random to the host's bits, also in two parts, and keeps infinity and NaN.
#[test]
fn rounding_at_random_has_the_bits_of_the_host() -> Result<()> {
    every_backend(|backend| {
        let mut values = random(&[5000], 3)?.into_f32();
        values[..5].copy_from_slice(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-42, -3.4e38]);
        let bits = RandomBits { own: 0x9E37_79B9_7F4A_7C15, step: 7, first: 0 };
        let want: Vec<f32> =
            values.iter().zip(0..).map(|(value, at)| bits.round(at, *value).to_f32()).collect();
        let value = upload(backend, &values)?;
        for cuts in [&[0, 5000][..], &[0, 1031, 5000]] {
            let into = upload(backend, &vec![0.0; 5000])?.cast(DType::BF16)?;
            for cut in cuts.windows(2) {
                let (part, length) = (RandomBits { first: cut[0] as u64, ..bits }, cut[1] - cut[0]);
                let (from, to) = (value.narrow(0, cut[0], length)?, into.narrow(0, cut[0], length)?);
                value.kernels().round_at_random(&from, &to, &part)?;
            }
            same("weights", &into.cast(DType::F32)?.read()?.into_f32(), &want)?;
        }
        Ok(())
    })
}

/// Protects: vectors in host memory pass through the device part by part, and keep what changes there.
#[test]
fn vectors_in_host_memory_keep_changes() -> Result<()> {
    every_backend(|backend| {
        let like = upload(backend, &[0.0])?;
        let parts: Vec<_> = (1..8).map(|part| vec![(DType::F32, 3 * part), (DType::U8, part)]).collect();
        let mut memory = like.kernels().offload(&like, &parts)?;
        for pass in 1..=3 {
            let mut visited = Vec::new();
            memory.each(&mut |part, vectors| {
                visited.push(part);
                let [numbers, codes] = vectors else {
                    return Err(pcrm_core::Error::invalid("part", "is short"));
                };
                numbers.assign(&numbers.affine(1.0, (part + 1) as f64)?)?;
                codes.assign(&codes.constant(&HostTensor::bytes(vec![pass; part + 1]))?)
            })?;
            ensure!(visited == [0, 1, 2, 3, 4, 5, 6]);
        }
        for part in 0..7 {
            let numbers = memory.read(part, 0)?.into_f32();
            ensure!(numbers == vec![3.0 * (part + 1) as f32; 3 * (part + 1)], "part {part}: {numbers:?}");
            ensure!(memory.read(part, 1)? == HostTensor::bytes(vec![3; part + 1]), "codes of part {part}");
        }
        memory.write(2, 0, HostTensor::vector((0..9_u8).map(f32::from).collect()))?;
        let mut seen = Vec::new();
        memory.each(&mut |part, vectors| {
            if part == 2 {
                seen = vectors[0].read()?.into_f32();
            }
            Ok(())
        })?;
        ensure!(seen == (0..9_u8).map(f32::from).collect::<Vec<_>>(), "{seen:?}");
        ensure!(memory.write(2, 0, HostTensor::vector(vec![0.0; 8])).is_err(), "a short vector");
        ensure!(memory.write(2, 1, HostTensor::vector(vec![0.0; 3])).is_err(), "floats for codes");
        ensure!(memory.read(7, 0).is_err() && memory.read(0, 2).is_err(), "a vector that is not there");
        Ok(())
    })
}

/// A parameter of two pieces in host memory, one with 8-bit moments in one piece, and two with f32 moments.
const SHAPES: [(&str, &[usize]); 4] =
    [("large", &[2060, 2048]), ("middle", &[70, 64]), ("small", &[4, 6]), ("vector", &[9])];

fn start(backend: &Subject, dtype: DType) -> Result<Params> {
    let mut params = Params::default();
    for (at, (name, shape)) in SHAPES.into_iter().enumerate() {
        let dtype = if shape.len() > 1 { dtype } else { DType::F32 };
        params.insert(name, backend.upload(&random(shape, at as u64)?, DType::F32)?.cast(dtype)?);
    }
    Ok(params)
}

/// Protects: moments in host memory change no bit of weights and states, for every optimiser and type of weights, and
/// states continue in either memory.
#[test]
fn moments_in_host_memory_change_no_bit() -> Result<()> {
    every_backend(|backend| {
        let mut steps = Vec::new();
        for seed in 0..3 {
            let mut gradients = Gradients::default();
            for (at, (name, shape)) in SHAPES.into_iter().enumerate() {
                gradients
                    .insert(name, backend.upload(&random(shape, 100 + 10 * seed + at as u64)?, DType::F32)?);
            }
            steps.push(gradients);
        }
        for (rule, weights) in [
            (Rule::AdamW, WeightType::F32),
            (Rule::AdamW, WeightType::Bf16Kahan),
            (Rule::AdamW, WeightType::Bf16Stochastic),
            (Rule::AdamW8bit, WeightType::F32),
            (Rule::AdamW8bit, WeightType::Bf16Stochastic),
        ] {
            let config = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
            let dtype = if weights == WeightType::F32 { DType::F32 } else { DType::BF16 };
            let run = |first: StatePlace, then: StatePlace| -> Result<_> {
                let params = start(backend, dtype)?;
                let make = |place| Optimiser::keeping(place, rule, config, weights, 3, &params);
                let mut optimiser = make(first)?;
                for gradients in &steps[..2] {
                    optimiser.step(gradients, 0.01, 0.5)?;
                }
                let mut other = make(then)?;
                other.restore(&optimiser.state()?, optimiser.steps())?;
                other.step(&steps[2], 0.01, 0.5)?;
                let mut left = other.state()?;
                for (name, param) in params.iter() {
                    left.insert(name.to_owned(), param.read()?);
                }
                Ok(left)
            };
            let want = run(StatePlace::Device, StatePlace::Device)?;
            for (first, then) in
                [(StatePlace::Host, StatePlace::Device), (StatePlace::Device, StatePlace::Host)]
            {
                let got = run(first, then)?;
                ensure!(got.keys().eq(want.keys()), "{rule}, {weights}: other states");
                for (name, want) in &want {
                    ensure!(got[name] == *want, "{rule}, {weights}, {first} then {then}: other {name}");
                }
            }
            for (name, param) in start(backend, dtype)?.iter() {
                ensure!(want[name] != param.read()?, "{rule}, {weights}: {name} does not move");
            }
        }
        Ok(())
    })
}

/// Protects: a run with its moments in host memory has the bits of one without, and either continues from a checkpoint
/// of the other; an optimiser without such moments refuses the option.
#[test]
fn runs_with_moments_in_host_memory_resume_to_the_bit() -> Result<()> {
    let world = World::new()?;
    for (rule, weights) in [("adamw", "bf16-kahan"), ("adamw-8bit", "f32")] {
        let train = |output: &str, steps: u32, more: &str| {
            world.run(&format!(
                "reward --model base --data test.jsonl --optimizer {rule} --weights {weights} --schedule constant \
                 --batch 4 --learning-rate 1e-3 --max-steps {steps} --epochs 9 --output {output} {more}"
            ))
        };
        let (device, host, mixed) =
            (format!("{rule}-device"), format!("{rule}-host"), format!("{rule}-mixed"));
        train(&device, 6, "")?;
        train(&host, 6, "--optimizer-states host")?;
        train(&mixed, 3, "--optimizer-states host")?;
        train(&mixed, 6, "--resume")?;
        let file = |run: &str| world.read(&format!("{run}/model.safetensors"));
        ensure!(file(&device)? == file(&host)?, "{rule}: other weights with moments in host memory");
        ensure!(file(&device)? == file(&mixed)?, "{rule}: other weights after resuming without the option");
    }
    let refused =
        "reward --model base --data test.jsonl --output no --optimizer adafactor --optimizer-states host";
    world.refuses(refused, &["--optimizer-states host: has no effect with --optimizer adafactor"])?;
    let unknown = "reward --model base --data test.jsonl --output no --optimizer-states disk";
    world.refuses(unknown, &["expected device or host"])
}
