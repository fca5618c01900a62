//! The conventions of published reward models: what their heads are called, and which of them are something else.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::parameters::SCORE;
use crate::model::types::shown;

/// Names that heads have in classes that call themselves reward models: those of OpenRLHF and of InternLM2.
const HEADS: [&str; 3] = ["value_head.weight", "v_head.weight", "reward_head.weight"];

/// Returns the names that the head of scores may have, the likeliest first.
///
/// `score.weight` is transformers' own (Skywork and most others). Another name counts where `config.json` says that the
/// checkpoint is a reward model: by a class whose name ends with `RewardModel`, or by `value_head_prefix` of OpenRLHF.
pub(super) fn score_names(config: &ModelConfig) -> Vec<String> {
    let mut names = vec![SCORE.to_owned(), config.family.score_head.to_owned()];
    if let Some(prefix) = config.raw.get("value_head_prefix").and_then(Value::as_str) {
        names.push(format!("{prefix}.weight"));
    }
    if classes(config).any(|class| class.ends_with("RewardModel")) {
        names.extend(HEADS.map(str::to_owned));
    }
    names
}

/// Refuses reward models whose score is not one product with a hidden state.
///
/// # Errors
/// As said, with the class that `config.json` names.
pub(super) fn check(config: &ModelConfig, dir: &Path) -> Result<()> {
    match classes(config).find(|class| class.contains("Gating")) {
        Some(class) => {
            let message = format!(
                "architectures names {class}, which mixes several rewards by a gating network (ArmoRM); a reward \
                 model here is one head, {SCORE}"
            );
            Err(Error::file(dir.join("config.json"), message))
        }
        None => Ok(()),
    }
}

/// Returns the token that ends every sequence of a reward model that says so (`reward_token_id` of InternLM2), and at which
/// it is scored. The model's own code appends it where it is not there.
///
/// # Errors
/// An id outside the vocabulary.
pub(super) fn closing_token(config: &ModelConfig, path: &Path) -> Result<Option<u32>> {
    let Some(id) = config.raw.get("reward_token_id").filter(|id| !id.is_null()) else { return Ok(None) };
    match id.as_u64().filter(|id| *id < config.vocabulary as u64) {
        Some(id) => Ok(Some(id as u32)),
        None => {
            let message = format!(
                "reward_token_id is {}; expected an id below {}, the size of the vocabulary",
                shown(id),
                config.vocabulary
            );
            Err(Error::file(path, message))
        }
    }
}

fn classes(config: &ModelConfig) -> impl Iterator<Item = &str> {
    config.raw.get("architectures").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}
