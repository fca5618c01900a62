//! The options that every verb shares: backend, device, element type, threads, seed.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::{Backend, DType, Device, Engine, Place};

use crate::plugins;

/// Where and how to compute, and where options come from. The config file is read before options are (see `config.rs`).
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Machine")]
pub struct Machine {
    /// Tensor library to compute with; `pcrm plugins` lists those compiled in
    #[arg(long, value_name = "NAME", default_value = plugins::DEFAULT_BACKEND)]
    pub backend: String,
    /// Device to compute on: cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Element type to compute in: f32 or bf16
    #[arg(long, default_value = "f32")]
    pub dtype: DType,
    /// Threads to compute with [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// TOML file with any options of the verb by the same name; what is typed overrides it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Machine {
    /// Sets the number of threads and opens the backend.
    ///
    /// # Errors
    /// An unknown backend, a device or element type that it does not serve.
    pub fn open(&self) -> Result<Box<dyn Backend>> {
        if let Some(threads) = self.threads {
            ensure!(threads > 0, "--threads 0: expected a positive number");
            // A pool that is there already stays; then the number was set by whoever made it.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        }
        let backend = self.engine()?.open().context("--device")?;
        let served = backend.dtypes();
        ensure!(
            served.contains(&self.dtype),
            "--dtype {}: the {} backend on {} serves {}{}",
            self.dtype,
            self.backend,
            self.device,
            served.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            if self.dtype == DType::BF16 { "; --backend tch serves bf16 on every device" } else { "" }
        );
        Ok(backend)
    }

    /// The backend, unopened.
    ///
    /// # Errors
    /// An unknown backend.
    pub fn engine(&self) -> Result<Engine> {
        let plugin = registry::find::<BackendPlugin>(&self.backend).with_context(|| {
            let absent = plugins::ABSENT_BACKENDS.iter().find(|(name, _)| *name == self.backend);
            match absent {
                Some((name, how)) => {
                    format!("--backend: this build is without {name} ({how} makes one with it)")
                }
                None => "--backend".to_owned(),
            }
        })?;
        let place = Place { device: self.device, threads: self.threads };
        Ok(Engine { open: plugin.open, place, dtype: self.dtype })
    }
}
