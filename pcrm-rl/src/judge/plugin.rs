//! Judges as plugins: `{"kind": "reward", "reward": "model:runs/rm"}` selects one by its `kind` and
//! configures it with the rest.

use pcrm_core::registry::Plugin;
use pcrm_core::tagged::{Build, Tagged};
use serde_json::Value;

use super::{Budget, Judge};
use crate::error::{Error, Result};
use crate::reward_source::{Spec, Weighted};

/// A callback that opens reward sources for judges that compare rewards.
pub type OpenRewards<'a> = dyn FnMut(&[Spec]) -> Result<Weighted> + 'a;

/// The environment for opening a judge, besides its tagged data. The key is here because tagged data are
/// written to files.
pub struct Opening<'a> {
    /// Key of a paid service.
    pub api_key: Option<String>,
    /// Spending limits.
    pub budget: Budget,
    /// Opens reward sources, including saved reward models.
    pub rewards: &'a mut OpenRewards<'a>,
}

/// The checked configuration of a judge.
pub trait OpenJudge {
    /// Opens the judge.
    ///
    /// # Errors
    /// Fails if a model, file or program that the judge needs is missing.
    fn open(&self, with: &mut Opening<'_>) -> Result<Box<dyn Judge>>;
}

/// A registered judge. `build` checks a configuration and opens nothing.
pub struct JudgePlugin {
    /// The `kind` that selects it.
    pub name: &'static str,
    /// Description in one line, for listings.
    pub about: &'static str,
    /// Builds the configuration from the tagged object without its `kind`.
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

/// Parses a judge as users write it into tagged data: JSON, a kind (`gold`), or a kind with its main
/// parameter after a colon: `reward:SOURCE`, `replay:FILE`, `command:CMD`, `openai:MODEL`.
///
/// # Errors
/// Fails if the text is invalid JSON, or if the kind takes no parameter after a colon.
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
