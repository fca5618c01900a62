//! Conventions of published reward models: the names of their heads, and unsupported kinds.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::parameters::SCORE;
use crate::model::types::shown;

/// Names of heads in classes of reward models, from OpenRLHF and InternLM2.
const HEADS: [&str; 3] = ["value_head.weight", "v_head.weight", "reward_head.weight"];

/// Returns the possible names of the score head, the likeliest first.
///
/// `score.weight` is transformers' own (Skywork and most others). Other names count if `config.json` marks
/// the checkpoint as a reward model: by a class whose name ends with `RewardModel`, or by `value_head_prefix`
/// of OpenRLHF.
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

/// Checks that the score is a single product with a hidden state.
///
/// # Errors
/// Fails if it is not, with the class in `config.json`.
pub(super) fn check(config: &ModelConfig, dir: &Path) -> Result<()> {
    match classes(config).find(|class| class.contains("Gating")) {
        Some(class) => {
            let message = format!(
                "architectures names {class}, which mixes several rewards by a gating network (ArmoRM); \
                 expected a single head, {SCORE}"
            );
            Err(Error::file(dir.join("config.json"), message))
        }
        None => Ok(()),
    }
}

/// Returns the closing token (`reward_token_id` of InternLM2), at which such a reward model scores every
/// sequence. The model's own code appends it if it is missing.
///
/// # Errors
/// Fails if the id is outside the vocabulary.
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
