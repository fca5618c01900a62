//! Repeats requests that may succeed later.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use ureq::Body;
use ureq::http::Response;

use crate::chain::in_full;
use crate::progress::say;

/// The number of times that a request is sent at most.
const TRIES: u32 = 6;
/// The pause after the first failure; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that a server may ask for.
const LONGEST: u64 = 60;

/// An answer that no repetition would change.
pub struct Answered {
    /// The answer.
    pub response: Response<Body>,
    /// Its status.
    pub status: u16,
}

/// Sends a request until it has an answer other than 408, 429 or a server's error, at most six times.
///
/// # Errors
/// Fails with the last failure.
pub fn repeated(doing: &str, send: impl Fn() -> Result<Response<Body>>) -> Result<Answered> {
    let (mut pause, mut tried) = (PAUSE, 1);
    loop {
        let (failure, asked) = match send() {
            Ok(response) => {
                let status = response.status().as_u16();
                if !matches!(status, 408 | 429 | 500..) || tried == TRIES {
                    return Ok(Answered { response, status });
                }
                let asked = response.headers().get("retry-after").and_then(|text| text.to_str().ok());
                let asked = asked.and_then(|text| text.parse::<u64>().ok());
                (format!("status {status}"), asked.map(|seconds| Duration::from_secs(seconds.min(LONGEST))))
            }
            Err(error) if tried == TRIES => {
                return Err(error).with_context(|| format!("{doing}: failed {TRIES} times"));
            }
            Err(error) => (in_full(&error), None),
        };
        say(&format!("{doing}: {failure}; trying again"));
        thread::sleep(asked.unwrap_or(pause));
        pause *= 2;
        tried += 1;
    }
}

/// Returns the words of a refusal, with a colon before them; empty if it has none.
pub fn said(response: Response<Body>) -> String {
    let header = response.headers().get("x-error-message").and_then(|text| text.to_str().ok());
    let words = match header {
        Some(text) => text.to_owned(),
        None => {
            let text = response.into_body().into_with_config().limit(1 << 16).read_to_string();
            let json = text.ok().and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
            json.and_then(|json| {
                let error = json.get("error").or(json.get("message"))?;
                error.as_str().map(str::to_owned)
            })
            .unwrap_or_default()
        }
    };
    if words.is_empty() { words } else { format!(": {}", words.chars().take(300).collect::<String>()) }
}
