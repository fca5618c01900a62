//! Options shared by every command: backend, device, data type, threads, seed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use pcrm_core::model::{Loading, ScoringModel};
use pcrm_core::quant::Quantisation;
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::text::Tokenizer;
use pcrm_core::{Backend, DType, Device, Engine, Place};

use crate::numbers::{positive, whole};
use crate::plugins;
use crate::usage::usage;

/// Where and how to compute, the seed, and the config file (read before the options are parsed, see
/// `config.rs`).
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Machine")]
pub struct Machine {
    /// Seed all random numbers with N
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole::<u64>, help_heading = "Reproducing")]
    pub seed: u64,
    /// Read options from this TOML file, under the same names; typed options override it
    #[arg(long, value_name = "FILE", help_heading = "Reproducing")]
    pub config: Option<PathBuf>,
    /// Compute with this backend; `pcrm plugins` lists those compiled in
    #[arg(long, value_name = "NAME", default_value = plugins::DEFAULT_BACKEND)]
    pub backend: String,
    /// Compute on this device: cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Compute in this data type: f32 or bf16
    #[arg(long, default_value = "f32")]
    pub dtype: DType,
    /// Compute with N threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
}

/// Parses a number of threads. Each thread needs a stack and a queue, hence the limit.
fn threads(text: &str) -> Result<usize, String> {
    const MOST: usize = 1024;
    positive::<usize>(text).and_then(|threads| match threads <= MOST {
        true => Ok(threads),
        false => Err(format!("expected at most {MOST} threads")),
    })
}

impl Machine {
    /// Sets the number of threads and opens the backend.
    ///
    /// # Errors
    /// Fails if the backend is unknown, or does not serve the device or data type.
    pub fn open(&self) -> Result<Box<dyn Backend>> {
        if let Some(threads) = self.threads {
            // An existing pool stays: the embedding program chose its size.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        }
        let backend = usage(self.engine())?.open().context("--device")?;
        usage(self.check_dtype(backend.as_ref()))?;
        Ok(backend)
    }

    /// Loads a trained reward model and its tokenizer onto an open backend; `quantise` quantises its weights.
    ///
    /// # Errors
    /// Fails as [`ScoringModel::open_as`] does.
    pub fn trained(
        &self,
        backend: &dyn Backend,
        dir: &Path,
        quantise: Option<Quantisation>,
    ) -> Result<(ScoringModel, Tokenizer)> {
        let how = Loading::frozen(backend, self.dtype).quantised(quantise);
        ScoringModel::open_as(dir, how).with_context(|| format!("--model {}", dir.display()))
    }

    fn check_dtype(&self, backend: &dyn Backend) -> Result<()> {
        let served = backend.dtypes();
        ensure!(
            served.contains(&self.dtype),
            "--dtype {}: the {} backend on {} supports {}{}",
            self.dtype,
            self.backend,
            self.device,
            served.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            if self.dtype == DType::BF16 { "; --backend tch supports bf16 on every device" } else { "" }
        );
        Ok(())
    }

    /// Returns the backend without opening it.
    ///
    /// # Errors
    /// Fails if the backend is unknown.
    pub fn engine(&self) -> Result<Engine> {
        let plugin = registry::find::<BackendPlugin>(&self.backend).with_context(|| {
            let absent = plugins::ABSENT_BACKENDS.iter().find(|(name, _)| *name == self.backend);
            match absent {
                Some((name, how)) => {
                    format!("--backend: this build has no {name} (build with {how})")
                }
                None => "--backend".to_owned(),
            }
        })?;
        let place = Place { device: self.device, threads: self.threads };
        Ok(Engine { open: plugin.open, place, dtype: self.dtype })
    }
}
