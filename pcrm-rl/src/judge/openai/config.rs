//! The configuration of `openai`, its defaults and its key.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::judge::Template;

/// Configuration of a language model as a judge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Name of the model.
    pub model: String,
    /// Address without `/chat/completions`.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// Name of a built-in template, or path of a file.
    #[serde(default = "template")]
    pub template: String,
    /// Environment variable with the key.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// Sampling temperature.
    #[serde(default)]
    pub temperature: f64,
    /// Maximum number of tokens of a reply.
    #[serde(default = "max_tokens")]
    pub max_tokens: u64,
    /// Request field that limits tokens: `max_tokens`, or `max_completion_tokens` for newer models.
    #[serde(default = "limit_field")]
    pub limit_field: String,
    /// Additional fields of the request.
    #[serde(default)]
    pub extra: Map<String, Value>,
    /// Time limit of one request, in seconds.
    #[serde(default = "timeout")]
    pub timeout: f64,
    /// Maximum number of times a request is sent.
    #[serde(default = "attempts")]
    pub attempts: u32,
    /// Pause after the first failure, in seconds; it doubles.
    #[serde(default = "backoff")]
    pub backoff: f64,
    /// Number of concurrent requests.
    #[serde(default = "concurrency")]
    pub concurrency: usize,
}

fn base_url() -> String {
    "https://api.openai.com/v1".to_owned()
}

fn template() -> String {
    "alpaca_eval".to_owned()
}

fn max_tokens() -> u64 {
    1024
}

fn limit_field() -> String {
    "max_tokens".to_owned()
}

fn timeout() -> f64 {
    120.0
}

fn attempts() -> u32 {
    6
}

fn backoff() -> f64 {
    1.0
}

fn concurrency() -> usize {
    4
}

impl Config {
    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        for (name, value, least) in [
            ("timeout", self.timeout, 1e-3),
            ("backoff", self.backoff, 0.0),
            ("temperature", self.temperature, 0.0),
        ] {
            if !(value >= least && value <= 1e9) {
                return Err(format!("{name} is {value}; expected a number, {least} or more"));
            }
        }
        for (name, count) in [
            ("attempts", u64::from(self.attempts)),
            ("concurrency", self.concurrency as u64),
            ("max_tokens", self.max_tokens),
        ] {
            if count == 0 {
                return Err(format!("{name} is 0; expected 1 or more"));
            }
        }
        if self.model.trim().is_empty() {
            return Err("the model is empty; expected its name".to_owned());
        }
        match self.base_url.starts_with("http://") || self.base_url.starts_with("https://") {
            true => Template::open(&self.template).map(drop),
            false => Err(format!("base_url is {:?}; expected http:// or https://", self.base_url)),
        }
    }

    /// Returns the key: from `api_key_env`, else the given one, which is sent over plain http to this machine
    /// only.
    pub fn key(&self, given: Option<&String>) -> Result<Option<String>, String> {
        if let Some(name) = &self.api_key_env {
            let key = std::env::var(name).ok().filter(|key| !key.trim().is_empty());
            return key
                .map(Some)
                .ok_or(format!("api_key_env is {name}, which is not set in the environment"));
        }
        let host = self.base_url.trim_start_matches("http://");
        let here = ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local));
        match given {
            Some(_) if self.base_url.starts_with("http://") && !here => Err(format!(
                "a key would go to {} unencrypted; use https, or set api_key_env to allow it",
                self.base_url
            )),
            given => Ok(given.cloned()),
        }
    }
}
