//! Requests to servers that a user names, sent again while there is hope.

use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};

/// The largest answer that is read.
const ANSWER: u64 = 64 << 20;
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(60);
/// How often a pause looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// The server and the limits of requests to it.
pub struct Connection {
    /// The address.
    pub url: String,
    /// The key, sent as `Authorization: Bearer`.
    pub key: Option<String>,
    /// The seconds that one try may take.
    pub timeout: f64,
    /// The times that a request is sent at most.
    pub attempts: u32,
    /// The pause in seconds after the first failure; it doubles.
    pub backoff: f64,
}

/// A client of one address.
pub struct Client {
    agent: Agent,
    connection: Connection,
}

/// The reason why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// All tries failed, each of which might have succeeded.
    Tried {
        /// The last failure.
        message: String,
        /// The number of tries.
        tries: u32,
    },
    /// No other try would help.
    Refused {
        /// The status of the server's answer, where there is one.
        status: Option<u16>,
        /// The server's words.
        message: String,
    },
    /// A watcher stopped it.
    Stopped,
}

/// Looks on while a request is sent and sent again.
pub trait Watcher {
    /// Returns true if a pause is to end and no further try is to be made.
    fn is_stopped(&self) -> bool {
        false
    }

    /// Is called before every try but the first; false ends the request.
    fn may_retry(&self) -> bool {
        true
    }
}

/// Looks on and does nothing.
pub struct Nobody;

impl Watcher for Nobody {}

/// The end of one try.
enum Failure {
    /// Another try may help; after a pause, where the server names one.
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
    /// Makes a client.
    pub fn new(connection: Connection) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // The key and the texts go where the user said and nowhere else.
            .max_redirects(0)
            .user_agent(concat!("pcrm/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(Duration::from_secs_f64(connection.timeout)))
            .build();
        Self { agent: agent.into(), connection }
    }

    /// Sends a body and returns what `read` makes of the answer's text; an answer that it refuses is a failure that
    /// may pass.
    ///
    /// # Errors
    /// An answer that is an error, and the last failure if all tries fail.
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
        match error {
            ureq::Error::Timeout(_) => Failure::Passing(format!("no answer within {timeout} s"), None),
            ureq::Error::Io(error) => Failure::Passing(error.to_string(), None),
            ureq::Error::ConnectionFailed => Failure::Passing("no connection".to_owned(), None),
            // A server that hangs up before its answer is whole.
            ureq::Error::Protocol(error) => Failure::Passing(error.to_string(), None),
            error => Failure::Lasting(None, error.to_string()),
        }
    }
}

/// Returns the pause that a server asks for: `retry-after-ms` as OpenAI sends it, or seconds in `retry-after`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |value: Option<&ureq::http::HeaderValue>| {
        value?.to_str().ok()?.trim().parse::<f64>().ok().filter(|number| (0.0..=1e9).contains(number))
    };
    let thousandths = number(headers.get("retry-after-ms")).map(|number| number / 1000.0);
    thousandths.or_else(|| number(headers.get(RETRY_AFTER))).map(Duration::from_secs_f64)
}

/// Waits, and returns false if a watcher ended it.
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

/// Returns a text for a message, cut where it is long.
pub fn cut(text: &str) -> String {
    const MOST: usize = 300;
    let text = pcrm_core::text::visible_line(text);
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.into_owned(),
    }
}
