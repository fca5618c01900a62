//! The true reward of the generated worlds.

use pcrm_core::data::conversation::Content;
use pcrm_core::data::prompts::Prompt;
use pcrm_eval::worlds::WorldPrompt;
use serde::Deserialize;

use super::{Answer, Rule, plugin};

/// The true reward of an answer to a prompt of a generated world ([`WorldPrompt::true_reward`]), in log-odds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct World {}

plugin!(
    World,
    "the true reward of answers in generated worlds (pcrm quickstart, pcrm data world), in log-odds"
);

impl Rule for World {
    const NAME: &'static str = "world";

    fn accept(&self, prompt: &Prompt) -> Result<(), String> {
        asked(prompt).map(drop)
    }

    fn reward(&self, answer: &Answer<'_>) -> Result<Option<f64>, String> {
        Ok(Some(asked(answer.prompt)?.true_reward(answer.completion())))
    }
}

fn asked(prompt: &Prompt) -> Result<WorldPrompt, String> {
    let text = match &prompt.prompt {
        Content::Text(text) => text,
        Content::Messages(turns) => turns.last().map_or("", |turn| &turn.content),
    };
    WorldPrompt::of_prompt(text).ok_or_else(|| format!("{text:?} is not a prompt of a generated world"))
}
