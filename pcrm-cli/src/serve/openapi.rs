//! The server's OpenAPI document.

use serde_json::Value;

const DOCUMENT: &str = include_str!("openapi.json");

/// Returns the document, with the version of this build.
pub fn document() -> Value {
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document
}
