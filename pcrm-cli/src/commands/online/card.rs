//! The model card's facts about on-policy training.

use pcrm_rl::online::{Algorithm, OnlineConfig};
use pcrm_rl::options::TrainerConfig;
use serde_json::Value;

use super::OnlineArgs;
use crate::card::TrainingMethod;
use crate::report::{Fact, count};
use crate::training::policy::card;

pub(super) fn method(algorithm: &Algorithm) -> TrainingMethod {
    match algorithm {
        Algorithm::Rloo(_) => TrainingMethod::Rloo,
        Algorithm::Grpo(_) => TrainingMethod::Grpo,
        Algorithm::Ppo(_) => TrainingMethod::Ppo,
        Algorithm::OnlineDpo(_) => TrainingMethod::OnlineDpo,
    }
}

/// Returns the facts of a run with the options as given; `last` is the final line of its metrics.
pub(super) fn facts(
    given: &OnlineArgs,
    online: &OnlineConfig,
    trainer: &TrainerConfig,
    last: Option<&Value>,
) -> Vec<Fact> {
    let mut facts: Vec<Fact> =
        given.reward.iter().map(|source| Fact::new("Reward", source.clone())).collect();
    facts.push(Fact::new("Reference", given.reference.clone().unwrap_or_else(|| "start".to_owned())));
    facts.push(Fact::new("Answers per prompt", count(online.num_generations as u64)));
    if !online.rollouts.source.is_own() {
        // Without its address or path.
        let name = given.sampler.rollouts.to_string();
        let kind = name.split(':').next().unwrap_or_default();
        facts.push(Fact::new("Answers sampled by", kind.to_owned()));
    }
    facts.push(Fact::new("Passes over a rollout", count(online.num_iterations as u64)));
    facts.extend(card::settings(trainer, last, "prompts"));
    facts.push(Fact::new("dtype", given.lora.types(given.machine.dtype, &given.model)));
    facts
}
