//! Servers of vLLM and SGLang as sources: token ids go in, token ids and log-probabilities come back.
//!
//! A policy with adapters is written as a PEFT folder and loaded under a name that no other version has, so
//! no cache of the server can hold keys of older weights and every answer names its version. SGLang also
//! takes all weights from a folder (`update_weights_from_disk`), and puts their version into every answer.
//! The server must see the run's folder.
//!
//! Connection errors, time-outs, 429, 5xx and answers that are not JSON are retried after a pause that
//! doubles or that `Retry-After` sets. An adapter that the server has lost is loaded again once. An answer of
//! another version, or one that is not what was asked for, is an error.

mod server;
mod sglang;
mod versions;
mod vllm;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::server::Server;
use self::versions::Versions;
use super::{Pending, RolloutSource, SampleRequest, Sampled};
use crate::error::{Error, Result};
use crate::lanes::Lanes;
use crate::transport::{Client, Connection, Failed};
use pcrm_core::model::LanguageModel;

/// The interval at which a wait checks for an interrupt.
const LOOK: Duration = Duration::from_millis(20);

/// The protocol of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// vLLM's, with adapters.
    Vllm,
    /// SGLang's, with adapters or all weights.
    Sglang,
}

/// A server, with the limits of requests to it.
#[derive(Debug, Clone)]
pub struct Access {
    /// Address without a path.
    pub url: String,
    /// Key, sent as `Authorization: Bearer`.
    pub key: Option<String>,
    /// Time limit of one request, in seconds.
    pub timeout: f64,
    /// Maximum number of times a request is sent.
    pub attempts: u32,
    /// Pause after the first failure, in seconds; it doubles.
    pub backoff: f64,
    /// Number of concurrent requests, each for all samples of a prompt.
    pub concurrency: usize,
}

impl Default for Access {
    fn default() -> Self {
        Self { url: String::new(), key: None, timeout: 600.0, attempts: 5, backoff: 1.0, concurrency: 64 }
    }
}

/// A server as a source.
pub struct Served {
    server: Arc<Server>,
    versions: Versions,
    /// True if the policy has adapters, false if all of its weights are sent; `None` before the first
    /// version.
    adapters: Option<bool>,
}

/// A version of the policy at a server.
#[derive(Debug, Clone)]
struct Version {
    name: String,
    folder: PathBuf,
    adapter: bool,
}

impl Served {
    /// Creates a source whose weights are written below `folder`. It keeps the newest `staleness + 1`
    /// versions.
    /// `ends` are the tokens that end an answer, `vocabulary` is the number of tokens.
    pub fn new(
        protocol: Protocol,
        access: &Access,
        folder: &Path,
        staleness: usize,
        ends: BTreeSet<u32>,
        vocabulary: usize,
    ) -> Self {
        let client = |path: &str| {
            Client::new(Connection {
                url: format!("{}{path}", access.url),
                key: access.key.clone(),
                timeout: access.timeout,
                attempts: access.attempts,
                backoff: access.backoff,
            })
        };
        let [generate, load, unload] = match protocol {
            Protocol::Vllm => ["/v1/completions", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"],
            Protocol::Sglang => ["/generate", "/load_lora_adapter", "/unload_lora_adapter"],
        }
        .map(client);
        let server = Server {
            protocol,
            url: access.url.clone(),
            ends,
            vocabulary,
            concurrency: access.concurrency.max(1),
            generate,
            load,
            unload,
            update: client("/update_weights_from_disk"),
            cancelled: AtomicBool::new(false),
        };
        Self { server: Arc::new(server), versions: Versions::new(folder, staleness), adapters: None }
    }

    /// Refuses policies that the server cannot take.
    ///
    /// # Errors
    /// Fails for a policy without adapters, if the server runs vLLM or must hold several versions.
    pub fn check(&self, policy: &LanguageModel) -> Result<()> {
        let adapters = policy.decoder().adapters().is_some();
        let message = match (self.server.protocol, adapters) {
            (_, true) => return Ok(()),
            (Protocol::Vllm, false) => {
                "vLLM takes new weights as adapters only; expected --lora-r, or an adapter as --model"
            }
            (Protocol::Sglang, false) if self.versions.staleness() > 0 => {
                "a server holds one version of whole weights; expected --staleness 0, or adapters (--lora-r)"
            }
            (Protocol::Sglang, false) => return Ok(()),
        };
        Err(self.server.error(message))
    }

    /// Writes a policy and makes the server load it.
    fn deliver(&self, policy: &LanguageModel, version: &Version) -> Result<()> {
        versions::write(policy, &version.folder)?;
        let done = match version.adapter {
            true => self.server.loaded(version),
            false => {
                let read = |text: String| sglang::updated(&text);
                self.server.update.post(&sglang::update(version), &self.server.cancelled, read)
            }
        };
        done.map_err(|failed| {
            let folder = version.folder.display();
            self.server.error(format!("does not load version {} of {folder}: {failed}", version.name))
        })
    }

    /// Makes the server forget a version, and removes its folder.
    fn forget(&self, version: &Version) {
        if version.adapter {
            let body = serde_json::json!({ "lora_name": version.name });
            match self.server.unload.post(&body, &self.server.cancelled, Ok) {
                // The server has been restarted.
                Ok(_) | Err(Failed::Refused { .. }) => {}
                Err(failed) => {
                    tracing::warn!(
                        "{}: adapter {} was not unloaded: {failed}",
                        self.server.url,
                        version.name
                    );
                }
            }
        }
        versions::remove(&version.folder);
    }
}

impl RolloutSource for Served {
    fn name(&self) -> String {
        self.server.name()
    }

    fn publish(&mut self, policy: &LanguageModel, version: u64, lanes: &Lanes) -> Result<()> {
        if self.versions.newest() == Some(version) {
            return Ok(());
        }
        let adapters = policy.decoder().adapters().is_some();
        self.check(policy)?;
        self.adapters = Some(adapters);
        let left = self.versions.begin(lanes)?;
        // No request names the old versions any more, so their places are free for the new one.
        let old = self.versions.outdated().into_iter().map(|old| self.versions.of(old, adapters));
        let old: Vec<Version> = left.into_iter().chain(old.collect::<Vec<_>>()).collect();
        let new = self.versions.of(version, adapters);
        // If the first process fails, all fail, so that they save together.
        lanes.shares(0, |_| match lanes.is_first() {
            true => {
                old.iter().for_each(|old| self.forget(old));
                self.deliver(policy, &new)
            }
            false => Ok(()),
        })?;
        self.versions.push(version);
        Ok(())
    }

    fn begin(&mut self, ask: SampleRequest) -> Result<Pending> {
        let Some(adapters) = self.adapters.filter(|_| self.versions.holds(ask.version)) else {
            return Err(self.server.error(format!("has no version {} of the policy", ask.version)));
        };
        let (server, version) = (Arc::clone(&self.server), self.versions.of(ask.version, adapters));
        Ok(Pending::Working(std::thread::spawn(move || server.answers(&ask, &version))))
    }

    fn finish(&mut self, pending: Pending, interrupted: &AtomicBool) -> Sampled {
        let Pending::Working(thread) = pending else {
            return Err(self.server.error("was not asked"));
        };
        while !thread.is_finished() {
            if interrupted.load(Ordering::Relaxed) {
                self.server.cancelled.store(true, Ordering::Relaxed);
                return Err(Error::Interrupted("stopped while a server sampled".to_owned()));
            }
            std::thread::sleep(LOOK);
        }
        thread.join().unwrap_or_else(|_| Err(self.server.error("a thread of requests panicked")))
    }

    fn close(&mut self) {
        let adapters = self.adapters.unwrap_or(false);
        for version in self.versions.all() {
            self.forget(&self.versions.of(version, adapters));
        }
        self.versions.end();
    }
}

#[cfg(test)]
mod tests;
