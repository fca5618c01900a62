//! Options of `pcrm serve`.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::machine::Machine;
use crate::numbers::{positive, real};
use crate::quantize::QuantizeArgs;
use crate::revision::RevisionArgs;
use crate::serve::{Close, Connections, Dialect};
use crate::usage::usage;

/// Options of `pcrm serve`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ServeArgs {
    /// Serve the reward model in this folder or Hub repository (org/name); NAME=DIR names it differently from
    /// its folder. Repeat for more models: requests that name no model get the first one
    #[arg(long, value_name = "[NAME=]DIR", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    pub model: Vec<String>,
    /// Listen on this address; 0.0.0.0 for all addresses of this machine
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Listen on this port; 0 for any free port, printed in the first line
    #[arg(long, value_name = "N", default_value_t = 8000)]
    pub port: u16,
    #[command(flatten)]
    pub protection: Protection,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub batching: Batching,
    #[command(flatten)]
    pub revision: RevisionArgs,
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub storage: QuantizeArgs,
}

/// Access control and limits.
#[derive(Debug, Args)]
#[command(next_help_heading = "Protection")]
pub struct Protection {
    /// Require the header `Authorization: Bearer TOKEN` in requests [default: PCRM_API_KEY of the
    /// environment]. Other users can see the command line, so prefer the environment or --api-key-file.
    /// Repeat for more tokens
    #[arg(long, value_name = "TOKEN", action = clap::ArgAction::Append)]
    pub api_key: Vec<String>,
    /// Read tokens from this file, one per line
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Listen beyond this machine without a token: anyone who reaches the port can use the model
    #[arg(long)]
    pub open_to_all: bool,
    /// Encrypt with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Use this private key for the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Answer at most N requests at once; further ones get 429 with Retry-After
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = positive::<usize>)]
    pub max_concurrent_requests: usize,
    /// Accept at most N texts per request
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = positive::<usize>)]
    pub max_client_batch_size: usize,
    /// Accept bodies of at most N bytes
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = positive::<usize>)]
    pub max_body_bytes: usize,
    /// Keep at most N connections open; further ones wait
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = positive::<usize>)]
    pub max_connections: usize,
    /// Close connections that send no complete request head within N seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = positive::<u64>)]
    pub header_timeout: u64,
    /// Refuse bodies that take longer than N seconds to arrive
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = positive::<u64>)]
    pub body_timeout: u64,
    /// Keep answering requests in flight for up to N seconds after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = positive::<u64>)]
    pub drain_timeout: u64,
}

/// Options for reading and answering requests.
#[derive(Debug, Args)]
#[command(next_help_heading = "Requests")]
pub struct Reading {
    /// Return raw scores on every path, whatever a request asks for
    #[arg(long)]
    pub raw: bool,
    /// Read /v1/classify and /v1/rerank, which two servers define differently, as this server does
    #[arg(long, value_name = "SERVER", default_value = "vllm")]
    pub dialect: Dialect,
    /// Append the end token of training answers (EOS, or the chat template's ending) to these texts
    #[arg(long, value_name = "TEXTS", default_value = "openrlhf")]
    pub close: Close,
    /// Truncate long texts on the left even if a request does not ask for it [default: refuse them]
    #[arg(long)]
    pub auto_truncate: bool,
    /// Read at most N tokens of a text [default: all positions of the model]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    pub max_length: Option<usize>,
    /// Compare scores with this range in the metrics [default: the range noted in the model's folder]
    #[arg(long, value_names = ["LOW", "HIGH"], num_args = 2, value_parser = real)]
    pub range: Option<Vec<f64>>,
}

/// Options for batching.
#[derive(Debug, Args)]
#[command(next_help_heading = "Batches")]
pub struct Batching {
    /// Compute at most N tokens at once, counting shared beginnings once. Scores do not depend on it, waiting
    /// times do [default: 4096 on a CPU, 16384 on a GPU]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    pub max_batch_tokens: Option<usize>,
    /// Compute at most N texts at once
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = positive::<usize>)]
    pub max_batch_requests: usize,
    /// Wait N milliseconds for more texts before computing a batch that is not full
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub batch_wait: u64,
}

const EXAMPLES: &str = "\
Examples:
  pcrm serve --model runs/rm
  curl localhost:8000/get_reward --json '{\"query\": [\"Hi! Hello.\"]}'
  export PCRM_API_KEY=secret
  pcrm serve --model helpful=runs/rm --model safe=runs/rm2 --host 0.0.0.0 \
   --tls-cert c.pem --tls-key k.pem

SIGTERM answers the requests in flight and stops; SIGHUP reloads the models' folders and the certificate.";

/// The environment variable that may hold the token.
const KEY: &str = "PCRM_API_KEY";

impl Protection {
    /// Returns all tokens.
    pub fn tokens(&self) -> Result<Vec<String>> {
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

    /// Returns the limits of connections.
    pub fn connections(&self) -> Connections {
        Connections {
            most: self.max_connections,
            head_time: Duration::from_secs(self.header_timeout),
            drain_time: Duration::from_secs(self.drain_timeout),
        }
    }
}
