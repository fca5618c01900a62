//! Moments in slices: what each process reads as a run is saved and resumed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use pcrm_core::collective::{Exchange, Joined};
use pcrm_core::optim::{AdamWConfig, BUCKET_BYTES, SlicedAdamW, StoredStates};
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::{Backend, Collective, DType, Device, HostTensor, Params, Tensor};
use pcrm_rl::checkpoint::{self, CheckpointPart, MAIN, State};
use pcrm_rl::learner::Learner;
use pcrm_rl::objective::Batch;
use pcrm_rl::options::TrainerConfig;
use tempfile::tempdir;

use crate::hall::together;
use crate::planted::{config, model, objective, pairs, reward};
use crate::support::random;

/// Parameters of two chunks each; with two processes and one bucket, each process holds the moments of one layer.
const SHAPES: [(&str, &[usize]); 2] = [("layers.0.w", &[64, 128]), ("layers.1.w", &[128, 64])];

fn open(plugin: &BackendPlugin, collective: &Arc<dyn Collective>) -> Result<Joined<dyn Backend>> {
    Ok(Joined { collective: Arc::clone(collective), backend: (plugin.open)(Device::Cpu.into())? })
}

/// Stored moments that record which of them are read.
struct Noted {
    states: BTreeMap<String, HostTensor>,
    read: Mutex<Vec<String>>,
}

impl StoredStates for Noted {
    fn state(&self, name: &str) -> pcrm_core::Result<Option<Cow<'_, HostTensor>>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
        self.states.state(name)
    }
}

fn stored() -> Result<BTreeMap<String, HostTensor>> {
    let mut states = BTreeMap::new();
    for (at, (name, shape)) in SHAPES.into_iter().enumerate() {
        states.insert(format!("mean.{name}"), random(shape, 10 + at as u64)?);
        states.insert(format!("variance.{name}"), random(shape, 20 + at as u64)?);
    }
    Ok(states)
}

/// Protects: a process reads only the moments of its own slice, each once, and all processes together restore the
/// stored moments. A missing one is named.
#[test]
fn a_process_restores_its_own_slice() -> Result<()> {
    for plugin in registry::all::<BackendPlugin>() {
        for (world, bytes, names) in [(1, BUCKET_BYTES, 4), (2, BUCKET_BYTES, 2), (2, 1, 4)] {
            let (read, _) = together(world, |collective| {
                let backend = open(plugin, &collective)?;
                let mut params = Params::default();
                for (name, shape) in SHAPES {
                    params.insert(name, backend.upload(&random(shape, 1)?, DType::F32)?);
                }
                let config = AdamWConfig::default();
                let mut optimiser =
                    SlicedAdamW::with_buckets(config, &params, Arc::clone(&collective), bytes)?;
                let noted = Noted { states: stored()?, read: Mutex::default() };
                optimiser.restore(&noted, 3)?;
                ensure!(optimiser.state()? == noted.states && optimiser.steps() == 3, "other moments");
                let read = noted.read.into_inner().unwrap_or_else(PoisonError::into_inner);
                let mut lacking = stored()?;
                lacking.remove(read.last().context("nothing was read")?);
                let said = optimiser.restore(&lacking, 3).err().context("a moment is missing")?.to_string();
                ensure!(said.contains("is missing from the optimiser's state"), "{said}");
                Ok(read)
            })?;
            let title = format!("{}, {world} processes, buckets of {bytes} bytes", plugin.name);
            let mut all: Vec<&String> = read.iter().flatten().collect();
            ensure!(read.iter().all(|read| read.len() == names), "{title}: {read:?}");
            all.sort();
            all.dedup();
            ensure!(all.len() == 4, "{title}: {read:?}");
        }
    }
    Ok(())
}

/// A process that can be made to lose what it gathers.
#[derive(Debug)]
struct Forgetful {
    inner: Arc<dyn Collective>,
    forgets: AtomicBool,
}

impl Collective for Forgetful {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn world(&self) -> usize {
        self.inner.world()
    }

    fn all_to_all(&self, parts: &Tensor) -> pcrm_core::Result<Tensor> {
        self.inner.all_to_all(parts)
    }

    fn start_all_to_all(&self, parts: &Tensor) -> pcrm_core::Result<Box<dyn Exchange>> {
        self.inner.start_all_to_all(parts)
    }

    fn all_gather(&self, own: &Tensor) -> pcrm_core::Result<Tensor> {
        let all = self.inner.all_gather(own)?;
        match self.forgets.load(Ordering::Relaxed) {
            true => all.narrow(0, 0, 1),
            false => Ok(all),
        }
    }

    fn gather(&self, own: &[u8]) -> pcrm_core::Result<Vec<Vec<u8>>> {
        self.inner.gather(own)
    }

    fn leave(&self, reason: &str) {
        self.inner.leave(reason);
    }

    fn sent(&self) -> u64 {
        self.inner.sent()
    }
}

/// Protects: as a checkpoint is written, only the first process reads the moments of all slices: the others work
/// without the gathered values. All of them resume from the file with the moments that they had.
#[test]
fn one_process_reads_the_moments_of_a_checkpoint() -> Result<()> {
    for plugin in registry::all::<BackendPlugin>() {
        println!("on {}, cpu", plugin.name);
        let dir = tempdir()?;
        let dir = dir.path();
        together(2, |collective| {
            let is_first = collective.is_first();
            let forgetful = Arc::new(Forgetful { inner: collective, forgets: AtomicBool::new(false) });
            let collective: Arc<dyn Collective> = forgetful.clone();
            let backend = open(plugin, &collective)?;
            let trainer = TrainerConfig { lanes: 2, ..config() };
            let make =
                || Learner::new(&backend, &model(&backend, 1)?, &trainer, 3).map_err(anyhow::Error::from);
            let mut learner = make()?;
            let data = pairs(8, 1, r#"{"kind": "fixed", "bound": 3}"#)?;
            let items: Vec<usize> = (0..8).collect();
            let batch = Batch { data: &data, items: &items, micro_tokens: trainer.micro_tokens };
            learner.step(&backend, &objective(reward()), &batch, 0.0)?;
            let moments = learner.moments()?;
            let mut state = State { step: 1, ..State::default() };
            forgetful.forgets.store(!is_first, Ordering::Relaxed);
            let parts: [(&str, &dyn CheckpointPart); 1] = [(MAIN, &learner)];
            let saved = checkpoint::save(collective.as_ref(), dir, &parts, &mut state);
            forgetful.forgets.store(false, Ordering::Relaxed);
            let saved = saved?;
            let (path, state) = checkpoint::newest(dir)?.context("no checkpoint")?;
            ensure!(path == saved, "{} is not {}", path.display(), saved.display());
            let mut resumed = make()?;
            checkpoint::restore(&path, &state, &mut [(MAIN, &mut resumed)])?;
            ensure!(resumed.moments()? == moments, "the moments are not those that were saved");
            ensure!(
                moments.values().any(|host| host.to_f32().iter().any(|value| *value != 0.0)),
                "all are 0"
            );
            Ok(())
        })?;
    }
    Ok(())
}
