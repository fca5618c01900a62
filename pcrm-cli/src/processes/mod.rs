//! Several processes that train one model: how they meet, which of them prints, and how a failed one ends the
//! others.

mod environment;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use pcrm_core::collective::{Joined, Meeting};
use pcrm_core::{Backend, Collective, Device};

use self::environment::Launched;
use crate::chain::in_full;
use crate::machine::Machine;
use crate::numbers::positive;
use crate::usage::usage;
use crate::{plugins, progress};

/// The default number of lanes of a run with several processes, if they can share that many equally.
const LANES: usize = 8;

/// The default time that a process has to answer, in seconds.
const TIMEOUT: u64 = 600;

/// Options for runs with several processes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Several processes")]
pub struct ProcessArgs {
    /// Compute every step in N parts, dealt to the processes of the run (started by torchrun, srun, mpirun or
    /// pcrm launch). Runs with the same number of lanes give the same bits with any number of processes
    /// [default: 8, or 1 for one process]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    lanes: Option<usize>,
    /// End all processes if one does not answer for this long
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT, value_parser = positive::<u64>)]
    collective_timeout: u64,
}

impl ProcessArgs {
    /// Returns the options, each with whether it differs from its default.
    pub fn changed(&self) -> [(&'static str, bool); 2] {
        [("lanes", self.lanes.is_some()), ("collective-timeout", self.collective_timeout != TIMEOUT)]
    }

    /// Returns the number of lanes.
    pub fn lanes(&self) -> usize {
        let world = launched().ok().flatten().map_or(1, |launched| launched.world);
        self.lanes.unwrap_or_else(|| lanes_of(world))
    }

    /// Opens the backend of a training run, and joins the run's other processes if a launcher started
    /// several.
    ///
    /// # Errors
    /// Fails as [`Machine::open`] does, if the environment is inconsistent, or if other processes do not
    /// join.
    pub fn open(&self, machine: &Machine) -> Result<Box<dyn Backend>> {
        let Some(launched) = usage(launched())? else { return machine.open() };
        if launched.world == 1 {
            return machine.open();
        }
        let own = Machine { device: device(machine.device, launched.local_rank), ..machine.clone() };
        usage((|| {
            ensure!(
                machine.backend == plugins::DISTRIBUTED_BACKEND,
                "--backend {}: {} processes train together on {} only",
                machine.backend,
                launched.world,
                plugins::DISTRIBUTED_BACKEND
            );
            Ok(())
        })())?;
        let backend = own.open()?;
        if launched.rank > 0 {
            progress::set_quiet(true);
        }
        let collective = plugins::join(&Meeting {
            host: launched.store.0.clone(),
            port: launched.store.1,
            serves: launched.rank == 0 && !launched.agent_serves,
            prefix: format!("pcrm/{}/{}", launched.run.0, launched.run.1),
            rank: launched.rank,
            world: launched.world,
            timeout: Duration::from_secs(self.collective_timeout),
        })?;
        let collective = JOINED.get_or_init(|| collective);
        Ok(Box::new(Joined { collective: Arc::clone(collective), backend }))
    }
}

/// Returns the default number of lanes for this number of processes.
pub fn lanes_of(world: usize) -> usize {
    match world {
        1 => 1,
        world if LANES.is_multiple_of(world) => LANES,
        world => world,
    }
}

/// The group that this process has joined.
static JOINED: OnceLock<Arc<dyn Collective>> = OnceLock::new();

/// Returns the place of this process in a run of several; `None` if no launcher started it.
fn launched() -> Result<Option<Launched>> {
    environment::read(|name| std::env::var(name).ok())
}

/// Gives every process on a machine its own GPU.
fn device(asked: Device, local_rank: usize) -> Device {
    match asked {
        Device::Cuda(0) => Device::Cuda(local_rank),
        other => other,
    }
}

/// Returns true if a run continues the one in its folder: on request, or because a launcher restarted it
/// after a failure.
pub fn resumes(asked: bool) -> bool {
    asked || launched().ok().flatten().is_some_and(|launched| launched.run.1 > 0)
}

/// Leaves the group after the run has ended in all processes.
pub fn ended() {
    if let Some(collective) = JOINED.get() {
        collective.leave("its part of the run has ended");
    }
}

/// Reports the error that ends this process to the other processes and the launcher.
pub fn failed(error: &anyhow::Error) {
    let message = in_full(error);
    if let Some(collective) = JOINED.get() {
        collective.leave(&message);
    }
    let Ok(Some(Launched { error_file: Some(path), .. })) = launched() else { return };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let timestamp = now.as_secs().to_string();
    let record = serde_json::json!({"message": {"message": message, "extraInfo": {"timestamp": timestamp}}});
    // The launcher works without the file, so an error in writing it is ignored.
    let _ = std::fs::write(&path, record.to_string()).context("TORCHELASTIC_ERROR_FILE");
}

/// Returns true for the process that reports how its run ended: the first, or the only one.
pub fn speaks() -> bool {
    !launched().is_ok_and(|launched| launched.is_some_and(|launched| launched.rank > 0))
}

/// Returns the prefix of error messages in a run of several processes.
pub fn speaker() -> String {
    match launched() {
        Ok(Some(launched)) if launched.world > 1 => format!("rank {}: ", launched.rank),
        _ => String::new(),
    }
}
