//! Servers as reward sources: `https://host/get_reward`. The path of the address selects the protocol.
//!
//! | path | protocol |
//! |---|---|
//! | `/get_reward`, `/` | OpenRLHF: `query` (what the policy read and wrote), `prompts`, `labels` |
//! | `/classify`, `/v1/classify` | vLLM: `input` or `messages`, without activation |
//! | `/classify#sglang` | SGLang's own: `text` |
//! | `/pooling` | vLLM: `input` or `messages` |
//! | `/score`, `/v1/score` | vLLM: `text_1` the prompt, `text_2` the answer, without activation |
//! | `/v1/embeddings`, `/embeddings` | OpenAI's form, as SGLang has it: an embedding of one number |
//! | `/predict` | TEI, raw scores |
//! | `/rerank` | TEI, raw scores: a prompt with its answers |
//! | `/v1/rerank`, `/v2/rerank` | vLLM and Jina: `query` with `documents`, without activation |
//!
//! For other paths, a `#` with the name of a protocol (`openrlhf`, `vllm`, `sglang`, `tei`) selects it.
//! Conversations are sent as messages if the protocol has them. For protocols that take only text,
//! `tokenizer` names the folder of the reward model's tokenizer, whose template renders them without a BOS,
//! which servers add.
//!
//! Connection errors, time-outs, 429 and 5xx are retried after a pause that doubles or that `Retry-After`
//! sets. A batch that stays unscored is an error.

mod protocol;
mod read;
mod text;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use pcrm_core::erased_serde;
use serde::Deserialize;
use serde::de::Error as _;

use self::protocol::{PartialRequest, Protocol};
use self::text::Texts;
use super::{Answers, Preparation, RewardPlugin, RewardSource, Scored};
use crate::error::{Error, Result};
use crate::transport::{Client, Connection, Failed, Nobody};

/// Configuration of a server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Address with its path.
    url: String,
    /// Name of the model, if the server requires one.
    #[serde(default)]
    model: Option<String>,
    /// Folder of the reward model's tokenizer, for rendering conversations with its template.
    #[serde(default)]
    tokenizer: Option<PathBuf>,
    /// Column sent to OpenRLHF servers as `labels`.
    #[serde(default)]
    label: Option<String>,
    /// Environment variable with a key, sent as `Authorization: Bearer`.
    #[serde(default)]
    api_key_env: Option<String>,
    /// Time limit of one request, in seconds.
    #[serde(default = "timeout")]
    timeout: f64,
    /// Maximum number of times a request is sent.
    #[serde(default = "attempts")]
    attempts: u32,
    /// Pause after the first failure, in seconds; it doubles.
    #[serde(default = "backoff")]
    backoff: f64,
    /// Maximum number of answers per request.
    #[serde(default = "batch")]
    batch: usize,
    /// Number of concurrent requests.
    #[serde(default = "concurrency")]
    concurrency: usize,
}

fn timeout() -> f64 {
    180.0
}

fn attempts() -> u32 {
    5
}

fn backoff() -> f64 {
    1.0
}

fn batch() -> usize {
    64
}

fn concurrency() -> usize {
    4
}

impl Config {
    fn check(&self) -> Result<(), String> {
        for (name, seconds, least) in [("timeout", self.timeout, 1e-3), ("backoff", self.backoff, 0.0)] {
            if !(seconds >= least && seconds <= 1e9) {
                return Err(format!("{name} is {seconds}; expected seconds, {least} or more"));
            }
        }
        let counts =
            [("attempts", self.attempts as usize), ("batch", self.batch), ("concurrency", self.concurrency)];
        match counts.iter().find(|(_, count)| *count == 0) {
            Some((name, _)) => Err(format!("{name} is 0; expected 1 or more")),
            None => Ok(()),
        }
    }

    /// Returns the server's address with the key from the environment.
    fn connection(&self) -> Result<Connection, String> {
        let key = self.api_key_env.as_ref().map(|name| {
            let key = std::env::var(name).ok().filter(|key| !key.trim().is_empty());
            key.ok_or_else(|| format!("api_key_env is {name}, which is not set in the environment"))
        });
        Ok(Connection {
            // The part after # only selects the protocol.
            url: self.url.split('#').next().unwrap_or_default().to_owned(),
            key: key.transpose()?,
            timeout: self.timeout,
            attempts: self.attempts,
            backoff: self.backoff,
        })
    }
}

struct HttpReward {
    name: String,
    config: Config,
    protocol: Protocol,
    client: Client,
    texts: Texts,
}

impl HttpReward {
    fn new(config: Config) -> Result<Self, String> {
        config.check()?;
        let protocol = Protocol::of(&config.url)?;
        let client = Client::new(config.connection()?);
        let texts = Texts::new(config.tokenizer.as_deref(), config.label.clone())?;
        let host = config.url.split_once("://").map_or("", |(_, rest)| rest);
        let name = host.split(['/', ':', '#', '?']).next().filter(|name| !name.is_empty()).unwrap_or("http");
        Ok(Self { name: name.to_owned(), protocol, client, texts, config })
    }

    /// Sends the requests of a batch concurrently, until one fails.
    fn ask(&self, parts: &[PartialRequest], batch: &Answers<'_>) -> Result<Vec<Scored>, String> {
        let (next, answers) = (AtomicUsize::new(0), Mutex::new(vec![None; parts.len()]));
        let failed = Mutex::new(None);
        let lock = |error: std::sync::PoisonError<_>| error.into_inner();
        let work = || {
            while failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_none() {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(part) = parts.get(at) else { return };
                let text = self.client.post(&part.body, &Nobody, Ok).map_err(|failed| match failed {
                    Failed::Tried { .. } => format!("{failed}; the batch stays unscored"),
                    failed => failed.to_string(),
                });
                let scored = text.and_then(|text| self.protocol.read(&text, part, batch));
                match scored {
                    Ok(scored) => answers.lock().unwrap_or_else(lock)[at] = Some(scored),
                    Err(message) => {
                        failed
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner)
                            .get_or_insert(message);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.config.concurrency.min(parts.len()) {
                scope.spawn(work);
            }
            work();
        });
        match failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(message) => Err(message),
            None => {
                let answers = answers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
                Ok(answers.into_iter().flatten().collect())
            }
        }
    }
}

impl RewardSource for HttpReward {
    fn name(&self) -> &str {
        &self.name
    }

    fn prepare(&mut self, run: &Preparation<'_>) -> Result<()> {
        run.prompts.iter().try_for_each(|prompt| {
            self.texts
                .accept(self.protocol, prompt)
                .map_err(|message| Error::reward(&self.name, format!("{}: {message}", prompt.origin)))
        })
    }

    fn notes(&self) -> Vec<String> {
        vec![format!("requests to {} use the protocol of {}", self.config.url, self.protocol)]
    }

    fn score(&mut self, batch: &Answers<'_>) -> Result<Scored> {
        let refuse = |message: String| Error::reward(&self.name, message);
        let parts = self.protocol.parts(batch, &self.texts, &self.config).map_err(refuse)?;
        let replies =
            self.ask(&parts, batch).map_err(|message| refuse(format!("{}: {message}", self.config.url)))?;
        let mut all = Scored::of(vec![None; batch.rows.len()]);
        for (part, scored) in parts.iter().zip(replies) {
            for (row, reward) in part.rows.iter().zip(scored.rewards) {
                all.rewards[*row] = reward;
            }
            for (name, values) in scored.logs {
                all.logs.entry(name).or_default().extend(values);
            }
        }
        Ok(all)
    }
}

fn build(data: &mut dyn erased_serde::Deserializer<'_>) -> erased_serde::Result<Box<dyn RewardSource>> {
    let config = erased_serde::deserialize(data)?;
    Ok(Box::new(HttpReward::new(config).map_err(erased_serde::Error::custom)?))
}

pcrm_core::inventory::submit! {
    RewardPlugin {
        name: "http",
        about: "a server (url) of OpenRLHF's, vLLM's, SGLang's or TEI's protocol, by its path; tokenizer, ..",
        build,
    }
}

#[cfg(test)]
mod tests;
