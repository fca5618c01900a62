//! HTTP responses of the server: scores, refusals, JSON and text.

use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::Value;

use super::app::{Answered, App};
use super::protocol::ClientFamily;
use super::refusal::{Refusal, RefusalKind};

/// Writes scores with TEI's headers.
pub fn scored(app: &App, answered: &Answered, begun: Instant) -> Response {
    let mut response = as_json(200, &answered.body);
    let milliseconds = |time: std::time::Duration| time.as_millis().to_string();
    let device =
        app.about.iter().find(|(name, _)| *name == "device").map_or("cpu", |(_, device)| device.as_str());
    let parts = &answered.parts;
    let headers = [
        ("x-compute-type", device.to_owned()),
        ("x-compute-time", milliseconds(parts.tokenization + parts.inference)),
        ("x-compute-characters", answered.characters.to_string()),
        ("x-compute-tokens", answered.tokens.to_string()),
        ("x-total-time", milliseconds(begun.elapsed())),
        ("x-tokenization-time", milliseconds(parts.tokenization)),
        ("x-queue-time", milliseconds(parts.queueing)),
        ("x-inference-time", milliseconds(parts.inference)),
    ];
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// Writes a refusal in the format of a family.
pub fn refused(app: &App, family: ClientFamily, refusal: &Refusal) -> Response {
    app.metrics.refused(refusal.kind.name());
    let (status, body) = family.refuse(refusal);
    let mut response = as_json(status, &body);
    match refusal.kind {
        RefusalKind::Overloaded | RefusalKind::Stopping => {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // The body, or the rest of it, is not read, so the connection may end: a client must not use it again.
        RefusalKind::Slow
        | RefusalKind::TooLarge
        | RefusalKind::MediaType
        | RefusalKind::NotFound
        | RefusalKind::Method
        | RefusalKind::Unauthorised => {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}

/// Counts a request; a stopping server closes each connection after its response.
pub fn finished(app: &App, path: &str, begun: Instant, mut response: Response) -> Response {
    app.metrics.request(path, response.status().as_u16(), begun.elapsed());
    if app.stopping.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Writes a body of JSON.
pub fn as_json(status: u16, body: &Value) -> Response {
    text(status, "application/json", body.to_string())
}

/// Writes a body of text of this media type.
pub fn text(status: u16, kind: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
