//! `pcrm serve`: reward models behind the HTTP protocols of OpenRLHF, vLLM, SGLang and TEI.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use pcrm_core::{Backend, Device, digest};

use crate::dataset::length;
use crate::hub::{Hub, Weights};
use crate::machine::Machine;
use crate::numbers::{positive, real};
use crate::serve::{
    self, BatchLimits, Close, Connections, Dialect, Folder, Load, Model, Range, Rules, Setup,
};
use crate::usage::usage;

/// Options of `pcrm serve`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ServeArgs {
    /// Serve the reward model in this folder, or its repository on the Hugging Face Hub (org/name); NAME=DIR gives it
    /// another name than its folder's. Repeat it for more models: requests that name none get the first
    #[arg(long, value_name = "[NAME=]DIR", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    model: Vec<String>,
    /// Listen on this address; 0.0.0.0 for all of the machine
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Listen on this port; 0 for a free one, which the first line names
    #[arg(long, value_name = "N", default_value_t = 8000)]
    port: u16,
    #[command(flatten)]
    protection: Protection,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    batching: Batching,
    #[command(flatten)]
    hub: Hub,
    #[command(flatten)]
    machine: Machine,
}

/// Who may send what.
#[derive(Debug, Args)]
#[command(next_help_heading = "Protection")]
struct Protection {
    /// Answer only requests with the header `Authorization: Bearer TOKEN` [default: PCRM_API_KEY of the environment]. Others
    /// can see a command line: prefer the environment or --api-key-file. Repeat it for more tokens
    #[arg(long, value_name = "TOKEN", action = clap::ArgAction::Append)]
    api_key: Vec<String>,
    /// Take tokens from this file, one a line
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Listen beyond this machine without a token: whoever reaches the port can use the model
    #[arg(long)]
    open_to_all: bool,
    /// Encrypt with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Answer N requests at once; more get 429 with Retry-After
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = positive::<usize>)]
    max_concurrent_requests: usize,
    /// Take N texts in one request
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = positive::<usize>)]
    max_client_batch_size: usize,
    /// Take bodies of N bytes
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = positive::<usize>)]
    max_body_bytes: usize,
    /// Keep N connections open at once; more wait
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = positive::<usize>)]
    max_connections: usize,
    /// Close connections that send no head of a request for N seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = positive::<u64>)]
    header_timeout: u64,
    /// Refuse bodies that take longer than N seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = positive::<u64>)]
    body_timeout: u64,
    /// Answer requests that are on their way for N seconds after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = positive::<u64>)]
    drain_timeout: u64,
}

/// How requests are read and answered.
#[derive(Debug, Args)]
#[command(next_help_heading = "Requests")]
struct Reading {
    /// Give raw scores on every path, whatever a request asks for
    #[arg(long)]
    raw: bool,
    /// Read /v1/classify and /v1/rerank, which two servers have in different forms, as this one does
    #[arg(long, value_name = "SERVER", default_value = "vllm")]
    dialect: Dialect,
    /// Which texts get the end that answers have in training: EOS, or what the chat template writes behind an answer
    #[arg(long, value_name = "TEXTS", default_value = "openrlhf")]
    close: Close,
    /// Cut texts that are too long on the left, though no request asks for it [default: they are refused]
    #[arg(long)]
    auto_truncate: bool,
    /// Read N tokens of a text at most [default: all positions of the model]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    max_length: Option<usize>,
    /// Compare scores with this range in the metrics [default: the one that the model's folder notes]
    #[arg(long, value_names = ["LOW", "HIGH"], num_args = 2, value_parser = real)]
    range: Option<Vec<f64>>,
}

/// How requests become batches.
#[derive(Debug, Args)]
#[command(next_help_heading = "Batches")]
struct Batching {
    /// Compute N tokens at once; what texts begin with alike counts once. The scores do not depend on it, the time that
    /// others wait does [default: 4096 on a CPU, 16384 on a GPU]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    max_batch_tokens: Option<usize>,
    /// Compute N texts at once
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = positive::<usize>)]
    max_batch_requests: usize,
    /// Wait N milliseconds for more texts before a batch is computed
    #[arg(long, value_name = "MS", default_value_t = 0)]
    batch_wait: u64,
}

const EXAMPLES: &str = "\
Examples:
  pcrm serve --model runs/rm
  curl localhost:8000/get_reward --json '{\"query\": [\"Hi! Hello.\"]}'
  PCRM_API_KEY=secret pcrm serve --model helpful=runs/rm --model safe=runs/rm2 --host 0.0.0.0 --tls-cert c.pem --tls-key k.pem

SIGTERM answers what is on its way and stops; SIGHUP loads the models' folders and the certificate again.";

/// The variable of the environment that may have the token.
const KEY: &str = "PCRM_API_KEY";

/// Serves the models until a signal.
///
/// # Errors
/// Options that do not go together, a model that is no reward model, an address that is taken.
pub fn run(args: &ServeArgs) -> Result<()> {
    let tokens = args.protection.tokens()?;
    usage(args.check(&tokens))?;
    let backend = args.machine.open()?;
    let names = args.names()?;
    let (machine, max_length) = (args.machine.clone(), args.reading.max_length);
    let range = args.reading.range.as_deref().map(|ends| Range::given(ends[0], ends[1]));
    let about = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("backend", backend.name().to_owned()),
        ("device", machine.device.to_string()),
        ("dtype", machine.dtype.to_string()),
    ];
    // Loading and computing are on different threads.
    let backend = Mutex::new(backend);
    let load: Load = Box::new(move |name, dir| {
        let Ok(backend) = backend.lock() else { bail!("the backend is lost: an earlier load panicked") };
        load(name, dir, &machine, backend.as_ref(), max_length, range.as_ref())
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
    backend: &dyn Backend,
    max_length: Option<usize>,
    range: Option<&Range>,
) -> Result<Model> {
    let (model, tokenizer) = machine.trained(backend, dir)?;
    let most = length(max_length, model.config().max_positions, model.config())?;
    let sha = digest::model(dir)?;
    let range = range.cloned().or_else(|| Range::of(model.config(), dir));
    let folder = Folder { name: name.to_owned(), dir: dir.to_path_buf(), sha, range };
    let config = model.config().clone();
    Ok(Model::new(folder, &config, tokenizer, most, Box::new(model)))
}

impl ServeArgs {
    /// Refuses options that do not go together.
    fn check(&self, tokens: &[String]) -> Result<()> {
        let is_local = self.host.is_loopback();
        ensure!(
            is_local || !tokens.is_empty() || self.protection.open_to_all,
            "--host {}: others reach this address, and there is no token; give one (--api-key-file, or PCRM_API_KEY in \
             the environment), or say --open-to-all",
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

    /// The names of the models and their folders.
    fn names(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut names = Vec::new();
        let mut seen = BTreeSet::new();
        for given in &self.model {
            let (name, dir) = match given.split_once('=') {
                // A folder may have the sign in its name.
                Some((name, dir)) if !Path::new(given).exists() => (Some(name), Path::new(dir)),
                _ => (None, Path::new(given.as_str())),
            };
            let found = self.hub.model("--model", dir, Weights::Read)?;
            let own = || match dir.file_name() {
                // The name of a repository has its owner.
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

    /// The most tokens of a batch.
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
    /// All tokens.
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
            ensure!(tokens.len() > before, "--api-key-file {}: the file has no token", path.display());
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
