//! The cost of training: time and memory of a few real steps, extrapolated to an epoch.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use pcrm_core::Backend;
use pcrm_core::data::survey::{Finding, Severity};
use pcrm_core::model::parameters::Parameter;
use pcrm_core::model::{self, Head, ModelConfig, RewardModel};
use pcrm_core::optim::{Rule, WeightType};
use pcrm_core::quant::Quantisation;
use pcrm_core::schedule::Shape;
use pcrm_rl::learner::Learner;
use pcrm_rl::objective::Batch;
use pcrm_rl::objective::reward::{Reward, RewardConfig};
use pcrm_rl::options::TrainerConfig;
use pcrm_rl::order::{BatchSize, Order, epoch};
use pcrm_rl::pairs::Pairs;
use serde::Serialize;

use super::InspectArgs;
use crate::progress::bar;

/// The largest number of timed steps.
const STEPS: usize = 4;
/// No further step starts after this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// The settings of --micro-tokens to compare.
const MICRO: [usize; 5] = [1024, 2048, 4096, 8192, 16384];
const MIB: f64 = (1 << 20) as f64;

/// The cost of training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// The backend, its device and the data type of the computation.
    pub on: String,
    /// The number of parameters.
    pub parameters: usize,
    /// Weights, gradients and both AdamW moments in f32, in MiB: the defaults.
    pub state_mib: f64,
    /// Memory of weights, gradients and optimiser states by --optimizer and --weights.
    pub states: Vec<States>,
    /// Memory of a frozen base under adapters, by its storage.
    pub bases: Vec<BaseStorage>,
    /// Pairs or sets per step.
    pub batch: usize,
    /// The largest number of tokens computed at once.
    pub micro_tokens: usize,
    /// The number of timed steps.
    pub steps: usize,
    /// Tokens computed per second.
    pub tokens_per_second: f64,
    /// Seconds per step of average size.
    pub seconds_per_step: f64,
    /// Steps per epoch.
    pub steps_per_epoch: usize,
    /// Seconds per epoch, without evaluations and checkpoints.
    pub seconds_per_epoch: f64,
    /// Peak memory of this process, including the largest batch of the first epoch; known only on the CPU.
    pub peak_mib: Option<f64>,
    /// Memory available to this process, including what it already holds.
    pub available_mib: Option<f64>,
    /// Memory with other settings of --micro-tokens, extrapolated from two batches.
    pub by_micro_tokens: Vec<ByMicroTokens>,
    /// The cost of an epoch with other settings of --max-length.
    pub by_length: Vec<ByLength>,
}

/// The memory of weights, gradients and optimiser states, at the rate of a large matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct States {
    /// The value of --optimizer.
    pub optimizer: String,
    /// The value of --weights.
    pub weights: String,
    /// Bytes per parameter.
    pub bytes: f64,
    /// Bytes of moments per parameter, part of `bytes`; `--optimizer-states host` moves them to the host.
    pub moments: f64,
    /// The total for all parameters of this model, in MiB.
    pub mib: f64,
}

/// The memory of a frozen base under adapters (LoRA).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BaseStorage {
    /// The value of --dtype, or of --quantize beside --dtype bf16.
    pub storage: String,
    /// Bytes per parameter, on average over this model.
    pub bytes: f64,
    /// The total for this model, in MiB.
    pub mib: f64,
}

impl BaseStorage {
    /// Returns all settings for a model of these parameters. Matrices that are not quantised are bf16, and
    /// vectors f32.
    fn of(list: &[Parameter]) -> Vec<Self> {
        let size = |parameter: &Parameter| parameter.shape.iter().product::<usize>() as u64;
        let all: u64 = list.iter().map(size).sum();
        let bytes = |method: Option<Quantisation>, element: u64| -> u64 {
            let of = |parameter: &Parameter| match (method, &parameter.shape[..]) {
                (Some(method), [rows, columns]) if parameter.linear => method.bytes([*rows, *columns]),
                (_, [_, _, ..]) => element * size(parameter),
                _ => 4 * size(parameter),
            };
            list.iter().map(of).sum()
        };
        let storage = |storage: String, bytes: u64| Self {
            storage,
            bytes: bytes as f64 / all.max(1) as f64,
            mib: bytes as f64 / MIB,
        };
        let quantised = [Quantisation::Int8, Quantisation::Nf4, Quantisation::Nf4Double];
        [storage("f32".to_owned(), bytes(None, 4)), storage("bf16".to_owned(), bytes(None, 2))]
            .into_iter()
            .chain(quantised.map(|method| storage(method.to_string(), bytes(Some(method), 2))))
            .collect()
    }
}

impl States {
    /// Returns all combinations of settings for this number of parameters.
    fn of(parameters: usize) -> Vec<Self> {
        const GRADIENT: f64 = 4.0;
        let rules = [Rule::AdamW, Rule::AdamW8bit, Rule::Adafactor];
        let types = [WeightType::F32, WeightType::Bf16Kahan, WeightType::Bf16Stochastic];
        let state = |(rule, weights): (Rule, WeightType)| {
            let moments = rule.bytes();
            let bytes = GRADIENT + moments + weights.bytes() as f64;
            let mib = bytes * parameters as f64 / MIB;
            Self { optimizer: rule.to_string(), weights: weights.to_string(), bytes, moments, mib }
        };
        rules.into_iter().flat_map(|rule| types.map(|weights| (rule, weights))).map(state).collect()
    }
}

/// Memory for one setting of --micro-tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ByMicroTokens {
    /// The setting.
    pub micro_tokens: usize,
    /// The expected peak.
    pub peak_mib: f64,
}

/// The cost of an epoch for one setting of --max-length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ByLength {
    /// The setting.
    pub max_length: usize,
    /// The number of pairs within it.
    pub pairs: usize,
    /// Seconds per epoch on these pairs; `None` if some of them were not read.
    pub seconds_per_epoch: Option<f64>,
}

/// Runs a few training steps, including the largest batch of the first epoch.
///
/// # Errors
/// Fails if weights cannot be loaded or the backend fails.
pub fn measure(
    args: &InspectArgs,
    backend: &dyn Backend,
    config: &ModelConfig,
    dir: &Path,
    pairs: &Pairs,
) -> Result<Cost> {
    let (machine, steps) = (&args.machine, &args.steps);
    let list = model::parameters::parameters(config, &[Head::Score]);
    let model = match steps.random_init {
        true => RewardModel::random(backend, config.clone(), machine.dtype, machine.seed)?,
        false => RewardModel::load_to_train(backend, dir, machine.dtype, machine.seed)?,
    };
    let parameters = model.params().elements();
    let config = TrainerConfig { learning_rate: 1e-6, schedule: Shape::Constant, ..TrainerConfig::default() };
    let learner = Learner::new(backend, &model, &config, u64::MAX)?;
    let mut stepper = Stepper { backend, learner, micro_tokens: steps.micro_tokens, pairs };

    let batches =
        epoch(pairs.unique_tokens(), BatchSize::Pairs(steps.batch), Order::Shuffled, machine.seed, 0);
    let tokens = |sets: &[usize]| sets.iter().map(|set| pairs.unique_tokens()[*set]).sum::<usize>();
    let Some(largest) = batches.iter().max_by_key(|sets| tokens(sets)) else {
        anyhow::bail!("no pairs are left to train on");
    };
    let on_cpu = machine.device == pcrm_core::Device::Cpu;
    let bar = bar(STEPS as u64 + 2, "measuring");
    // A part of the largest batch first, then all of it: two points of memory over tokens.
    let part = &largest[..largest.len().div_ceil(4)];
    let mut peaks = Vec::new();
    for sets in [part, largest] {
        stepper.step(sets)?;
        bar.inc(1);
        peaks.extend(peak_mib().filter(|_| on_cpu).map(|peak| (tokens(sets).min(steps.micro_tokens), peak)));
    }
    let (begun, mut made, mut seen) = (Instant::now(), 0, 0);
    for sets in batches.iter().cycle().take(STEPS) {
        stepper.step(sets)?;
        bar.inc(1);
        made += 1;
        seen += tokens(sets);
        if begun.elapsed() > PATIENCE {
            break;
        }
    }
    let tokens_per_second = seen as f64 / begun.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let all: usize = pairs.unique_tokens().iter().sum();
    let seconds_per_epoch = all as f64 / tokens_per_second;
    Ok(Cost {
        on: format!("{}, {}, {}", backend.name(), machine.device, machine.dtype),
        parameters,
        state_mib: 16.0 * parameters as f64 / MIB,
        states: States::of(parameters),
        bases: BaseStorage::of(&list),
        batch: steps.batch,
        micro_tokens: steps.micro_tokens,
        steps: made,
        tokens_per_second,
        seconds_per_step: seconds_per_epoch / batches.len() as f64,
        steps_per_epoch: batches.len(),
        seconds_per_epoch,
        peak_mib: peaks.last().map(|(_, peak)| *peak),
        available_mib: available_mib().filter(|_| on_cpu),
        by_micro_tokens: by_micro_tokens(&peaks, tokens(largest)),
        by_length: Vec::new(),
    })
}

/// Returns the line through two peaks, at settings that the largest batch can fill.
fn by_micro_tokens(peaks: &[(usize, f64)], largest: usize) -> Vec<ByMicroTokens> {
    let [(few, low), (many, high)] = peaks[..] else { return Vec::new() };
    // If loading the weights took more memory than a step, the peaks show no slope.
    if many <= few || high <= low {
        return Vec::new();
    }
    let slope = (high - low) / (many - few) as f64;
    let filled = MICRO.iter().position(|micro| *micro >= largest).map_or(MICRO.len(), |at| at + 1);
    let at = |micro: &usize| ByMicroTokens {
        micro_tokens: *micro,
        peak_mib: (high + slope * (*micro.min(&largest) as f64 - many as f64)).max(0.0),
    };
    MICRO[..filled].iter().map(at).collect()
}

impl Cost {
    /// Returns a warning if memory is short.
    pub fn findings(&self) -> Vec<Finding> {
        let (Some(peak), Some(available)) = (self.peak_mib, self.available_mib) else { return Vec::new() };
        if peak < 0.9 * available {
            return Vec::new();
        }
        vec![Finding::new(
            "memory",
            Severity::Warning,
            format!("training takes up to {peak:.0} MiB, and the machine has {available:.0} MiB available"),
            "A smaller --micro-tokens needs less memory and gives the same result",
        )]
    }
}

struct Stepper<'a> {
    backend: &'a dyn Backend,
    learner: Learner<RewardModel>,
    micro_tokens: usize,
    pairs: &'a Pairs,
}

impl Stepper<'_> {
    fn step(&mut self, sets: &[usize]) -> Result<()> {
        let config = RewardConfig { ignore_margin: true, ..RewardConfig::default() };
        let batch = Batch { data: self.pairs, items: sets, micro_tokens: self.micro_tokens };
        self.learner.step(self.backend, &Reward { config, schedule: None }, &batch, 0.0)?;
        Ok(self.backend.synchronize()?)
    }
}

/// Returns the peak resident memory of this process, if the system reports it.
fn peak_mib() -> Option<f64> {
    kib_of("/proc/self/status", "VmHWM:")
}

/// Returns the memory the system has available plus what this process already holds.
fn available_mib() -> Option<f64> {
    Some(kib_of("/proc/meminfo", "MemAvailable:")? + kib_of("/proc/self/status", "VmRSS:")?)
}

fn kib_of(file: &str, key: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

#[cfg(test)]
mod tests;
