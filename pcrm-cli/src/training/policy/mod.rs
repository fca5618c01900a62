//! Shared by commands that train policies: the reference, its cached log-probabilities, and checks that it
//! fits.

pub mod card;
mod loss;
mod watch;

use std::path::PathBuf;

use anyhow::{Result, bail};
use pcrm_core::digest;
use pcrm_rl::reference::{Computed, LogProbCache, Reference};
use serde_json::{Value, json};

use crate::hub::{Hub, Weights};
use crate::progress::say;
use crate::training::{DataOptions, Fetched};

pub use loss::PreferenceArgs;
pub use watch::{Watching, other_reference};

/// Returns the reference that an option's text describes, fetching its folder from the Hub if needed.
///
/// # Errors
/// Fails if the folder does not exist.
pub fn reference(given: Option<&str>, hub: &Hub) -> Result<Reference> {
    Ok(match given {
        None | Some("start") => Reference::Start,
        Some("none") => Reference::None,
        Some("base") => Reference::Base,
        Some("") => bail!("--reference: is empty; expected start, base, none or a folder"),
        Some(folder) => {
            let folder = PathBuf::from(folder);
            Reference::Folder(hub.model_or_adapter("--reference", &folder, Weights::Read)?)
        }
    })
}

/// Returns the identity of a reference: a digest of its folder and of an adapter's base, or its name.
///
/// # Errors
/// Fails if a file cannot be read.
pub fn identity(reference: &Reference) -> Result<Value> {
    Ok(match reference {
        Reference::Start => json!("start"),
        Reference::Base => json!("base"),
        Reference::None => json!("none"),
        Reference::Folder(dir) => json!(digest::with_base(dir)?),
    })
}

/// Returns the files that a policy's run reads, with local paths in place of Hub repositories; --model may be
/// an adapter.
///
/// # Errors
/// Fails if a repository cannot be fetched.
pub fn fetched(source: &DataOptions<'_>) -> Result<Fetched> {
    let weights = Weights::drawn_if(source.random_init);
    Ok(Fetched {
        model: source.hub.model_or_adapter("--model", source.model, weights)?,
        data: source.hub.data("--data", source.data)?,
        eval_data: source.hub.data("--eval-data", source.eval_data)?,
    })
}

/// Returns the user's cache of reference log-probabilities.
pub fn kept_log_probs() -> LogProbCache {
    LogProbCache::new(dirs::cache_dir().map(|folder| folder.join("pcrm").join("reference")))
}

/// Reports how many log-probabilities were computed and how many came from the cache.
pub fn say_computed(computed: Computed) {
    say(&format!(
        "reference: log-probabilities of {} answers, {} computed and {} from the cache",
        computed.answers,
        computed.computed,
        computed.answers - computed.computed
    ));
}
