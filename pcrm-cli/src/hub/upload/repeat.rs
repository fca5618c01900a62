//! Repeats requests that may succeed later.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use ureq::Body;
use ureq::http::Response;

use crate::chain::in_full;
use crate::progress::say;

/// The largest number of attempts.
const TRIES: u32 = 6;
/// The pause after the first failure; it doubles with each failure.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that a server may request.
const LONGEST: u64 = 60;

/// An answer that a repetition would not change.
pub struct Answered {
    /// The answer.
    pub response: Response<Body>,
    /// The HTTP status.
    pub status: u16,
}

/// Sends a request until the answer is not 408, 429 or a server error, at most six times.
///
/// # Errors
/// Fails with the error of the last attempt.
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

/// Returns the message of a refusal after a colon, or an empty string if it has none.
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
