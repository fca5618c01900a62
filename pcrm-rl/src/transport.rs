//! Requests to servers that a user names, with retries.

use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use ureq::http::{StatusCode, Uri};

use crate::proxy::{Via, proxy_of};

/// The largest response that is read.
const ANSWER: u64 = 64 << 20;
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(60);
/// The interval at which a pause checks whether it should end.
const LOOK: Duration = Duration::from_millis(50);

/// A server, with the limits of requests to it.
pub struct Connection {
    /// Address.
    pub url: String,
    /// Key, sent as `Authorization: Bearer`.
    pub key: Option<String>,
    /// Time limit of one try, in seconds.
    pub timeout: f64,
    /// Maximum number of times a request is sent.
    pub attempts: u32,
    /// Pause after the first failure, in seconds; it doubles.
    pub backoff: f64,
}

/// A client for one address.
pub struct Client {
    agent: Agent,
    connection: Connection,
    /// The proxy to use, or the reason why its variable is refused.
    via: Result<Option<Via>, String>,
}

/// The reason for a failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// All tries failed; each failure was transient.
    Tried {
        /// Last failure.
        message: String,
        /// Number of tries.
        tries: u32,
    },
    /// A permanent failure; no other try would help.
    Refused {
        /// HTTP status, if the server responded.
        status: Option<u16>,
        /// Message of the server.
        message: String,
    },
    /// A watcher stopped the request.
    Stopped,
}

/// An observer of a request and its retries.
pub trait Watcher {
    /// Returns true if a pause should end and no further try should be made.
    fn is_stopped(&self) -> bool {
        false
    }

    /// Called before every retry; false ends the request.
    fn may_retry(&self) -> bool {
        true
    }
}

/// A watcher that never stops a request.
pub struct Nobody;

impl Watcher for Nobody {}

/// The failure of one try.
enum Failure {
    /// Another try may help, after a pause if the server names one.
    Passing(String, Option<Duration>),
    /// No other try would help.
    Lasting(Option<StatusCode>, String),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tried { message, tries: 1 } => write!(f, "{message}, after 1 try"),
            Self::Tried { message, tries } => write!(f, "{message}, after {tries} tries"),
            Self::Refused { message, .. } => f.write_str(message),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl Client {
    /// Creates a client.
    pub fn new(connection: Connection) -> Self {
        let via = connection.url.parse::<Uri>().map_or(Ok(None), |address| proxy_of(&address));
        Self::through(connection, via)
    }

    fn through(connection: Connection, via: Result<Option<Via>, String>) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // The key and the texts must only go to the server that the user named.
            .max_redirects(0)
            .user_agent(concat!("pcrm/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(Duration::from_secs_f64(connection.timeout)))
            .proxy(via.as_ref().ok().and_then(|via| Some(via.as_ref()?.proxy.clone())))
            .build();
        Self { agent: agent.into(), connection, via }
    }

    /// Sends a body and returns the result of `read` on the response's text; a response that `read` refuses
    /// is a transient failure.
    ///
    /// # Errors
    /// Fails on an error response, or with the last failure if all tries fail.
    pub fn post<T>(
        &self,
        body: &Value,
        watcher: &dyn Watcher,
        read: impl Fn(String) -> Result<T, String>,
    ) -> Result<T, Failed> {
        let body = body.to_string();
        let attempts = self.connection.attempts;
        let mut pause = Duration::from_secs_f64(self.connection.backoff);
        for attempt in 1..=attempts {
            let answer = self.send(&body).and_then(|text| read(text).map_err(|m| Failure::Passing(m, None)));
            match answer {
                Ok(answer) => return Ok(answer),
                Err(Failure::Lasting(status, message)) => {
                    return Err(Failed::Refused { status: status.map(|status| status.as_u16()), message });
                }
                Err(Failure::Passing(message, _)) if attempt == attempts => {
                    return Err(Failed::Tried { message, tries: attempt });
                }
                Err(Failure::Passing(message, asked)) => {
                    let wait = asked.unwrap_or(pause).min(PAUSE);
                    let url = &self.connection.url;
                    tracing::warn!("{url}: {message}; trying again in {:.1} s", wait.as_secs_f64());
                    if !rest(wait, watcher) || !watcher.may_retry() {
                        return Err(Failed::Stopped);
                    }
                    pause = (pause * 2).min(PAUSE);
                }
            }
        }
        Err(Failed::Stopped)
    }

    fn send(&self, body: &str) -> Result<String, Failure> {
        if let Err(message) = &self.via {
            return Err(Failure::Lasting(None, message.clone()));
        }
        let mut request = self.agent.post(&self.connection.url).header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.connection.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let mut response = request.send(body).map_err(|error| self.failure(error))?;
        let status = response.status();
        let after = retry_after(response.headers());
        let location =
            response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = response.body_mut().with_config().limit(ANSWER).read_to_string();
        if status.is_success() {
            return text.map_err(|error| self.failure(error));
        }
        let text = cut(&text.unwrap_or_default());
        let message = format!("{status}{}{text}", if text.is_empty() { "" } else { ": " });
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Err(Failure::Passing(message, after));
        }
        let message = match location {
            Some(location) => {
                format!("{message}: it redirects to {}; give the final address", cut(&location))
            }
            None => message,
        };
        Err(Failure::Lasting(Some(status), message))
    }

    fn failure(&self, error: ureq::Error) -> Failure {
        let timeout = self.connection.timeout;
        // Behind a proxy, the fault may be the proxy's.
        let said = |message: String| match &self.via {
            Ok(Some(via)) => format!("{via}: {message}"),
            _ => message,
        };
        match error {
            ureq::Error::Timeout(_) => Failure::Passing(said(format!("no answer within {timeout} s")), None),
            ureq::Error::Io(error) => Failure::Passing(said(error.to_string()), None),
            ureq::Error::ConnectionFailed => Failure::Passing(said("no connection".to_owned()), None),
            // The server closed the connection before its response was complete.
            ureq::Error::Protocol(error) => Failure::Passing(said(error.to_string()), None),
            error => Failure::Lasting(None, said(error.to_string())),
        }
    }
}

/// Returns the pause that a server requests: OpenAI's `retry-after-ms`, or seconds in `retry-after`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |value: Option<&ureq::http::HeaderValue>| {
        value?.to_str().ok()?.trim().parse::<f64>().ok().filter(|number| (0.0..=1e9).contains(number))
    };
    let thousandths = number(headers.get("retry-after-ms")).map(|number| number / 1000.0);
    thousandths.or_else(|| number(headers.get(RETRY_AFTER))).map(Duration::from_secs_f64)
}

/// Waits; returns false if a watcher ended the pause.
fn rest(wait: Duration, watcher: &dyn Watcher) -> bool {
    let until = Instant::now() + wait;
    while !watcher.is_stopped() {
        match until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return true,
            left => std::thread::sleep(left.min(LOOK)),
        }
    }
    false
}

/// Returns a text for a message, truncated if long.
pub fn cut(text: &str) -> String {
    const MOST: usize = 300;
    let text = pcrm_core::text::visible_line(text);
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::chosen;

    /// Protects: if a proxy does not answer, the error names the proxy, without its password, and not the server. A
    /// variable that is not the address of a proxy is refused without another try.
    #[test]
    fn the_fault_of_a_proxy_is_not_the_servers() {
        let sent = |proxy: &str| {
            let url = "http://judge.test/v1".to_owned();
            let via = chosen(&url.parse().unwrap(), &|name| (name == "http_proxy").then(|| proxy.to_owned()));
            let connection = Connection { url, key: None, timeout: 5.0, attempts: 2, backoff: 0.0 };
            Client::through(connection, via).post(&Value::Null, &Nobody, Ok).unwrap_err()
        };
        // No server listens at this address.
        let Failed::Tried { message, tries: 2 } = sent("http://me:secret@127.0.0.1:1") else {
            panic!("no retry")
        };
        assert!(message.starts_with("through the proxy http://127.0.0.1:1 (http_proxy): "), "{message}");
        let Failed::Refused { status: None, message } = sent("ftp://proxy") else { panic!("a retry") };
        assert!(message.starts_with("http_proxy is \"ftp://proxy\"; expected"), "{message}");
    }
}
