//! `pcrm serve`: serves reward models over the HTTP protocols of OpenRLHF, vLLM, SGLang and TEI.

mod args;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use pcrm_core::model::Scores;
use pcrm_core::{Backend, Device, digest};

pub use self::args::ServeArgs;
use crate::dataset::length;
use crate::hub::Weights;
use crate::machine::Machine;
use crate::quantize::QuantizeArgs;
use crate::serve::{self, BatchLimits, Facts, Folder, Load, Model, Range, Rules, Setup};
use crate::usage::usage;

/// Serves the models until a signal stops it.
///
/// # Errors
/// Fails if options conflict, a folder holds no reward model or the address is in use.
pub fn run(args: &ServeArgs) -> Result<()> {
    let tokens = args.protection.tokens()?;
    usage(args.check(&tokens))?;
    let backend = args.machine.open()?;
    let names = args.names()?;
    let (machine, max_length) = ((args.machine.clone(), args.storage), args.reading.max_length);
    let range = args.reading.range.as_deref().map(|ends| Range::given(ends[0], ends[1]));
    let about = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("backend", backend.name().to_owned()),
        ("device", args.machine.device.to_string()),
        ("dtype", args.machine.dtype.to_string()),
    ];
    // Models are loaded one at a time, on other threads than the one that computes.
    let backend = Mutex::new(backend);
    let load: Load = Box::new(move |name, dir| {
        let Ok(backend) = backend.lock() else { bail!("the backend is unusable: an earlier load panicked") };
        load(name, dir, &machine.0, machine.1, backend.as_ref(), max_length, range.as_ref())
    });
    serve::run(Setup {
        address: SocketAddr::new(args.host, args.port),
        names,
        load,
        tokens,
        rules: args.rules(),
        batches: BatchLimits {
            tokens: args.batch_tokens(),
            sequences: args.batching.max_batch_requests,
            wait: Duration::from_millis(args.batching.batch_wait),
        },
        connections: args.protection.connections(),
        tls: args.protection.tls_cert.clone().zip(args.protection.tls_key.clone()),
        about,
    })
}

/// Loads a model for the server.
fn load(
    name: &str,
    dir: &Path,
    machine: &Machine,
    storage: QuantizeArgs,
    backend: &dyn Backend,
    max_length: Option<usize>,
    range: Option<&Range>,
) -> Result<Model> {
    let (model, tokenizer) = machine.trained(backend, dir, storage.for_model(dir))?;
    // The thread that computes may read the weights before this thread's copies to a GPU have ended.
    backend.synchronize()?;
    let most = length(max_length, model.outline().max_positions, model.outline())?;
    let sha = digest::with_base(dir)?;
    let range = range.cloned().or_else(|| Range::of(model.outline(), dir));
    let folder = Folder { name: name.to_owned(), dir: dir.to_path_buf(), sha, range };
    let facts = Facts::of(model.outline());
    Ok(Model::new(folder, facts, tokenizer, most, Box::new(model)))
}

impl ServeArgs {
    /// Refuses options that conflict.
    fn check(&self, tokens: &[String]) -> Result<()> {
        let is_local = self.host.is_loopback();
        ensure!(
            is_local || !tokens.is_empty() || self.protection.open_to_all,
            "--host {}: other machines can reach this address and no token is set; set one (--api-key-file, \
             or PCRM_API_KEY in the environment) or use --open-to-all",
            self.host
        );
        if let Some([low, high]) = self.reading.range.as_deref() {
            ensure!(
                low.is_finite() && high.is_finite() && low < high,
                "--range {low} {high}: expected LOW below HIGH"
            );
        }
        Ok(())
    }

    /// Returns the names and folders of the models.
    fn names(&self) -> Result<Vec<(String, PathBuf)>> {
        let hub = self.revision.hub();
        let mut names = Vec::new();
        let mut seen = BTreeSet::new();
        for given in &self.model {
            let (name, dir) = match given.split_once('=') {
                // A folder's name may contain the equals sign.
                Some((name, dir)) if !Path::new(given).exists() => (Some(name), Path::new(dir)),
                _ => (None, Path::new(given.as_str())),
            };
            let found = hub.model_or_adapter("--model", dir, Weights::Read)?;
            let own = || match dir.file_name() {
                // The name of a repository includes its owner.
                Some(_) if !dir.exists() => dir.display().to_string(),
                Some(last) => last.to_string_lossy().into_owned(),
                None => "model".to_owned(),
            };
            let name = name.map_or_else(own, str::to_owned);
            usage(match name.is_empty() {
                true => Err(anyhow::anyhow!("--model {given}: the name is empty; expected NAME=DIR")),
                false if !seen.insert(name.clone()) => Err(anyhow::anyhow!(
                    "--model {given}: another model has the name {name:?}; expected NAME=DIR"
                )),
                false => Ok(()),
            })?;
            names.push((name, found));
        }
        Ok(names)
    }

    /// Returns the most tokens per batch.
    fn batch_tokens(&self) -> usize {
        let usual = if self.machine.device == Device::Cpu { 4096 } else { 16_384 };
        self.batching.max_batch_tokens.unwrap_or(usual)
    }

    fn rules(&self) -> Rules {
        Rules {
            requests: self.protection.max_concurrent_requests,
            inputs: self.protection.max_client_batch_size,
            body_bytes: self.protection.max_body_bytes,
            body_time: Duration::from_secs(self.protection.body_timeout),
            batch_tokens: self.batch_tokens(),
            batch_sequences: self.batching.max_batch_requests,
            dialect: self.reading.dialect,
            close: self.reading.close,
            raw: self.reading.raw,
            cut: self.reading.auto_truncate,
        }
    }
}
