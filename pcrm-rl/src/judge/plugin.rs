//! Judges as plugins: `{"kind": "reward", "reward": "model:runs/rm"}` finds one by its `kind` and gives it the rest.

use pcrm_core::registry::Plugin;
use pcrm_core::tagged::{Build, Tagged};
use serde_json::Value;

use super::{Budget, Judge};
use crate::error::{Error, Result};
use crate::reward_source::{Spec, Weighted};

/// Opens reward sources for the judges that compare by them.
pub type OpenRewards<'a> = dyn FnMut(&[Spec]) -> Result<Weighted> + 'a;

/// Everything a judge needs besides its tagged data, which are written to files: the key is not among them.
pub struct Opening<'a> {
    /// The key of a paid service.
    pub api_key: Option<String>,
    /// The limits of what may be spent.
    pub budget: Budget,
    /// Opens reward sources, saved reward models among them.
    pub rewards: &'a mut OpenRewards<'a>,
}

/// The checked configuration of a judge.
pub trait OpenJudge {
    /// Opens the judge.
    ///
    /// # Errors
    /// A model, file or program that it needs and does not find.
    fn open(&self, with: &mut Opening<'_>) -> Result<Box<dyn Judge>>;
}

/// A judge made available. `build` checks a configuration and opens nothing.
pub struct JudgePlugin {
    /// The `kind` that selects it.
    pub name: &'static str,
    /// One line for listings.
    pub about: &'static str,
    /// Builds its configuration from the tagged object without its `kind`.
    pub build: Build<dyn OpenJudge>,
}

pcrm_core::inventory::collect!(JudgePlugin);

impl Plugin for JudgePlugin {
    const WHAT: &'static str = "judge";
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
}

impl Tagged for JudgePlugin {
    type Made = dyn OpenJudge;
    fn build(&self) -> Build<Self::Made> {
        self.build
    }
}

/// Returns the tagged data of a judge as users write it: JSON, a kind (`gold`), or a kind with what it needs most behind
/// a colon: `reward:SOURCE`, `replay:FILE`, `command:CMD`, `openai:MODEL`.
///
/// # Errors
/// JSON that is none, and a kind that takes nothing behind a colon.
pub fn parse(text: &str) -> Result<Value> {
    let text = text.trim();
    let invalid = |message: String| Error::Invalid { field: "judge", message };
    if text.starts_with('{') {
        return serde_json::from_str(text)
            .map_err(|error| invalid(format!("{text} is not valid JSON: {error}")));
    }
    let Some((kind, rest)) = text.split_once(':') else {
        return Ok(serde_json::json!({ "kind": text }));
    };
    let key = match kind {
        "openai" => "model",
        "reward" => "reward",
        "replay" => "file",
        "command" => "command",
        _ => {
            let message = format!(
                "{text:?}: expected gold, reward:SOURCE, replay:FILE, command:CMD, openai:MODEL, or JSON"
            );
            return Err(invalid(message));
        }
    };
    Ok(serde_json::json!({ "kind": kind, key: rest }))
}
