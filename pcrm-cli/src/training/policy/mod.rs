//! Shared by verbs that train policies: the reference, its kept log-probabilities, and signs that it does not fit.

pub mod card;
mod loss;
mod watch;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use pcrm_core::digest;
use pcrm_core::model::lora::peft::AdapterFolder;
use pcrm_rl::reference::{Computed, LogProbCache, Reference};
use serde_json::{Value, json};

use crate::hub::{Hub, Weights};
use crate::progress::say;
use crate::training::{Fetched, Source};

pub use loss::PreferenceArgs;
pub use watch::{Watching, other_reference};

/// The reference that an option's text means, its folder fetched where the Hub has it.
///
/// # Errors
/// A folder that is not there.
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

/// The identity of a reference: the content of its folder, or its name.
///
/// # Errors
/// Files that cannot be read.
pub fn identity(reference: &Reference) -> Result<Value> {
    Ok(match reference {
        Reference::Start => json!("start"),
        Reference::Base => json!("base"),
        Reference::None => json!("none"),
        Reference::Folder(dir) => json!(digest::model(dir)?),
    })
}

/// The folder with the config of a model: of adapters, their base's.
///
/// # Errors
/// Adapters whose base is not there.
pub fn base_dir(dir: &Path) -> Result<PathBuf> {
    match AdapterFolder::is_alone(dir) {
        true => Ok(AdapterFolder::open(dir)?.base()?),
        false => Ok(dir.to_path_buf()),
    }
}

/// The folder with the tokenizer of a model: an adapter's own where it has one, else its base's.
///
/// # Errors
/// Adapters whose base is not there.
pub fn tokenizer_dir(dir: &Path) -> Result<PathBuf> {
    let has_own = ["tokenizer.json", "tokenizer.model"].iter().any(|name| dir.join(name).exists());
    if has_own { Ok(dir.to_path_buf()) } else { base_dir(dir) }
}

/// The files that a run of a policy reads, with local paths in place of names of the Hub; --model may be an adapter.
///
/// # Errors
/// The Hub's.
pub fn fetched(source: &Source<'_>) -> Result<Fetched> {
    let weights = Weights::drawn_if(source.random_init);
    Ok(Fetched {
        model: source.hub.model_or_adapter("--model", source.model, weights)?,
        data: source.hub.data("--data", source.data)?,
        eval_data: source.hub.data("--eval-data", source.eval_data)?,
    })
}

/// The user's cache of references' log-probabilities.
pub fn kept_log_probs() -> LogProbCache {
    LogProbCache::new(dirs::cache_dir().map(|folder| folder.join("pcrm").join("reference")))
}

/// Says how many log-probabilities were computed, and how many were there.
pub fn say_computed(computed: Computed) {
    say(&format!(
        "reference: log-probabilities of {} answers, {} of them computed now and {} kept from before",
        computed.answers,
        computed.computed,
        computed.answers - computed.computed
    ));
}
