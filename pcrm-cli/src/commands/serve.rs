//! `pcrm serve`: serves reward models over the HTTP protocols of OpenRLHF, vLLM, SGLang and TEI.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use pcrm_core::model::Scores;
use pcrm_core::{Backend, Device, digest};

use crate::dataset::length;
use crate::hub::{Hub, Weights};
use crate::machine::Machine;
use crate::numbers::{positive, real};
use crate::quantize::QuantizeArgs;
use crate::serve::{
    self, BatchLimits, Close, Connections, Dialect, Facts, Folder, Load, Model, Range, Rules, Setup,
};
use crate::usage::usage;

/// Options of `pcrm serve`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ServeArgs {
    /// Serve the reward model in this folder or Hub repository (org/name); NAME=DIR names it differently from
    /// its folder. Repeat for more models: requests that name no model get the first one
    #[arg(long, value_name = "[NAME=]DIR", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    model: Vec<String>,
    /// Listen on this address; 0.0.0.0 for all addresses of this machine
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Listen on this port; 0 for any free port, printed in the first line
    #[arg(long, value_name = "N", default_value_t = 8000)]
    port: u16,
    #[command(flatten)]
    protection: Protection,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    batching: Batching,
    #[command(flatten)]
    storage: QuantizeArgs,
    #[command(flatten)]
    hub: Hub,
    #[command(flatten)]
    machine: Machine,
}

/// Access control and limits.
#[derive(Debug, Args)]
#[command(next_help_heading = "Protection")]
struct Protection {
    /// Require the header `Authorization: Bearer TOKEN` in requests [default: PCRM_API_KEY of the
    /// environment]. Other users can see the command line, so prefer the environment or --api-key-file.
    /// Repeat for more tokens
    #[arg(long, value_name = "TOKEN", action = clap::ArgAction::Append)]
    api_key: Vec<String>,
    /// Read tokens from this file, one per line
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Listen beyond this machine without a token: anyone who reaches the port can use the model
    #[arg(long)]
    open_to_all: bool,
    /// Encrypt with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Use this private key for the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Answer at most N requests at once; further ones get 429 with Retry-After
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = positive::<usize>)]
    max_concurrent_requests: usize,
    /// Accept at most N texts per request
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = positive::<usize>)]
    max_client_batch_size: usize,
    /// Accept bodies of at most N bytes
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = positive::<usize>)]
    max_body_bytes: usize,
    /// Keep at most N connections open; further ones wait
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = positive::<usize>)]
    max_connections: usize,
    /// Close connections that send no complete request head within N seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = positive::<u64>)]
    header_timeout: u64,
    /// Refuse bodies that take longer than N seconds to arrive
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = positive::<u64>)]
    body_timeout: u64,
    /// Keep answering requests in flight for up to N seconds after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = positive::<u64>)]
    drain_timeout: u64,
}

/// Options for reading and answering requests.
#[derive(Debug, Args)]
#[command(next_help_heading = "Requests")]
struct Reading {
    /// Return raw scores on every path, whatever a request asks for
    #[arg(long)]
    raw: bool,
    /// Read /v1/classify and /v1/rerank, which two servers define differently, as this server does
    #[arg(long, value_name = "SERVER", default_value = "vllm")]
    dialect: Dialect,
    /// Append the end token of training answers (EOS, or the chat template's ending) to these texts
    #[arg(long, value_name = "TEXTS", default_value = "openrlhf")]
    close: Close,
    /// Truncate long texts on the left even if a request does not ask for it [default: refuse them]
    #[arg(long)]
    auto_truncate: bool,
    /// Read at most N tokens of a text [default: all positions of the model]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    max_length: Option<usize>,
    /// Compare scores with this range in the metrics [default: the range noted in the model's folder]
    #[arg(long, value_names = ["LOW", "HIGH"], num_args = 2, value_parser = real)]
    range: Option<Vec<f64>>,
}

/// Options for batching.
#[derive(Debug, Args)]
#[command(next_help_heading = "Batches")]
struct Batching {
    /// Compute at most N tokens at once, counting shared beginnings once. Scores do not depend on it, waiting
    /// times do [default: 4096 on a CPU, 16384 on a GPU]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    max_batch_tokens: Option<usize>,
    /// Compute at most N texts at once
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = positive::<usize>)]
    max_batch_requests: usize,
    /// Wait N milliseconds for more texts before computing a batch
    #[arg(long, value_name = "MS", default_value_t = 0)]
    batch_wait: u64,
}

const EXAMPLES: &str = "\
Examples:
  pcrm serve --model runs/rm
  curl localhost:8000/get_reward --json '{\"query\": [\"Hi! Hello.\"]}'
  PCRM_API_KEY=secret pcrm serve --model helpful=runs/rm --model safe=runs/rm2 --host 0.0.0.0 --tls-cert c.pem --tls-key k.pem

SIGTERM answers the requests in flight and stops; SIGHUP reloads the models' folders and the certificate.";

/// The environment variable that may hold the token.
const KEY: &str = "PCRM_API_KEY";

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
    // Loading and computing run on different threads.
    let backend = Mutex::new(backend);
    let load: Load = Box::new(move |name, dir| {
        let Ok(backend) = backend.lock() else { bail!("the backend is unusable: an earlier load panicked") };
        load(name, dir, (&machine.0, machine.1), backend.as_ref(), max_length, range.as_ref())
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
    (machine, storage): (&Machine, QuantizeArgs),
    backend: &dyn Backend,
    max_length: Option<usize>,
    range: Option<&Range>,
) -> Result<Model> {
    let (model, tokenizer) = machine.trained(backend, dir, storage.for_model(dir))?;
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
        let mut names = Vec::new();
        let mut seen = BTreeSet::new();
        for given in &self.model {
            let (name, dir) = match given.split_once('=') {
                // A folder's name may contain the equals sign.
                Some((name, dir)) if !Path::new(given).exists() => (Some(name), Path::new(dir)),
                _ => (None, Path::new(given.as_str())),
            };
            let found = self.hub.model_or_adapter("--model", dir, Weights::Read)?;
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

impl Protection {
    /// Returns all tokens.
    fn tokens(&self) -> Result<Vec<String>> {
        let mut tokens = self.api_key.clone();
        if tokens.is_empty() {
            tokens.extend(std::env::var(KEY).ok().filter(|token| !token.is_empty()));
        }
        if let Some(path) = &self.api_key_file {
            let text =
                fs::read_to_string(path).with_context(|| format!("--api-key-file {}", path.display()))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let before = tokens.len();
            tokens.extend(lines.map(str::to_owned));
            ensure!(tokens.len() > before, "--api-key-file {}: has no token", path.display());
        }
        if tokens.iter().any(|token| token.trim().is_empty()) {
            return usage(Err(anyhow::anyhow!("--api-key (or PCRM_API_KEY): the token is empty")));
        }
        Ok(tokens)
    }

    fn connections(&self) -> Connections {
        Connections {
            most: self.max_connections,
            head_time: Duration::from_secs(self.header_timeout),
            drain_time: Duration::from_secs(self.drain_timeout),
        }
    }
}
