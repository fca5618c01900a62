//! A server and its requests, which run on threads of their own.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::super::super::{Finish, Sample};
use super::super::{SampleRequest, Sampled};
use super::{Protocol, Version, sglang, vllm};
use crate::error::Error;
use crate::transport::{Client, Failed, Watcher, cut};

/// The state shared by the threads of requests.
pub(super) struct Server {
    pub protocol: Protocol,
    pub url: String,
    /// Tokens that end an answer.
    pub ends: BTreeSet<u32>,
    /// Number of tokens.
    pub vocabulary: usize,
    pub concurrency: usize,
    pub generate: Client,
    pub load: Client,
    pub unload: Client,
    pub update: Client,
    /// Set to end the pauses of retries.
    pub cancelled: AtomicBool,
}

/// A failed request; `lost` is true if the server does not know the adapter.
struct Refusal {
    lost: bool,
    message: String,
}

impl Watcher for AtomicBool {
    fn is_stopped(&self) -> bool {
        self.load(Ordering::Relaxed)
    }
}

impl Server {
    pub fn name(&self) -> String {
        let protocol = match self.protocol {
            Protocol::Vllm => "vllm",
            Protocol::Sglang => "sglang",
        };
        format!("{protocol} {}", self.url)
    }

    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::rollouts(self.name(), message)
    }

    /// Makes the server load an adapter.
    pub fn loaded(&self, version: &Version) -> Result<(), Failed> {
        let body = serde_json::json!({ "lora_name": version.name, "lora_path": version.folder });
        match self.load.post(&body, &self.cancelled, Ok) {
            // An earlier try timed out but was carried out: no other run uses this name.
            Err(Failed::Refused { message, .. })
                if message.contains("already") && message.contains(&version.name) =>
            {
                Ok(())
            }
            done => done.map(drop),
        }
    }

    /// Samples answers, a request per prompt.
    pub fn answers(&self, ask: &SampleRequest, version: &Version) -> Sampled {
        let (next, answers) = (AtomicUsize::new(0), Mutex::new(vec![None; ask.prompts.len()]));
        let (failed, reloaded) = (Mutex::new(None), Mutex::new(false));
        let work = || {
            while failed.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= ask.prompts.len() {
                    return;
                }
                let mut found = self.answer(ask, at, version);
                if found.as_ref().is_err_and(|refusal| refusal.lost) && version.adapter {
                    found = self.again(ask, at, version, &reloaded);
                }
                match found {
                    Ok(samples) => answers.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(samples),
                    Err(refusal) => {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.get_or_insert(refusal.message);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.concurrency.min(ask.prompts.len()) {
                scope.spawn(work);
            }
            work();
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(message) => Err(self.error(message)),
            None => {
                let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
                Ok(answers.into_iter().flatten().collect())
            }
        }
    }

    /// Loads an adapter that the server has lost, once per rollout, and repeats a request.
    fn again(
        &self,
        ask: &SampleRequest,
        at: usize,
        version: &Version,
        reloaded: &Mutex<bool>,
    ) -> Result<Vec<Sample>, Refusal> {
        let mut reloaded = reloaded.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reloaded {
            tracing::warn!("{}: adapter {} is lost; loading it again", self.url, version.name);
            self.loaded(version).map_err(|failed| Refusal {
                lost: true,
                message: format!("lost adapter {} and does not load it again: {failed}", version.name),
            })?;
            *reloaded = true;
        }
        drop(reloaded);
        self.answer(ask, at, version)
    }

    /// Samples the answers to one prompt.
    fn answer(&self, ask: &SampleRequest, at: usize, version: &Version) -> Result<Vec<Sample>, Refusal> {
        let prompt = &ask.prompts[at];
        let body = match self.protocol {
            Protocol::Vllm => vllm::body(ask, prompt, version, &self.ends),
            Protocol::Sglang => sglang::body(ask, prompt, version, &self.ends),
        };
        let parse = |text: String| {
            serde_json::from_str::<Value>(&text)
                .map_err(|error| format!("the answer is not JSON: {error}: {}", cut(&text)))
        };
        let answer = self.generate.post(&body, &self.cancelled, parse).map_err(|failed| Refusal {
            lost: match (&failed, self.protocol) {
                (Failed::Refused { status, .. }, Protocol::Vllm) => *status == Some(404),
                (Failed::Refused { status, message }, Protocol::Sglang) => {
                    *status == Some(400) && message.contains("LoRA")
                }
                _ => false,
            },
            message: failed.to_string(),
        })?;
        let read = match self.protocol {
            Protocol::Vllm => vllm::read(&answer, self, ask, prompt, version),
            Protocol::Sglang => sglang::read(&answer, self, ask, version),
        };
        read.map_err(|message| Refusal { lost: false, message: format!("prompt {}: {message}", at + 1) })
    }

    /// Returns an answer, with the reason for its end.
    pub fn sample(
        &self,
        ids: Vec<u32>,
        log_probs: Vec<f32>,
        reason: &str,
        field: &str,
        ask: &SampleRequest,
    ) -> Result<Sample, String> {
        let (last, most) = (ids.last().copied().unwrap_or_default(), ask.sampling.max_tokens);
        let finish = match reason {
            _ if ids.len() > most => {
                return Err(format!("{field}: an answer of {} tokens, expected at most {most}", ids.len()));
            }
            _ if self.ends.contains(&last) => Finish::Token(last),
            "length" if ids.len() == most => Finish::Length,
            "length" => {
                return Err(format!(
                    "{field} is \"length\" after {} of {most} tokens; start the server with a longer context",
                    ids.len()
                ));
            }
            other => {
                return Err(format!(
                    "{field} is {other:?} after token {last}, which does not end answers here; expected one \
                     of {:?} (--stop-token adds one)",
                    self.ends
                ));
            }
        };
        Ok(Sample { ids, log_probs, filtered: None, finish })
    }
}
