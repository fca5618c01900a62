//! Gradients that are exchanged in buckets while the backward pass computes others, on every backend's CPU.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use pcrm_core::collective::{Exchange, Joined};
use pcrm_core::model::{ModelConfig, RewardModel};
use pcrm_core::optim::{BUCKET_BYTES, StatePlace};
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::{Backend, Collective, DType, Device, HostTensor, Params, Ready, Tensor};
use pcrm_rl::learner::Learner;
use pcrm_rl::objective::Batch;
use pcrm_rl::objective::reward::RewardConfig;
use pcrm_rl::options::TrainerConfig;
use serde_json::json;

use crate::hall::together;
use crate::planted::{config, objective, pairs};

/// A number of lanes that three processes cannot share as equal subtrees: two have two nodes, and one has
/// one.
const LANES: usize = 6;
/// Few enough tokens that a lane has several micro-batches.
const MICRO_TOKENS: usize = 24;

/// A reward model of many chunks.
fn model(backend: &dyn Backend) -> Result<RewardModel> {
    let config = json!({
        "model_type": "llama", "vocab_size": 32, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 31,
        "max_position_embeddings": 64, "initializer_range": 0.1, "architectures": ["LlamaForCausalLM"]
    });
    let config =
        ModelConfig::from_json(config.as_object().cloned().context("an object")?, Path::new("wide"))?;
    Ok(RewardModel::random(backend, config, DType::F32, 4)?)
}

fn open(plugin: &BackendPlugin, collective: &Arc<dyn Collective>) -> Result<Joined<dyn Backend>> {
    Ok(Joined { collective: Arc::clone(collective), backend: (plugin.open)(Device::Cpu.into())? })
}

/// The state of a process after training: weights and moments by name, and the loss and norm of each step.
type Left = (BTreeMap<String, Vec<u32>>, Vec<(u64, u64)>);

fn bits(value: HostTensor) -> Vec<u32> {
    value.into_f32().into_iter().map(f32::to_bits).collect()
}

fn weights(params: &Params) -> Result<BTreeMap<String, Vec<u32>>> {
    params.iter().map(|(name, param)| Ok((name.to_owned(), bits(param.read()?)))).collect()
}

/// Trains on steps of many items, of one, and of many; a loss that is not finite in between changes nothing.
fn trained(
    plugin: &BackendPlugin,
    collective: &Arc<dyn Collective>,
    bytes: usize,
    place: StatePlace,
) -> Result<Left> {
    let backend = open(plugin, collective)?;
    let mut data = pairs(40, 1, r#"{"kind": "fixed", "bound": 3}"#)?;
    data.sets[20].comparisons[0].margin = Some(f32::INFINITY);
    let trainer = TrainerConfig { lanes: LANES, bucket_bytes: bytes, optimizer_states: place, ..config() };
    let mut learner = Learner::new(&backend, &model(&backend)?, &trainer, 3)?;
    let objective = objective(RewardConfig { ignore_margin: false, ..RewardConfig::default() });
    let mut lines = Vec::new();
    for (step, items) in [0..14, 14..15, 15..29, 24..39].into_iter().enumerate() {
        let items: Vec<usize> = items.collect();
        let batch = Batch { data: &data, items: &items, micro_tokens: MICRO_TOKENS };
        if !items.contains(&20) {
            let (made, update) = learner.step(&backend, &objective, &batch, step as f64 / 4.0)?;
            lines.push((made.metrics.summary().loss().to_bits(), update.grad_norm.to_bits()));
            continue;
        }
        let before = weights(learner.model.params())?;
        let error = learner.step(&backend, &objective, &batch, step as f64 / 4.0).err();
        ensure!(error.as_ref().is_some_and(pcrm_rl::Error::is_divergence), "{error:?}");
        ensure!(weights(learner.model.params())? == before, "the weights changed");
    }
    let mut left = weights(learner.model.params())?;
    left.extend(learner.moments()?.into_iter().map(|(name, moment)| (name, bits(moment))));
    Ok((left, lines))
}

/// Protects: the size of buckets and the number of processes change no bit: with several micro-batches and
/// lanes, with unequal nodes, in steps that leave processes without items, and after a loss that is not
/// finite, which all processes notice together.
#[test]
fn buckets_and_processes_change_no_bit() -> Result<()> {
    for plugin in registry::all::<BackendPlugin>() {
        println!("on {}, cpu", plugin.name);
        let run = |world, bytes| {
            together(world, |collective| trained(plugin, &collective, bytes, StatePlace::Device))
        };
        let (alone, _) = run(1, BUCKET_BYTES)?;
        // The nodes of the process with the most of them, in each of four steps.
        for (world, nodes) in [(2, 1), (3, 2)] {
            for bytes in [1, 3 * 4 * 4096 * world, BUCKET_BYTES] {
                let (left, exchanges) = run(world, bytes)?;
                for (rank, left) in left.iter().enumerate() {
                    ensure!(left.1 == alone[0].1, "rank {rank} of {world}, {bytes} bytes: other figures");
                    for (name, value) in &alone[0].0 {
                        ensure!(
                            left.0[name] == *value,
                            "rank {rank} of {world}, {bytes} bytes: other {name}"
                        );
                    }
                }
                match bytes {
                    BUCKET_BYTES => ensure!(exchanges == 4 * nodes, "{exchanges} exchanges"),
                    _ => ensure!(exchanges >= 3 * 4 * nodes, "{exchanges} exchanges in buckets of {bytes}"),
                }
            }
        }
    }
    Ok(())
}

/// Protects: moments of slices in host memory change no bit of weights, moments and figures.
#[test]
fn slices_in_host_memory_change_no_bit() -> Result<()> {
    for plugin in registry::all::<BackendPlugin>() {
        let run =
            |world, place| together(world, |collective| trained(plugin, &collective, BUCKET_BYTES, place));
        let (want, _) = run(1, StatePlace::Device)?;
        for world in [1, 2] {
            let (left, _) = run(world, StatePlace::Host)?;
            for (rank, left) in left.iter().enumerate() {
                ensure!(left.1 == want[0].1, "{}: rank {rank} of {world}: other figures", plugin.name);
                for (name, value) in &want[0].0 {
                    ensure!(left.0[name] == *value, "{}: rank {rank} of {world}: other {name}", plugin.name);
                }
            }
        }
    }
    Ok(())
}

type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, event: impl Into<String>) {
    log.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(event.into());
}

/// The first of two processes that send the same. It logs exchanges.
#[derive(Debug)]
struct Mirror(Log);

#[derive(Debug)]
struct Mirrored(Log, Tensor);

impl Exchange for Mirrored {
    fn wait(self: Box<Self>) -> pcrm_core::Result<Tensor> {
        note(&self.0, "waited");
        Ok(self.1)
    }
}

impl Collective for Mirror {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        2
    }

    fn all_to_all(&self, parts: &Tensor) -> pcrm_core::Result<Tensor> {
        self.start_all_to_all(parts)?.wait()
    }

    fn start_all_to_all(&self, parts: &Tensor) -> pcrm_core::Result<Box<dyn Exchange>> {
        note(&self.0, "sent");
        Ok(Box::new(Mirrored(Arc::clone(&self.0), parts.clone())))
    }

    fn all_gather(&self, own: &Tensor) -> pcrm_core::Result<Tensor> {
        Tensor::concat(&[own, own], 0)
    }

    fn gather(&self, own: &[u8]) -> pcrm_core::Result<Vec<Vec<u8>>> {
        Ok(vec![own.to_vec(); 2])
    }

    fn leave(&self, _reason: &str) {}

    fn sent(&self) -> u64 {
        0
    }
}

/// A backend that logs its backward passes and the gradients that they complete.
struct Watched(Joined<dyn Backend>, Log);

impl Backend for Watched {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn device(&self) -> Device {
        self.0.device()
    }

    fn dtypes(&self) -> &'static [DType] {
        self.0.dtypes()
    }

    fn upload(&self, host: &HostTensor, dtype: DType) -> pcrm_core::Result<Tensor> {
        self.0.upload(host, dtype)
    }

    fn collective(&self) -> Arc<dyn Collective> {
        self.0.collective()
    }

    fn backward_each(
        &self,
        outputs: &[(&Tensor, &Tensor)],
        params: &Params,
        ready: Ready<'_>,
    ) -> pcrm_core::Result<()> {
        note(&self.1, "begins");
        self.0.backward_each(outputs, params, &mut |name, gradient| {
            note(&self.1, name);
            ready(name, gradient)
        })?;
        note(&self.1, "ends");
        Ok(())
    }
}

/// Protects: all buckets of a step are sent during its last backward pass, the first of them before the pass
/// reaches the lower layers; none is sent before, and none is waited for until the pass has ended.
#[test]
fn buckets_are_sent_during_the_last_backward_pass() -> Result<()> {
    for plugin in registry::all::<BackendPlugin>() {
        println!("on {}, cpu", plugin.name);
        let log = Log::default();
        let collective: Arc<dyn Collective> = Arc::new(Mirror(Arc::clone(&log)));
        let backend = Watched(open(plugin, &collective)?, Arc::clone(&log));
        let data = pairs(8, 1, "none")?;
        let trainer = TrainerConfig { lanes: 2, bucket_bytes: 1, ..config() };
        let mut learner = Learner::new(&backend, &model(&backend)?, &trainer, 1)?;
        let items: Vec<usize> = (0..8).collect();
        let batch = Batch { data: &data, items: &items, micro_tokens: MICRO_TOKENS };
        learner.step(&backend, &objective(crate::planted::reward()), &batch, 0.0)?;
        let log = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let places = |event: &str| -> Vec<usize> {
            log.iter().enumerate().filter(|(_, of)| *of == event).map(|(at, _)| at).collect()
        };
        let [begins, ends, sent, waited] = ["begins", "ends", "sent", "waited"].map(places);
        ensure!(begins.len() > 1, "the step has one micro-batch: {log:?}");
        let (begin, end) = (begins[begins.len() - 1], ends[ends.len() - 1]);
        ensure!(sent.len() > 5, "there are few buckets: {log:?}");
        ensure!(sent.iter().all(|at| (begin..end).contains(at)), "sent outside of the last pass: {log:?}");
        ensure!(waited.len() == sent.len() && waited.iter().all(|at| *at > end), "{log:?}");
        let lower = log.iter().enumerate().filter(|(at, name)| *at > begin && name.contains("layers.0."));
        let lower = lower.map(|(at, _)| at).min().context("no gradient of layer 0")?;
        ensure!(sent[0] < lower, "the first bucket is sent late: {log:?}");
    }
    Ok(())
}
