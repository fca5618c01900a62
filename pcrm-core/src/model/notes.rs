//! Warnings about a model, each logged once, because a run loads its model several times.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Logs a warning that this process has not logged before.
pub(super) fn say(message: &str) {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(message.to_owned()) {
        tracing::warn!("{message}");
    }
}

/// Logs the unknown keys of a config of this family.
pub(super) fn unknown_keys(keys: &[String], family: &str) {
    for key in keys {
        say(&format!("config.json: {key} is not a known key of {family}; it is ignored"));
    }
}
