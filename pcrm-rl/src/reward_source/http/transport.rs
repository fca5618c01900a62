//! Requests that are sent again while there is hope.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};

use super::Config;
use super::read::cut;

/// The largest answer that is read.
const ANSWER: u64 = 64 << 20;
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(60);

/// A client of one address.
pub struct Client {
    agent: Agent,
    url: String,
    key: Option<String>,
    attempts: u32,
    backoff: Duration,
    timeout: f64,
}

/// The end of one try.
enum Failure {
    /// Another try may help; after a pause, where the server names one.
    Passing(String, Option<Duration>),
    /// No other try would help.
    Lasting(String),
}

impl Client {
    /// Makes a client of the address in a configuration.
    ///
    /// # Errors
    /// A key that is not in the environment.
    pub fn new(config: &Config) -> Result<Self, String> {
        let key = config.api_key_env.as_ref().map(|name| {
            let key = std::env::var(name).ok().filter(|key| !key.trim().is_empty());
            key.ok_or_else(|| format!("api_key_env is {name}, which the environment does not have"))
        });
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // The key and the texts go where the user said and nowhere else.
            .max_redirects(0)
            .user_agent(concat!("pcrm/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(Duration::from_secs_f64(config.timeout)))
            .build();
        Ok(Self {
            agent: agent.into(),
            // What follows # chooses the protocol.
            url: config.url.split('#').next().unwrap_or_default().to_owned(),
            key: key.transpose()?,
            attempts: config.attempts,
            backoff: Duration::from_secs_f64(config.backoff),
            timeout: config.timeout,
        })
    }

    /// Sends a body and returns the text of the answer.
    ///
    /// # Errors
    /// An answer that is an error, and the last failure if all tries fail.
    pub fn post(&self, body: &Value) -> Result<String, String> {
        let body = body.to_string();
        let mut pause = self.backoff;
        for attempt in 1..=self.attempts {
            match self.send(&body) {
                Ok(text) => return Ok(text),
                Err(Failure::Lasting(message)) => return Err(message),
                Err(Failure::Passing(message, _)) if attempt == self.attempts => {
                    let times = if attempt == 1 { "1 try".to_owned() } else { format!("{attempt} tries") };
                    return Err(format!("{message}, after {times}; the batch stays unscored"));
                }
                Err(Failure::Passing(message, asked)) => {
                    let wait = asked.unwrap_or(pause).min(PAUSE);
                    tracing::warn!("{}: {message}; trying again in {:.1} s", self.url, wait.as_secs_f64());
                    std::thread::sleep(wait);
                    pause = (pause * 2).min(PAUSE);
                }
            }
        }
        Err("no try was made".to_owned())
    }

    fn send(&self, body: &str) -> Result<String, Failure> {
        let mut request = self.agent.post(&self.url).header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let mut response = request.send(body).map_err(|error| self.failure(error))?;
        let status = response.status();
        let header =
            |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (after, location) = (header(RETRY_AFTER), header(LOCATION));
        let text = response.body_mut().with_config().limit(ANSWER).read_to_string();
        if status.is_success() {
            return text.map_err(|error| self.failure(error));
        }
        let text = cut(&text.unwrap_or_default());
        let message = format!("{status}{}{text}", if text.is_empty() { "" } else { ": " });
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            let after = after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
            return Err(Failure::Passing(message, after));
        }
        match location {
            Some(location) => Err(Failure::Lasting(format!(
                "{message}: it redirects to {}; give the final address",
                cut(&location)
            ))),
            None => Err(Failure::Lasting(message)),
        }
    }

    fn failure(&self, error: ureq::Error) -> Failure {
        match error {
            ureq::Error::Timeout(_) => Failure::Passing(format!("no answer within {} s", self.timeout), None),
            ureq::Error::Io(error) => Failure::Passing(error.to_string(), None),
            ureq::Error::ConnectionFailed => Failure::Passing("no connection".to_owned(), None),
            // A server that hangs up before its answer is whole.
            ureq::Error::Protocol(error) => Failure::Passing(error.to_string(), None),
            error => Failure::Lasting(error.to_string()),
        }
    }
}
